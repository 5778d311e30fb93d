package main_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/store"
)

// TestEntra runs the program as it runs in production: with no key and no
// password, but the endpoint of a managed identity, whose tokens Service Bus,
// the relay and PostgreSQL each judge. What the program says, and SQL, may hold
// neither a token nor what it asked with.
func TestEntra(t *testing.T) {
	t.Parallel()
	t.Run("the identity and the role are not ready at first", func(t *testing.T) {
		t.Parallel()
		s := newEntraScene(t, true, 24*time.Hour)
		s.env["PROBE_DELAYS"] = "1s"
		p := s.start()
		s.until("the database's token was refused twice", func() bool { return s.identities.refusals(forDatabase) > 1 })
		s.says(p, "database not available, trying again", forDatabase+": answered 400: AZURE_CLIENT_ID")
		id := s.enqueue("leeds")
		s.identities.grant(forDatabase, true)
		s.until("the role is not let in", func() bool { return p.log.has("password authentication failed") })
		s.granted.Store(true)
		s.until("Service Bus's token was refused twice", func() bool { return s.identities.refusals(forServiceBus) > 1 })
		s.says(p, "queue not available, trying again", forServiceBus+": answered 400: AZURE_CLIENT_ID")
		s.identities.grant(forServiceBus, true)
		s.until("the relay's token was refused", func() bool { return s.identities.refusals(forRelay) > 0 })
		s.frames(0)
		s.identities.grant(forRelay, true)
		s.confirmed(id, false)
		for _, resource := range []string{forDatabase, forServiceBus, forRelay} {
			// Those who ask at the same moment may each get one.
			if n := len(s.identities.used(resource)); n == 0 || n > 3 {
				t.Errorf("%d tokens were used for %s, want one for all", n, resource)
			}
		}
	})
	t.Run("tokens are renewed before they expire", func(t *testing.T) {
		t.Parallel()
		// A token is kept until five minutes before its end: here, for some seconds.
		s := newEntraScene(t, false, 5*time.Minute+3*time.Second, forDatabase, forServiceBus, forRelay)
		s.env["IDLE_TIMEOUT"] = "1s"
		s.granted.Store(true)
		s.start()
		s.confirmed(s.enqueue("leeds"), false)
		fewest := func() int {
			return min(len(s.identities.used(forDatabase)), len(s.identities.used(forServiceBus)), len(s.identities.used(forRelay)))
		}
		for n := 0; fewest() < 3; n++ {
			if n > 30 {
				t.Fatal("no new tokens are asked for")
			}
			// What is connected stays so; it is each new connection that shows a token.
			s.gate.cut()
			s.broker.DropConnections()
			id := s.enqueue("leeds")
			s.until("it is confirmed", func() bool { return s.row(id).Status == store.Confirmed })
			s.until("the gateway is left", func() bool { return s.relay.Stats("leeds").Open == 0 })
		}
		for _, resource := range []string{forDatabase, forServiceBus, forRelay} {
			for _, pair := range pairs(s.identities.used(resource)) {
				if left := pair[0].expire.Sub(pair[1].asked); left < time.Minute {
					t.Errorf("a token for %s was asked for %s before the last one expired", resource, left)
				}
			}
		}
	})
	t.Run("a claim is renewed on a link that stands", func(t *testing.T) {
		t.Parallel()
		suite.OnlyLong(t, "the SDK renews after two minutes at the earliest")
		s := newEntraScene(t, false, 5*time.Minute+3*time.Second, forDatabase, forServiceBus, forRelay)
		s.granted.Store(true)
		p := s.start()
		began := time.Now()
		s.confirmed(s.enqueue("leeds"), false)
		for n := 0; len(s.identities.used(forServiceBus)) < 2; n++ {
			if time.Since(began) > 5*time.Minute {
				t.Fatal("no token is asked for before the first expires")
			}
			s.until("it is two seconds later", func() bool { return time.Since(began) > time.Duration(n)*2*time.Second })
		}
		t.Logf("renewed after %s", time.Since(began).Round(time.Second))
		id := s.enqueue("leeds")
		s.until("the link still works", func() bool { return s.row(id).Status == store.Confirmed })
		if p.log.has("queue not available") {
			t.Error("the link was lost")
		}
	})
	t.Run("no token can be had when the last expires", func(t *testing.T) {
		t.Parallel()
		s := newEntraScene(t, true, 5*time.Minute+time.Second, forDatabase, forServiceBus, forRelay)
		s.granted.Store(true)
		p := s.start()
		id := s.enqueue("leeds")
		s.until("it is confirmed", func() bool { return s.row(id).Status == store.Confirmed })
		s.identities.grant(forServiceBus, false)
		s.until("the kept token is not used any more", func() bool {
			s.broker.ExpireTokens()
			return s.identities.refusals(forServiceBus) > 1
		})
		s.says(p, "queue not available, trying again", forServiceBus+": answered 400: AZURE_CLIENT_ID")
		s.client = s.dial() // the test's own link is gone too
		id = s.enqueue("leeds")
		s.identities.grant(forServiceBus, true)
		s.until("it is confirmed", func() bool { return s.row(id).Status == store.Confirmed })
	})
	t.Run("operators' commands", func(t *testing.T) {
		t.Parallel()
		s := newEntraScene(t, false, time.Hour, forServiceBus, forRelay)
		const refused = "worklist-relay: open database postgres://"
		for _, command := range []string{"migrate", "relays list"} {
			if out := s.command(1, command); !strings.HasPrefix(out, refused) || !strings.Contains(out, forDatabase+": answered 400: ") || strings.Count(out, "\n") != 1 {
				t.Errorf("%s without a token says %q", command, out)
			}
		}
		s.identities.grant(forDatabase, true)
		if out := s.command(1, "migrate"); !strings.Contains(out, "password authentication failed") {
			t.Errorf("migrate without a role says %q", out)
		}
		s.granted.Store(true)
		for _, command := range []string{"migrate", "relays list", "relays ping --all", "dlq count", "dlq reconcile"} {
			s.command(0, command)
		}
		if out := s.command(0, "dlq reconcile"); strings.Contains(out, "not known") {
			t.Errorf("dlq reconcile could not count the queue: %s", out)
		}
	})
}

// pairs are each token and the next.
func pairs(grants []grant) (list [][2]grant) {
	slices.SortFunc(grants, func(a, b grant) int { return a.asked.Compare(b.asked) })
	for i := 1; i < len(grants); i++ {
		list = append(list, [2]grant{grants[i-1], grants[i]})
	}
	return list
}
