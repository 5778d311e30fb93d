package main

import (
	"fmt"
	"io"
	"math"
	"strings"
	"time"
	"unicode/utf8"
)

const gatewayWidth = 24 // of a gateway's path in a table

// printPings has a table for each namespace, and under each failure what it
// means.
func printPings(w io.Writer, pings []ping) error {
	namespace := ""
	for _, p := range pings {
		at := gatewayOf(p.relay)
		name, path, _ := strings.Cut(at.String(), "/")
		if name != namespace {
			if namespace != "" {
				fmt.Fprintln(w)
			}
			namespace = name
			fmt.Fprintf(w, "%s\n%s\n", namespace, pingRow("GATEWAY", "RESULT", "DNS", "CONNECT", "TLS", "HANDSHAKE", "ACK"))
		}
		t, result := p.timings, "ok"
		if p.err != nil {
			result = orDash((*string)(&p.phase))
		}
		fmt.Fprintln(w, pingRow(lastOf(path, gatewayWidth), result, took(t.DNS), took(t.Connect), took(t.TLS), took(t.Handshake), took(t.Ack)))
		if p.err != nil {
			a := adviceOn(p.phase, p.err)
			fmt.Fprintln(w, hanging("  ", p.err.Error()+"."))
			fmt.Fprintln(w, hanging("    ", a.Meaning+" "+a.Todo))
		}
	}
	return nil
}

func pingRow(name, result, dns, connect, tls, handshake, ack string) string {
	return strings.TrimRight(fmt.Sprintf("%-*s  %-11s  %-5s  %-7s  %-5s  %-9s  %s", gatewayWidth, name, result, dns, connect, tls, handshake, ack), " ")
}

// lastOf is s, or the end of it that fits into width: the end of a path says
// most.
func lastOf(s string, width int) string {
	n := utf8.RuneCountInString(s)
	if n <= width {
		return s
	}
	return "…" + string([]rune(s)[n-width+1:])
}

// pingDocument is one element of what --json prints.
type pingDocument struct {
	Relay       string   `json:"relay"`
	KeyName     *string  `json:"key_name"`
	KeyVariable *string  `json:"key_variable"`
	OK          bool     `json:"ok"`
	Phase       string   `json:"phase"`
	Error       string   `json:"error"`
	Meaning     string   `json:"meaning"`
	Todo        string   `json:"todo"`
	DNS         *float64 `json:"dns_ms"`
	Connect     *float64 `json:"connect_ms"`
	TLS         *float64 `json:"tls_ms"`
	Handshake   *float64 `json:"handshake_ms"`
	Ack         *float64 `json:"ack_ms"`
}

func printPingsJSON(w io.Writer, pings []ping) error {
	list := make([]pingDocument, len(pings))
	for i, p := range pings {
		t := p.timings
		list[i] = pingDocument{
			Relay: gatewayOf(p.relay).String(), KeyName: p.relay.KeyName, KeyVariable: p.relay.KeyVariable, OK: p.err == nil, Phase: string(p.phase),
			DNS: inMS(t.DNS), Connect: inMS(t.Connect), TLS: inMS(t.TLS), Handshake: inMS(t.Handshake), Ack: inMS(t.Ack),
		}
		if p.err != nil {
			a := adviceOn(p.phase, p.err)
			list[i].Error, list[i].Meaning, list[i].Todo = p.err.Error(), a.Meaning, a.Todo
		}
	}
	return printJSON(w, list)
}

// inMS is milliseconds to the microsecond; nil for a step that was not taken.
func inMS(d time.Duration) *float64 {
	if d == 0 {
		return nil
	}
	ms := math.Round(float64(d)/1000) / 1000
	return &ms
}
