package consumer_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
	"github.com/worklist-relay/worklist-relay/store"
)

// ending is one way in which an action ends or waits, at a peer that repeats
// what it must not.
type ending struct {
	name    string
	prepare func(*world)
	message func(action) *azservicebus.Message // nil: the action's own
	status  store.Status
	reason  consumer.Reason
	phase   relay.Phase
}

const participant = leaktest.Name + " born " + leaktest.BirthDate + ", " + leaktest.NHSNumber

var endings = []ending{
	{"confirmed", nil, nil, store.Confirmed, "", ""},
	{"refused, in known words", replies(relaytest.Reply{Text: fmt.Sprintf(`{"status":"error","message":"No patient name for %s"}`, participant)}), nil, store.Failed, consumer.ReasonGatewayRejected, relay.PhaseAckError},
	{"refused, in other words", replies(relaytest.Reply{Text: fmt.Sprintf(`{"status":"error","message":"%s is odd"}`, participant)}), nil, store.Failed, consumer.ReasonGatewayRejected, relay.PhaseAckError},
	{"refused, in the letters of ASCII", replies(relaytest.Reply{Text: fmt.Sprintf(`{"status":"error","message":%+q}`, fmt.Sprintf("no %+q", leaktest.Name))}), nil, store.Failed, consumer.ReasonGatewayRejected, relay.PhaseAckError},
	{"the gateway is busy with it", replies(relaytest.Reply{Text: fmt.Sprintf(`{"status":"error","message":"database is locked: %s"}`, participant)}), nil, store.Sent, "", relay.PhaseAckError},
	{"no ack", replies(relaytest.Reply{Text: participant}), nil, store.Failed, consumer.ReasonBadAck, relay.PhaseAckInvalid},
	{"an ack of unknown status", replies(relaytest.Reply{Text: fmt.Sprintf(`{"status":%q}`, participant)}), nil, store.Failed, consumer.ReasonBadAck, relay.PhaseAckInvalid},
	{"an ack for another", replies(relaytest.Reply{Text: fmt.Sprintf(`{"status":"created","action_id":%q}`, participant)}), nil, store.Failed, consumer.ReasonBadAck, relay.PhaseAckInvalid},
	{"closed without a word", replies(relaytest.Reply{Close: 1000}), nil, store.Failed, consumer.ReasonClosedWithoutReply, relay.PhaseAckClosed},
	{"exists", replies(relaytest.Reply{Text: fmt.Sprintf(`{"status":"exists","item":%q}`, participant)}), nil, store.Failed, consumer.ReasonAccessionConflict, relay.PhaseAckError},
	{"rejected by the listener", func(w *world) { w.gateway.RejectNext(1, 418, "busy with "+participant) }, nil, store.Failed, consumer.ReasonListenerRejected, relay.PhaseRejected},
	{"the listener failed", func(w *world) { w.gateway.RejectNext(1, 502, "at "+participant) }, nil, store.Pending, "", relay.PhaseHandshake},
	{"key refused", func(w *world) {
		token := relaytest.SAS("http://"+w.relay.Addr()+"/"+provider, sendKey, time.Now().Add(time.Hour))
		w.relay.Refuse(provider, 2, 401, "token "+token+" of key "+leaktest.RelayKey+" refused")
	}, nil, store.Pending, "", relay.PhaseAuth},
	{"identity refused", func(w *world) {
		w.relay.Refuse("york", 2, 403, "token Bearer "+leaktest.BearerToken+" refused")
	}, propertied("provider_id", "york"), store.Pending, "", relay.PhaseAuth},
	{"panicked", nil, propertied("provider_id", "hull"), store.Failed, consumer.ReasonInternalError, ""},
	{"no relay", nil, propertied("setting_id", "elsewhere"), store.Failed, consumer.ReasonNoRelay, ""},
	{"invalid in every field", nil, func(a action) *azservicebus.Message {
		for _, path := range []string{"scheduled.date", "scheduled.time", "participant.birth_date", "participant.nhs_number"} {
			a = a.with("parameters.worklist_item."+path, participant+participant)
		}
		return a.message()
	}, store.Failed, consumer.ReasonInvalidMessage, ""},
	{"of an unknown type", nil, func(a action) *azservicebus.Message { return a.with("action_type", participant).message() }, store.Failed, consumer.ReasonUnsupportedAction, ""},
	{"of another schema", nil, func(a action) *azservicebus.Message { return a.with("schema_version", participant).message() }, store.Failed, consumer.ReasonUnsupportedSchema, ""},
	{"too late", nil, func(a action) *azservicebus.Message {
		return a.with("parameters.worklist_item.scheduled.date", leaktest.BirthDate).message()
	}, store.Failed, consumer.ReasonExpired, ""},
}

var leakSituations = []situation{
	{"80_details_are_found_nowhere", func(t *testing.T, url string) {
		w := newWorld(t, url)
		w.consumer.Retry = consumer.RetryPolicy{Delays: []time.Duration{time.Hour}, MostArrived: 1}
		w.consumer.OutcomeQueue = outcomeQueue
		keys := w.consumer.Secret
		w.consumer.Secret = func(variable string) string {
			if variable == "BROKEN" {
				panic(participant)
			}
			return keys(variable)
		}
		w.addRelay("hull", nil, w.relay.Addr(), provider, "BROKEN")
		w.consumer.Entra = relay.Entra{Credential: identity{}}
		w.must(w.store.AddRelay(context.Background(), store.Relay{ProviderID: "york", Namespace: w.relay.Addr(), HybridConnection: "york"}, store.By{Who: "test"}))
		w.run()
		for _, e := range endings {
			a := newCreate()
			if e.prepare != nil {
				e.prepare(w)
			}
			m := a.message()
			if e.message != nil {
				m = e.message(a)
			}
			w.send(m)
			w.until(e.name+": settled", func() bool { q := w.queueState(); return q.Active+q.Locked == 0 })
			w.hasRow(a.id(), e.status, e.reason, e.phase)
		}
		if !slices.Contains(leaktest.Find(string(w.gateway.Frames()[0])), "participant.name") {
			t.Error("the canaries were not even where they belong")
		}
	}}, // the world looks everywhere when it ends
}

func replies(r relaytest.Reply) func(*world) {
	return func(w *world) { w.gateway.Script(r) }
}

// propertied is the action's message with an application property more.
func propertied(name, value string) func(action) *azservicebus.Message {
	return func(a action) *azservicebus.Message {
		m := a.message()
		m.ApplicationProperties[name] = value
		return m
	}
}

// identity is one of Entra ID.
type identity struct{}

func (identity) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: leaktest.BearerToken, ExpiresOn: time.Now().Add(time.Hour)}, nil
}
