package servicebustest_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

func TestSessionFaults(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "an AMQP session that ends gives its sessions back", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			session := r.rawSession()
			rawReceive(t, r, session)
			r.sessions(held("a", 1))
			must(t, session.Close(r.ctx))
			r.sessions(free("a", 1))
			deliveries(t, r.receiveOne(r.acceptNext()), 1)
		}},
		{name: "a connection that is closed gives its sessions back", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1")
			conn := r.raw(&amqp.ConnOptions{SASLType: amqp.SASLTypeAnonymous()})
			session, err := conn.NewSession(r.ctx, nil)
			must(t, err)
			rawReceive(t, r, session)
			must(t, conn.Close())
			r.sessions(free("a", 1))
		}},
		{name: "a connection that is cut keeps its sessions locked until the locks run out", queue: sessionQueue, prove: cutInSession},
		{name: "waiting accepts of a cut connection get nothing", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			if err := r.interrupted(r.server.DropConnections); err == nil {
				t.Error("accepted")
			}
			r.sendTo("a", "a1")
			r.receiveOne(r.acceptNext())
		}},
		{name: "detached links: the session is accepted again", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.sendTo("a", "a1", "a2")
			receiver := r.acceptNext()
			for range 2 {
				m := r.receiveOne(receiver)
				deliveries(t, m, 1)
				must(t, receiver.CompleteMessage(r.ctx, m, nil))
				r.server.DetachLinks()
			}
			must(t, receiver.SetSessionState(r.ctx, []byte("done"), nil))
			r.sessions(held("a", 0))
		}},
		{name: "detached links: a waiting accept is told", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			condition(t, r.interrupted(r.server.DetachLinks), amqp.ErrCondDetachForced)
		}},
		{name: "a disabled queue refuses accepts, and tells those that wait or hold", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			holder, err := rawAccept(r.ctx, r.rawSession(), "a", nil)
			must(t, err)
			condition(t, r.interrupted(func() { r.server.Disable(queueName, true) }), "com.microsoft:entity-disabled")
			_, err = holder.Receive(r.ctx, nil)
			condition(t, linkReason(err), "com.microsoft:entity-disabled")
			_, err = r.client.AcceptSessionForQueue(r.ctx, queueName, "a", nil)
			condition(t, err, "com.microsoft:entity-disabled")
			r.sessions()
			r.server.Disable(queueName, false)
			r.accept("a")
		}},
		{name: "throttling refuses accepts, and sessions go on after it", queue: sessionQueue, prove: throttledSessions},
		{name: "expired locks: sessions are lost", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			r.batch("a1", "b1", "c1")
			for _, id := range []string{"b", "a"} {
				r.receiveOne(r.accept(id))
			}
			must(t, r.server.Fault("expire-locks", 0))
			r.sessions(free("a", 1), free("b", 1), free("c", 1))
			var order []string
			for range 3 {
				order = append(order, r.acceptNext().SessionID())
			}
			if diff := cmp.Diff([]string{"c", "b", "a"}, order); diff != "" { // the longest lock was lost first
				t.Error(diff)
			}
		}},
		{name: "closing the server ends the waiting for sessions", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			if err := r.interrupted(func() { must(t, r.server.Close()) }); err == nil {
				t.Error("accepted")
			}
		}},
		{name: "many receivers take turns: each session in order, each message once", queue: sessionQueue, prove: takeTurns},
	})
}

// interrupted has an accept wait, does something to it, and returns what the accept got. Since nobody sees an accept wait, it is
// done again until it has met one.
func (r *rig) interrupted(by func()) error {
	r.t.Helper()
	session := r.rawSession()
	got := make(chan error, 1)
	go func() {
		_, err := rawAccept(r.ctx, session, nil, nil)
		got <- err
	}()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		select {
		case err := <-got:
			return err
		case <-ticker.C:
			by()
		case <-r.ctx.Done():
			r.t.Fatal(r.ctx.Err())
		}
	}
}

// linkReason returns the reason for which a link was detached.
func linkReason(err error) error {
	var link *amqp.LinkError
	if errors.As(err, &link) && link.RemoteErr != nil {
		return link.RemoteErr
	}
	return err
}

func cutInSession(t *testing.T, r *rig) {
	r.sendTo("a", "a1")
	receiver := r.accept("a")
	r.receiveOne(receiver)
	r.server.DropConnections()
	other := r.dial(r.server.ConnectionString())
	_, err := other.AcceptSessionForQueue(r.ctx, queueName, "a", nil)
	condition(t, err, "com.microsoft:session-cannot-be-locked")
	_, err = receiver.ReceiveMessages(r.ctx, 1, nil)
	if err == nil {
		_, err = receiver.ReceiveMessages(r.ctx, 1, nil) // the first call only finds its connection cut
	}
	condition(t, err, "com.microsoft:session-cannot-be-locked") // its own lock is in its way
	r.noSession()
	r.server.Advance(2 * time.Minute)
	next, err := other.AcceptNextSessionForQueue(r.ctx, queueName, nil)
	must(t, err)
	deliveries(t, r.receiveOne(next), 2)
}

func throttledSessions(t *testing.T, r *rig) {
	r.sendTo("a", "a1")
	session := r.rawSession()
	receiver, err := rawAccept(r.ctx, session, "a", nil)
	must(t, err)
	m, err := receiver.Receive(r.ctx, nil)
	must(t, err)
	r.server.Throttle(time.Minute)
	for _, id := range []any{"b", nil} {
		_, err = rawAccept(r.ctx, session, id, nil)
		condition(t, err, "com.microsoft:server-busy")
	}
	condition(t, receiver.AcceptMessage(r.ctx, m), "com.microsoft:server-busy")
	r.server.Throttle(time.Nanosecond)
	r.sessions(held("a", 1))
	r.accept("b")
}

// takeTurns lets six workers work off twelve sessions, a session at a time and two messages of it, while it is being sent to.
func takeTurns(t *testing.T, r *rig) {
	const sessions = 12
	each := 4
	if suite.Long() {
		each = 10
	}
	var mu sync.Mutex
	seen := map[string][]string{}
	left := sessions * each
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	var workers sync.WaitGroup
	for range 6 {
		client := r.dial(r.server.ConnectionString())
		workers.Go(func() {
			for ctx.Err() == nil {
				receiver, err := client.AcceptNextSessionForQueue(ctx, queueName, nil)
				if err != nil {
					continue
				}
				messages, _ := receiver.ReceiveMessages(ctx, 2, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
				for _, m := range messages {
					if err := receiver.CompleteMessage(r.ctx, m, nil); err != nil {
						t.Error(err)
					}
					mu.Lock()
					seen[*m.SessionID] = append(seen[*m.SessionID], string(m.Body))
					if left--; left == 0 {
						cancel()
					}
					mu.Unlock()
				}
				receiver.Close(r.ctx)
			}
		})
	}
	var want []string
	for i := range each {
		want = append(want, fmt.Sprint(i))
		for s := range sessions {
			r.sendTo(fmt.Sprint("session ", s), fmt.Sprint(i))
		}
	}
	workers.Wait()
	for id, got := range seen {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", id, diff)
		}
	}
	r.state(servicebustest.QueueState{})
	r.sessions()
}
