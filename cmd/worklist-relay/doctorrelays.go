package main

import (
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// lookAtRelays checks each relay row, and the way to each namespace once. A
// gateway itself is called with --echo only.
func (d *doctor) lookAtRelays(ctx context.Context) []finding {
	if d.store == nil {
		return []finding{{Check: "relays", State: skipped, Found: "the database, which knows them, cannot be asked"}}
	}
	limited, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	l, err := lookAtRelays(limited, d.store, "")
	if err != nil {
		return []finding{d.bad(ctx, "relays", "", oneLine(err), "Look at the database.")}
	}
	if len(l.relays) == 0 {
		return []finding{{Check: "relays", State: warning, Found: "there are none: every action would be dead-lettered as NoRelay", Mend: "Add them with `worklist-relay relays add`, or `relays import`."}}
	}
	var rows []store.Relay
	at := byGateway(l.relays)
	for _, name := range names(at) {
		rows = append(rows, distinct(at[name])...)
	}
	findings, allowed, usable := d.judgeRows(ctx, rows)
	ways, reached := d.lookAtNamespaces(ctx, allowed)
	findings = append(findings, ways...)
	findings = append(findings, l.away()...)
	return append(findings, d.echoes(ctx, slices.DeleteFunc(usable, func(r store.Relay) bool { return !reached[strings.ToLower(r.Namespace)] }))...)
}

// judgeRows finds the rows that no action can go by. It returns those whose host
// may be dialled, and of these the ones with a credential.
func (d *doctor) judgeRows(ctx context.Context, rows []store.Relay) (findings []finding, allowed, usable []store.Relay) {
	gateways := d.config.gateways()
	entra, err := d.config.entra()
	if err != nil {
		entra = nil // said with the tokens
	}
	for _, r := range rows {
		err := gateways.Allowed(r.Namespace)
		if err == nil {
			allowed = append(allowed, r)
			_, err = consumer.Tokens(r, os.Getenv, entra)
		}
		if err != nil {
			a := adviceOn(relay.PhaseAuth, err)
			findings = append(findings, d.bad(ctx, "relay", gatewayOf(r).String(), oneLine(err), a.Meaning+" "+a.Todo))
			continue
		}
		usable = append(usable, r)
	}
	if len(usable) > 0 {
		findings = append(findings, finding{Check: "relays", State: fine, Found: several(len(usable), "relay") + " may be dialled and have a credential"})
	}
	return findings, allowed, usable
}

// lookAtNamespaces goes to the host of each relay namespace, once.
func (d *doctor) lookAtNamespaces(ctx context.Context, rows []store.Relay) (findings []finding, reached map[string]bool) {
	var namespaces []string
	for _, r := range rows {
		namespaces = append(namespaces, strings.ToLower(r.Namespace))
	}
	slices.Sort(namespaces)
	namespaces = slices.Compact(namespaces)
	var probes []probe
	for _, namespace := range namespaces {
		h := host{address: withPort(namespace, "443"), trust: "To trust an authority of your own, name its certificate's file in RELAY_CA_FILE.",
			roots: func() (*x509.CertPool, error) { return d.config.roots, nil }}
		if d.config.gateways().Plain(namespace) {
			h.address, h.noTLS = withPort(namespace, "80"), "RELAY_PLAIN_HOSTS names it"
		}
		probes = append(probes, d.hostProbe(h))
	}
	reached = map[string]bool{}
	for i, list := range d.together(ctx, 0, probes...) {
		findings = append(findings, list...)
		reached[namespaces[i]] = !anyFailed(list)
	}
	return findings, reached
}

// away notes the gateways that get no actions at the moment.
func (l relayList) away() (findings []finding) {
	at := byGateway(l.relays)
	for _, name := range names(at) {
		h := l.health[name]
		if h.HeldAt != nil {
			findings = append(findings, finding{Check: "gateway", Target: name, State: note,
				Found: fmt.Sprintf("held back since %s by %s: %s", inUTC(h.HeldAt), orEmpty(h.HeldBy), orEmpty(h.HeldWhy)),
				Mend:  "`worklist-relay relays release` lets its actions flow again."})
		}
		if h.OpenedAt != nil {
			findings = append(findings, finding{Check: "gateway", Target: name, State: note,
				Found: fmt.Sprintf("its breaker is open since %s, last phase %s; its actions wait, and run asks now and then", inUTC(h.OpenedAt), orDash(h.LastPhase)),
				Mend:  phases[relay.Phase(orEmpty(h.LastPhase))].Todo})
		}
	}
	return findings
}

// echoes calls the gateways as `relays ping` does, some at a time.
func (d *doctor) echoes(ctx context.Context, rows []store.Relay) []finding {
	if !d.echo {
		return []finding{{Check: "echo", State: skipped, Found: "no gateway was called: --echo does, and each answers one call at a time"}}
	}
	gateways := d.config.gateways()
	defer gateways.Close()
	entra, err := d.config.entra()
	if err != nil {
		return []finding{d.bad(ctx, "echo", "", oneLine(err), d.mendToken())}
	}
	c := d.config
	limit := d.timeout + c.ConnectTimeout + c.TLSTimeout + c.HandshakeTimeout + c.AckTimeout
	var probes []probe
	for _, r := range rows {
		name := gatewayOf(r).String()
		probes = append(probes, probe{check: "echo", target: name, limit: limit, look: func(ctx context.Context) []finding {
			return []finding{d.echoed(ctx, name, pingOne(ctx, gateways, r, entra))}
		}})
	}
	var findings []finding
	for _, list := range d.together(ctx, pingsAtOnce, probes...) {
		findings = append(findings, list...)
	}
	return findings
}

func (d *doctor) echoed(ctx context.Context, name string, p ping) finding {
	if p.err != nil {
		a := adviceOn(p.phase, p.err)
		return d.bad(ctx, "echo", name, orDash((*string)(&p.phase))+": "+oneLine(p.err), a.Meaning+" "+a.Todo)
	}
	t := p.timings
	return finding{Check: "echo", Target: name, State: fine, Found: "answered in " + briefTime(t.DNS+t.Connect+t.TLS+t.Handshake+t.Ack)}
}

// waitOf is how long `run` may take to end after SIGTERM.
func (c config) waitOf() time.Duration { return c.ShutdownGrace + usual.lastMoments }
