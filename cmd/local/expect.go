package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/store"
)

// The gateways of the main job. Nothing leads to the last one.
const (
	oneShotGateway    = "leeds"
	persistentGateway = "hull"
	rejectingGateway  = "york"
	unknownGateway    = "bath"
)

// sample is one message of the main job and what must become of it.
type sample struct {
	label   string // the message's correlation id, which its scheduled copies keep
	what    string // for the table
	wave    int    // sent once every earlier wave is settled
	gateway string // and provider
	message *azservicebus.Message

	actionID  string          // "": the body cannot be read
	accession string          // of the item that it makes or moves
	reason    consumer.Reason // of the dead letter; "": completed
	sends     int             // tries at the gateway that it takes

	// row is the status its action ends with in SQL; "": the message has no row,
	// or the row of an earlier sample.
	row store.Status

	// item is the status of the worklist item that it leaves at the gateway;
	// "": it does not change any.
	item string
}

// samples makes the main job's messages.
type samples struct {
	*sampler
	list []sample
	err  error // the first
}

// demoSamples are about thirty messages, good and bad, in waves: what builds on
// an earlier action is sent once that is settled, as a clinic does.
func demoSamples(seed uint64, day time.Time) ([]sample, error) {
	s := &samples{sampler: newSampler(seed, day)}
	// Alone at their gateways, so that the faults prepared there meet them.
	s.good(0, "create, no listener once", oneShotGateway, s.create(), 2)
	s.good(0, "create, hung up on once", persistentGateway, s.create(), 2)

	var leeds, hull []action
	for range 6 {
		leeds = append(leeds, s.create())
		s.good(1, "create", oneShotGateway, leeds[len(leeds)-1], 1)
		hull = append(hull, s.create())
		s.good(1, "create", persistentGateway, hull[len(hull)-1], 1)
	}
	for range 3 {
		s.rejected(1, "create", rejectingGateway, s.create())
	}
	s.malformed(1)

	for _, created := range leeds[:3] {
		s.good(2, "update to IN PROGRESS", oneShotGateway, s.update(created, "IN PROGRESS"), 1)
	}
	for _, created := range hull[:2] {
		s.good(2, "update to IN PROGRESS", persistentGateway, s.update(created, "IN PROGRESS"), 1)
	}
	s.reused(2, leeds[5], hull[5])

	s.good(3, "update to COMPLETED", oneShotGateway, s.update(leeds[0], "COMPLETED"), 1)
	s.good(3, "update to COMPLETED", oneShotGateway, s.update(leeds[1], "COMPLETED"), 1)
	s.good(3, "update to COMPLETED", persistentGateway, s.update(hull[0], "COMPLETED"), 1)
	return s.list, s.err
}

// malformed adds what can never be forwarded.
func (s *samples) malformed(wave int) {
	s.bad(wave, "not JSON", oneShotGateway, sample{reason: consumer.ReasonInvalidMessage}, []byte("synthetic, not JSON"))

	nameless := s.create()
	nameless.Parameters.WorklistItem.Participant.Name = ""
	s.refused(wave, "create without a name", persistentGateway, nameless, consumer.ReasonInvalidMessage)

	unknown := s.create()
	unknown.ActionType = "worklist.teleport_item"
	s.refused(wave, "unknown action type", oneShotGateway, unknown, consumer.ReasonUnsupportedAction)

	next := s.create()
	next.SchemaVersion = 2
	s.refused(wave, "schema version 2", persistentGateway, next, consumer.ReasonUnsupportedSchema)

	s.refused(wave, "no relay for provider", unknownGateway, s.create(), consumer.ReasonNoRelay)

	late := s.create()
	late.Parameters.WorklistItem.Scheduled.Date = s.now.AddDate(0, 0, -2).Format("20060102")
	s.refused(wave, "scheduled in the past", oneShotGateway, late, consumer.ReasonExpired)
}

// reused adds messages that use again what two confirmed creates have used.
func (s *samples) reused(wave int, atLeeds, atHull action) {
	other := s.create()
	other.ActionID = atLeeds.ActionID
	s.bad(wave, "action id reused", oneShotGateway, sample{actionID: other.ActionID, reason: consumer.ReasonActionConflict}, marshal(other))

	second := s.create()
	second.Parameters.WorklistItem.AccessionNumber = atLeeds.Parameters.WorklistItem.AccessionNumber
	s.refused(wave, "accession number reused", oneShotGateway, second, consumer.ReasonAccessionConflict)

	s.bad(wave, "exact resend", persistentGateway, sample{actionID: atHull.ActionID}, marshal(atHull))
}

// good adds an action that its gateway confirms, after so many tries.
func (s *samples) good(wave int, what, gateway string, a action, sends int) {
	item := a.Parameters.WorklistItem.Status
	if a.ActionType == typeCreate {
		item = "SCHEDULED"
	}
	s.encoded(wave, what, gateway, a, sample{sends: sends, row: store.Confirmed, item: item})
}

// rejected adds an action that its gateway answers with an error.
func (s *samples) rejected(wave int, what, gateway string, a action) {
	s.encoded(wave, what, gateway, a, sample{reason: consumer.ReasonGatewayRejected, sends: 1, row: store.Failed})
}

// refused adds an action that ends before any try at a gateway.
func (s *samples) refused(wave int, what, gateway string, a action, reason consumer.Reason) {
	s.bad(wave, what, gateway, sample{actionID: a.ActionID, reason: reason, row: store.Failed}, marshal(a))
}

// encoded adds an action in the message that a producer makes of it.
func (s *samples) encoded(wave int, what, gateway string, a action, want sample) {
	message, err := consumer.Encode(gateway, nil, marshal(a))
	if err != nil && s.err == nil {
		s.err = fmt.Errorf("sample %q: %w", what, err)
	}
	want.actionID, want.accession = a.ActionID, a.Parameters.WorklistItem.AccessionNumber
	s.add(wave, what, gateway, message, want)
}

// bad adds a body that consumer.Encode would not let pass, or need not.
func (s *samples) bad(wave int, what, gateway string, want sample, body []byte) {
	s.add(wave, what, gateway, &azservicebus.Message{
		Body:                  body,
		ApplicationProperties: map[string]any{"provider_id": gateway},
	}, want)
}

func (s *samples) add(wave int, what, gateway string, message *azservicebus.Message, want sample) {
	want.label = "sample-" + strconv.Itoa(len(s.list)+1)
	want.wave, want.what, want.gateway, want.message = wave, what, gateway, message
	if message != nil {
		message.CorrelationID = &want.label
	}
	s.list = append(s.list, want)
}

func marshal(a action) []byte {
	body, err := json.Marshal(a)
	if err != nil {
		panic("marshal of strings: " + err.Error())
	}
	return body
}
