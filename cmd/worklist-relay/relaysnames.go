package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// gatewayOf is the hybrid connection that a relay leads to. Its text is how
// operators, SQL and logs name a gateway.
func gatewayOf(r store.Relay) relay.HybridConnection {
	return relay.HybridConnection{Namespace: r.Namespace, Path: r.HybridConnection}
}

// byGateway puts the relays together that lead to one gateway, by its name.
func byGateway(relays []store.Relay) map[string][]store.Relay {
	at := make(map[string][]store.Relay)
	for _, r := range relays {
		name := gatewayOf(r).String()
		at[name] = append(at[name], r)
	}
	return at
}

// gatewaysNamed picks the gateways that a person means with "namespace/path", the
// path, or its last segments, as `actions list --gateway` does. What fits best
// wins: a whole name over a path, and that over its end.
func gatewaysNamed(name string, known []string) ([]string, error) {
	slices.Sort(known)
	name = strings.ToLower(strings.Trim(name, "/"))
	var whole, path, end []string
	for _, k := range known {
		_, itsPath, _ := strings.Cut(k, "/")
		switch {
		case k == name:
			whole = append(whole, k)
		case itsPath == name:
			path = append(path, k)
		case name != "" && strings.HasSuffix(k, "/"+name):
			end = append(end, k)
		}
	}
	for _, fitting := range [][]string{whole, path, end} {
		if len(fitting) > 0 {
			return fitting, nil
		}
	}
	if len(known) == 0 {
		return nil, fmt.Errorf("no gateway %q: there are no relays yet, `relays add` adds one", name)
	}
	return nil, fmt.Errorf("no gateway %q; known are:\n  %s", name, strings.Join(known, "\n  "))
}

// names are the keys of what byGateway put together, in order.
func names(at map[string][]store.Relay) []string { return slices.Sorted(maps.Keys(at)) }
