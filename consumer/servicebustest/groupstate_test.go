package servicebustest_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

func TestSessionState(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "a session keeps a state, without messages and without a holder", queue: sessionQueue, prove: keepState},
		{name: "a state that is cleared leaves nothing", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			receiver := r.accept("a")
			must(t, receiver.SetSessionState(r.ctx, []byte("seen 7"), nil))
			must(t, receiver.SetSessionState(r.ctx, nil, nil))
			if state, err := receiver.GetSessionState(r.ctx, nil); err != nil || state != nil {
				t.Errorf("state %q, error %v", state, err)
			}
			must(t, receiver.Close(r.ctx))
			r.sessions()
		}},
		{name: "a state is for the holder only", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			session := r.rawSession()
			a, err := rawAccept(r.ctx, session, "a", nil)
			must(t, err)
			for operation, args := range map[string]map[string]any{
				"get-session-state": {"session-id": "b"}, "set-session-state": {"session-id": "b", "session-state": []byte("x")},
			} {
				if status, _ := r.manage(session, operation, a.LinkName(), args); status != 410 {
					t.Errorf("%s: status %d", operation, status)
				}
			}
			r.sessions(held("a", 0))
		}},
		{name: "sessions are listed, page by page", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			var want []string
			for i := range 230 {
				want = append(want, fmt.Sprintf("session %03d", i))
			}
			sender := r.sender()
			batch, err := sender.NewMessageBatch(r.ctx, nil)
			must(t, err)
			for _, id := range want {
				must(t, batch.AddMessage(&azservicebus.Message{SessionID: &id}, nil))
			}
			must(t, sender.SendMessageBatch(r.ctx, batch, nil))
			if diff := cmp.Diff(want, r.listed(nil)); diff != "" {
				t.Error(diff)
			}
		}},
		{name: "listed is what has active messages or a state", queue: sessionQueue, prove: whatIsListed},
		{name: "a plain queue lists no sessions", prove: func(t *testing.T, r *rig) {
			if _, err := r.client.NewListSessionsForQueuePager(queueName, nil).NextPage(r.ctx); err == nil {
				t.Error("listed")
			}
			if sessions := r.server.Sessions(queueName); len(sessions) > 0 {
				t.Errorf("sessions %v", sessions)
			}
			if sessions := r.server.Sessions("elsewhere"); len(sessions) > 0 {
				t.Errorf("sessions %v", sessions)
			}
		}},
		{name: "requests about sessions that make no sense are answered so", queue: sessionQueue, prove: func(t *testing.T, r *rig) {
			session := r.rawSession()
			a, err := rawAccept(r.ctx, session, "a", nil)
			must(t, err)
			for operation, args := range map[string]map[string]any{
				"renew-session-lock": {}, "set-session-state": {"session-id": "a", "session-state": "text"}, "get-message-sessions": {"top": int32(1)},
			} {
				if status, _ := r.manage(session, operation, a.LinkName(), args); status != 400 {
					t.Errorf("%s: status %d", operation, status)
				}
			}
		}},
		{name: "counts of a session queue", queue: sessionQueue, config: withHTTP, prove: sessionCounts},
	})
}

func keepState(t *testing.T, r *rig) {
	receiver := r.accept("a")
	state, err := receiver.GetSessionState(r.ctx, nil)
	must(t, err)
	if state != nil {
		t.Errorf("state %q before there is one", state)
	}
	must(t, receiver.SetSessionState(r.ctx, []byte("seen 7"), nil))
	must(t, receiver.Close(r.ctx))
	r.sessions(free("a", 0))
	r.noSession()
	state, err = r.accept("a").GetSessionState(r.ctx, nil)
	must(t, err)
	if string(state) != "seen 7" {
		t.Errorf("state %q", state)
	}
}

// listed returns the sessions as the SDK lists them.
func (r *rig) listed(options *azservicebus.ListSessionsOptions) []string {
	r.t.Helper()
	var ids []string
	for pager := r.client.NewListSessionsForQueuePager(queueName, options); pager.More(); {
		page, err := pager.NextPage(r.ctx)
		must(r.t, err)
		ids = append(ids, page.Sessions...)
	}
	return ids
}

func whatIsListed(t *testing.T, r *rig) {
	if ids := r.listed(nil); ids != nil {
		t.Errorf("listed %v of nothing", ids)
	}
	r.sendTo("active", "x")
	r.sendTo("locked", "x")
	r.sendMessage(&azservicebus.Message{SessionID: ptr("scheduled"), ScheduledEnqueueTime: ptr(time.Now().Add(time.Hour))})
	r.receiveOne(r.accept("locked"))
	r.accept("held")
	must(t, r.accept("before").SetSessionState(r.ctx, []byte("x"), nil))
	r.after(time.Now().Add(2 * time.Millisecond)) // the wire knows milliseconds
	since := time.Now()
	r.after(since.Add(2 * time.Millisecond))
	must(t, r.accept("state").SetSessionState(r.ctx, []byte("x"), nil))
	if diff := cmp.Diff([]string{"active", "before", "locked", "state"}, r.listed(nil)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"state"}, r.listed(&azservicebus.ListSessionsOptions{SessionStateUpdatedAfter: &since})); diff != "" {
		t.Error(diff)
	}
}

func sessionCounts(t *testing.T, r *rig) {
	r.client = r.dial(r.server.ConnectionString())
	r.sendTo("a", "locked", "active")
	r.sendTo("b", "dead")
	r.sendMessage(&azservicebus.Message{SessionID: ptr("a"), ScheduledEnqueueTime: ptr(time.Now().Add(time.Hour))})
	r.receiveOne(r.accept("a"))
	b := r.accept("b")
	must(t, b.DeadLetterMessage(r.ctx, r.receiveOne(b), nil))
	client := r.admin(r.server.ConnectionString())
	count := func(want ...int64) {
		t.Helper()
		response, err := client.GetQueueRuntimeProperties(r.ctx, queueName, nil)
		must(t, err)
		got := []int64{
			int64(response.ActiveMessageCount), int64(response.DeadLetterMessageCount), int64(response.ScheduledMessageCount), response.TotalMessageCount,
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	count(2, 1, 1, 4)
	r.server.ExpireLocks()
	count(2, 1, 1, 4)
	r.state(servicebustest.QueueState{Active: 2, DeadLettered: 1, Scheduled: 1})
}
