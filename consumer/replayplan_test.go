package consumer_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

const modality = "parameters.worklist_item.procedure.modality"

// judged is one dead letter, and what a plan must say of it.
type judged struct {
	name    string
	verdict consumer.ReplayVerdict
	why     string // in the sentence
	make    func(*world, map[string]consumer.Mended)
}

// The dead letters of the plan test, in the order of the queue. Those that make
// more than one have a slash between the verdicts.
var planned = []judged{
	{"the first of its route", "send", "", func(w *world, _ map[string]consumer.Mended) { w.failed() }},
	{"the second", "send", "", func(w *world, _ map[string]consumer.Mended) { w.failed() }},
	{"nobody told SQL", "send", "", func(w *world, _ map[string]consumer.Mended) { w.died(newCreate().message()) }},
	{"invalid", "refused", "schema_version", func(w *world, _ map[string]consumer.Mended) { w.died(newCreate().with("schema_version", 2).message()) }},
	{"invalid, mended", "send", "", func(w *world, with map[string]consumer.Mended) {
		a := newCreate()
		w.died(a.with("schema_version", 2).message())
		with[a.id()] = consumer.Mended{Body: a.body()}
	}},
	{"no JSON, mended", "send", "", func(w *world, with map[string]consumer.Mended) {
		with[w.died(&azservicebus.Message{Body: []byte("SYNTHETIC")})] = consumer.Mended{ProviderID: provider, Body: newCreate().body()}
	}},
	{"no provider, mended without one", "refused", "names no provider", func(w *world, with map[string]consumer.Mended) {
		with[w.died(&azservicebus.Message{Body: newCreate().body()})] = consumer.Mended{Body: newCreate().body()}
	}},
	{"its setting was lost, and mended without one", "refused", "setting_id", func(w *world, with map[string]consumer.Mended) {
		a := newCreate()
		with[w.died(propertied("setting_id", "")(a))] = consumer.Mended{Body: a.body()}
	}},
	{"mended for another provider", "refused", "another provider or setting", func(w *world, with map[string]consumer.Mended) {
		a := newCreate()
		with[w.died(a.message())] = consumer.Mended{ProviderID: "hull", Body: a.body()}
	}},
	{"mended for a setting that it does not name", "refused", "another provider or setting", func(w *world, with map[string]consumer.Mended) {
		a, setting := newCreate(), "west"
		with[w.died(a.message())] = consumer.Mended{ProviderID: provider, SettingID: &setting, Body: a.body()}
	}},
	{"mended into another action", "refused", "keep the action_id", func(w *world, with map[string]consumer.Mended) {
		with[w.died(newCreate().message())] = consumer.Mended{Body: newCreate().body()}
	}},
	{"mended and invalid", "refused", "mended content is no valid action", func(w *world, with map[string]consumer.Mended) {
		a := newCreate()
		with[w.died(a.message())] = consumer.Mended{Body: a.with(modality, 7).body()}
	}},
	{"mended, and it may have arrived", "refused", "new action", func(w *world, with map[string]consumer.Mended) {
		w.gateway.Script(relaytest.Reply{Close: 1000})
		a := w.failed()
		with[a.id()] = consumer.Mended{Body: a.with(modality, "CT").body()}
	}},
	{"confirmed", "refused", "is confirmed", func(w *world, _ map[string]consumer.Mended) {
		a := w.failed()
		w.must(w.store.Resolve(context.Background(), provider, a.id(), store.Confirmed, by))
	}},
	{"another provider's", "refused", "another provider's", func(w *world, _ map[string]consumer.Mended) {
		a := w.failed()
		w.must(w.store.Resolve(context.Background(), provider, a.id(), store.Confirmed, by)) // its own is of no interest here
		w.died(propertied("provider_id", "hull")(a))
	}},
	{"of other content", "refused", "other content", func(w *world, _ map[string]consumer.Mended) {
		a := w.failed()
		w.must(w.store.Resolve(context.Background(), provider, a.id(), store.Confirmed, by))
		w.died(a.with(modality, "CT").message())
	}},
	{"an older and a later one", "refused/send", "a later dead letter", func(w *world, _ map[string]consumer.Mended) {
		w.died(w.failed().message())
	}},
	{"no relay", "refused", "`relays add`", func(w *world, _ map[string]consumer.Mended) { w.died(newCreate().messageTo("bath")) }},
	{"of yesterday", "refused", "its clinic day is past", func(w *world, _ map[string]consumer.Mended) {
		w.died(newCreate().with("parameters.worklist_item.scheduled.date", "20200506").message())
	}},
	{"held back", "refused", "held back by ada (ticket 42)", func(w *world, _ map[string]consumer.Mended) { w.died(newCreate().messageTo("york")) }},
	{"unreadable", "refused", "portal", func(w *world, _ map[string]consumer.Mended) {
		w.send(newCreate().message())
		w.bury(odd)
	}},
	{"left over", "leftover", "", func(w *world, _ map[string]consumer.Mended) {
		a := w.failed()
		row := w.row(a.id())
		w.must(w.store.Reopen(context.Background(), store.Replay{ProviderID: provider, ActionID: a.id(), BodySHA256: *row.BodySHA256, DeadLetter: row.SequenceNumber}, by))
		w.must(w.store.Resolve(context.Background(), provider, a.id(), store.Confirmed, by))
	}},
	{"being worked on", "refused", "being worked on", func(w *world, _ map[string]consumer.Mended) {
		a := w.failed()
		row := w.row(a.id())
		w.must(w.store.Reopen(context.Background(), store.Replay{ProviderID: provider, ActionID: a.id(), BodySHA256: *row.BodySHA256}, by))
		_, err := w.store.Claim(context.Background(), store.Delivery{
			ActionID: a.id(), ActionType: row.ActionType, Create: true, ProviderID: provider, AccessionNumber: row.AccessionNumber,
			BodySHA256: *row.BodySHA256, SequenceNumber: 4711, OriginalSequence: row.SequenceNumber, EnqueuedAt: row.EnqueuedAt, Lease: time.Hour,
		})
		w.must(err)
	}},
}

// failed is a create that a consumer dead-letters.
func (w *world) failed() action {
	w.t.Helper()
	stop := w.runAnother(w.replica())
	defer stop()
	return w.fail(1)[0]
}

// died dead-letters a message as the broker does, and returns its sequence
// number in decimal.
func (w *world) died(m *azservicebus.Message) string {
	w.t.Helper()
	w.send(m)
	w.bury(because("MaxDeliveryCountExceeded", ""))
	letters := w.broker.Messages(deadName)
	return strconv.FormatInt(letters[len(letters)-1].SequenceNumber, 10)
}

// A plan says of each dead letter what a replay then does, and changes nothing.
func TestPlanReplay(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.consumer.Retry.MostArrived = 1
		w.gateway.SetMode(relaytest.ModeReject)
		w.addRelay("hull", nil, w.relay.Addr(), "hull", "LEEDS_KEY")
		w.addRelay("york", nil, w.relay.Addr(), "york", "LEEDS_KEY")
		w.must(w.store.HoldGateway(context.Background(), w.relay.Addr()+"/york", by))
		how := consumer.Replay{By: by, CanaryWait: time.Millisecond, With: map[string]consumer.Mended{"4711": {}}}
		var want, names []string
		for _, j := range planned {
			before := w.queueState().DeadLettered
			j.make(w, how.With)
			verdicts := strings.Split(string(j.verdict), "/")
			for range w.queueState().DeadLettered - before - len(verdicts) {
				want, names = append(want, "refused"), append(names, j.name+": what came before")
			}
			for _, v := range verdicts {
				want, names = append(want, v), append(names, j.name)
			}
		}
		before := w.everything()

		plan, err := w.dead().Plan(context.Background(), how)
		w.must(err)
		var refused []string
		for i, item := range plan.Items {
			if string(item.Verdict) != want[i] {
				t.Errorf("%s: %s (%s), want %s", names[i], item.Verdict, item.Why, want[i])
			}
			if item.Verdict == consumer.ReplayRefused {
				refused = append(refused, item.Why)
			}
			at := slices.IndexFunc(planned, func(j judged) bool { return j.name == names[i] })
			if at >= 0 && item.Verdict == consumer.ReplayRefused && !strings.Contains(item.Why, planned[at].why) {
				t.Errorf("%s: refused since %q, want %q", names[i], item.Why, planned[at].why)
			}
			if mended := strings.HasSuffix(names[i], ", mended"); item.Mended != mended || item.Canary != (names[i] == planned[0].name) {
				t.Errorf("%s: mended %v, canary %v", names[i], item.Mended, item.Canary)
			}
		}
		if len(plan.Items) != len(want) || plan.Send+plan.Refused+plan.Leftover != len(want) || plan.Refused != len(refused) {
			t.Errorf("%d items, %d to send, %d refused, %d left over, of %d", len(plan.Items), plan.Send, plan.Refused, plan.Leftover, len(want))
		}
		routes := []consumer.RoutePlan{{Route: w.relay.Addr() + "/" + provider, Send: plan.Send, Canaries: 1}}
		if diff := cmp.Diff(routes, plan.Routes); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff([]string{"4711"}, plan.Unused); diff != "" {
			t.Error(diff)
		}
		if diff := cmp.Diff(before, w.everything()); diff != "" {
			t.Errorf("the plan changed something: %s", diff)
		}
		told, err := json.Marshal(plan)
		w.must(err)
		leaktest.Check(t, "the plan", string(told))

		report, err := w.dead().Replay(context.Background(), how)
		w.must(err)
		if report.Sent != 1 || report.Refused != plan.Refused || report.Leftover != plan.Leftover || report.NotSent != plan.Send-1 {
			t.Errorf("planned %d, %d, %d, and replayed %+v", plan.Send, plan.Refused, plan.Leftover, report)
		}
		told, err = json.Marshal(report)
		w.must(err)
		leaktest.Check(t, "the report", string(told))
	})
}

// everything is all rows, audit entries and messages.
func (w *world) everything() (all []string) {
	w.t.Helper()
	actions, err := w.store.Actions(context.Background(), store.ActionFilter{Limit: 1000})
	w.must(err)
	for _, a := range actions {
		_, _, audit, err := w.store.Action(context.Background(), "", a.ActionID)
		w.must(err)
		all = append(all, dereferenced(a), fmt.Sprint(len(audit)))
	}
	for _, m := range append(w.broker.Messages(deadName), w.broker.Messages(queue)...) {
		all = append(all, fmt.Sprintf("%+v", m))
	}
	return all
}
