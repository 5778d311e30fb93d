package main

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// gateway is one entry of a gateway list: what listens on one hybrid connection.
type gateway struct {
	// Name is the gateway's, its hybrid connection's and its provider's.
	Name string

	// Mode is how it behaves; external: none of ours listens, and any real
	// listener may.
	Mode relaytest.Mode

	// RTT is the pause between a frame and its reply.
	RTT time.Duration
}

const external relaytest.Mode = "external"

const (
	mostGateways  = 1000
	longestRTT    = time.Minute
	gatewayModes  = "one-shot, persistent, offline, silent, reject, hangup, external"
	sampleGateway = "gw-%03d" // of a count
)

// gatewayName is what Azure takes for a hybrid connection of one segment, and
// short enough for a provider id.
var gatewayName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,48}[A-Za-z0-9])?$`)

// parseGateways reads a list of NAME=MODE or COUNT=MODE, each with an optional
// :rtt=DURATION, separated by commas:
//
//	leeds=one-shot,hull=persistent:rtt=20ms,york=offline
//	50=persistent:rtt=20ms
//
// A count makes gw-001, gw-002 and so on; a second one goes on where the first
// ended.
func parseGateways(list string) ([]gateway, error) {
	if strings.TrimSpace(list) == "" {
		return nil, errors.New("no gateways; write for example leeds=one-shot or 50=persistent")
	}
	var gateways []gateway
	counted := 0
	for entry := range strings.SplitSeq(list, ",") {
		some, err := parseEntry(strings.TrimSpace(entry), &counted)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", entry, err)
		}
		gateways = append(gateways, some...)
	}
	if len(gateways) > mostGateways {
		return nil, fmt.Errorf("%d gateways are more than %d", len(gateways), mostGateways)
	}
	return gateways, distinct(gateways)
}

func parseEntry(entry string, counted *int) ([]gateway, error) {
	name, behaviour, found := strings.Cut(entry, "=")
	if !found {
		return nil, fmt.Errorf("no mode; write %s=MODE, a mode being one of %s", entry, gatewayModes)
	}
	mode, rtt, err := parseBehaviour(behaviour)
	if err != nil {
		return nil, err
	}
	names, err := gatewayNames(name, counted)
	if err != nil {
		return nil, err
	}
	gateways := make([]gateway, len(names))
	for i := range names {
		gateways[i] = gateway{Name: names[i], Mode: mode, RTT: rtt}
	}
	return gateways, nil
}

// parseBehaviour reads MODE or MODE:rtt=DURATION.
func parseBehaviour(text string) (relaytest.Mode, time.Duration, error) {
	name, option, hasOption := strings.Cut(text, ":")
	mode, err := parseMode(name)
	if err != nil || !hasOption {
		return mode, 0, err
	}
	value, found := strings.CutPrefix(option, "rtt=")
	if !found {
		return "", 0, fmt.Errorf("unknown option %q; the one there is: rtt=DURATION", option)
	}
	rtt, err := time.ParseDuration(value)
	if err != nil || rtt < 0 || rtt > longestRTT {
		return "", 0, fmt.Errorf("rtt %q is not a duration from 0s to %v", value, longestRTT)
	}
	if mode == external && rtt != 0 {
		return "", 0, errors.New("an external listener has no rtt of ours")
	}
	return mode, rtt, nil
}

func parseMode(name string) (relaytest.Mode, error) {
	if name == string(external) {
		return external, nil
	}
	mode, err := relaytest.ParseMode(name)
	if err != nil || name == "" {
		return "", fmt.Errorf("unknown mode %q; the modes are %s", name, gatewayModes)
	}
	return mode, nil
}

// gatewayNames is the one name that text is, or the names that a count makes
// after those that were counted before.
func gatewayNames(text string, counted *int) ([]string, error) {
	if text != "" && strings.Trim(text, "0123456789") == "" {
		count, err := strconv.Atoi(text)
		if err != nil || count < 1 || count > mostGateways {
			return nil, fmt.Errorf("a count is a number from 1 to %d", mostGateways)
		}
		names := make([]string, count)
		for i := range names {
			names[i] = fmt.Sprintf(sampleGateway, *counted+i+1)
		}
		*counted += count
		return names, nil
	}
	if !gatewayName.MatchString(text) {
		return nil, fmt.Errorf("%q is no name of letters, digits, '.', '-' and '_' (at most 50, a letter or digit at both ends)", text)
	}
	return []string{text}, nil
}

// distinct refuses two gateways of one name; the relay tells no case apart.
func distinct(gateways []gateway) error {
	seen := map[string]bool{}
	for _, g := range gateways {
		name := strings.ToLower(g.Name)
		if seen[name] {
			return fmt.Errorf("%s is named twice", name)
		}
		seen[name] = true
	}
	return nil
}
