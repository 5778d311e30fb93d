package relaytest_test

import (
	"context"
	"crypto/tls"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// TestBare sends over one connection, and over one for each frame, with and
// without TLS; the gateway tells of each reply.
func TestBare(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		for _, mode := range []relaytest.Mode{relaytest.ModePersistent, relaytest.ModeOneShot} {
			t.Run(map[bool]string{false: "plain", true: "tls"}[secure]+"/"+string(mode), func(t *testing.T) {
				key := relaytest.Key{Name: "send", Key: "synthetic", Send: true, Listen: true}
				s := newServer(t, relaytest.Config{TLS: secure, HybridConnections: []relaytest.HybridConnection{{Path: "hc-leeds", Keys: []relaytest.Key{key}}}})
				var told replies
				g := newGateway(t, relaytest.GatewayConfig{Relay: s, Key: key, Mode: mode, Replied: told.add})
				sessions := tls.NewLRUClientSessionCache(0)
				var bare *relaytest.Bare
				for _, id := range []string{"id-1", "id-2", "id-3"} {
					if bare == nil || mode == relaytest.ModeOneShot {
						var err error
						if bare, err = relaytest.DialBare(t.Context(), s, "hc-leeds", key, sessions); err != nil {
							t.Fatal(err)
						}
					}
					reply, err := bare.Exchange([]byte(create(id, "ACC"+id)))
					if err != nil || !strings.Contains(string(reply), `"created"`) {
						t.Fatalf("%q, %v", reply, err)
					}
					if mode == relaytest.ModeOneShot {
						if err := bare.Close(); err != nil {
							t.Error(err)
						}
					}
				}
				if mode == relaytest.ModePersistent {
					bare.Close()
				}
				suite.Until(t, "three are told of", func() bool { return len(told.list()) >= 3 })
				if diff := cmp.Diff([]string{"id-1", "id-2", "id-3"}, told.list()); diff != "" {
					t.Error("told of (-want +got)", diff)
				}
				want := map[relaytest.Mode]int{relaytest.ModePersistent: 1, relaytest.ModeOneShot: 3}[mode]
				if got := g.Snapshot().Dials; got != want {
					t.Errorf("%d dials, want %d", got, want)
				}
			})
		}
	}
}

func TestBareRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	_, err := relaytest.DialBare(context.Background(), s, "hc-leeds", relaytest.Key{}, nil)
	if err == nil || !strings.Contains(err.Error(), "dial hc-leeds: 404") {
		t.Error(err)
	}
}

// TestRepliedOnlyWhenGiven: a frame that is hung up on, and a refusal, are no
// reply to an action.
func TestRepliedOnlyWhenGiven(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	var told replies
	g := newGateway(t, relaytest.GatewayConfig{Relay: s, Replied: told.add})
	g.Script(relaytest.Reply{Close: 1000}, relaytest.Reply{Text: `{"status":"error"}`}, relaytest.Reply{Honest: true})
	for _, id := range []string{"id-1", "id-2", "id-3"} {
		ask(t, s, create(id, "ACC"+id))
	}
	if diff := cmp.Diff([]string{"", "id-3"}, told.list()); diff != "" {
		t.Error("told of (-want +got)", diff)
	}
}

// replies collects what a gateway tells.
type replies struct {
	mu  sync.Mutex // guards ids
	ids []string
}

func (r *replies) add(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ids = append(r.ids, id)
}

func (r *replies) list() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ids
}
