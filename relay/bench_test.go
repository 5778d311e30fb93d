package relay_test

import (
	"testing"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// BenchmarkExchange compares an open connection with a dial for each action, both against a gateway in this process, over TLS.
func BenchmarkExchange(b *testing.B) {
	for name, idle := range map[string]bool{"cached": true, "dialled": false} {
		b.Run(name, func(b *testing.B) {
			server := newServer(b, relaytest.Config{TLS: true})
			gateway, err := relaytest.NewGateway(relaytest.GatewayConfig{
				Name: path, Relay: server, Key: key, Mode: relaytest.ModePersistent, DiscardFrames: true,
			})
			if err != nil {
				b.Fatal(err)
			}
			defer gateway.Close()
			client := &relay.Client{RootCAs: server.CertPool(), AllowHosts: []string{"127.0.0.1"}, WatchTime: -1}
			if !idle {
				client.IdleTimeout = -1
			}
			s := &site{client: newClient(b, client), hc: at(server), tokens: relay.SharedAccessKey(key.Name, key.Key)}
			action := create(1) // "exists" from the second one on, which costs the same
			b.ReportAllocs()
			for b.Loop() {
				s.must(b, action)
			}
		})
	}
}
