package consumer_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/store"
)

// invalidSituations are messages that can never be forwarded: rows 1 to 8.
func invalidSituations() []situation {
	create := newCreate()
	update := newUpdate(create, "COMPLETED")
	item := "parameters.worklist_item."
	bodies := []struct {
		name   string
		body   []byte
		reason consumer.Reason
		fault  string // in the description
		row    bool
	}{
		{"01_body_is_empty", nil, consumer.ReasonInvalidMessage, "body: empty", false},
		{"01_body_is_not_json", []byte(`{"action_id":`), consumer.ReasonInvalidMessage, "body: not JSON", false},
		{"01_body_is_not_an_object", []byte(`["SYNTHETIC"]`), consumer.ReasonInvalidMessage, "body: not a JSON object", false},
		{"01_body_is_not_utf8", []byte("{\"a\":\"\xff\"}"), consumer.ReasonInvalidMessage, "body: not UTF-8", false},
		{"01_body_is_two_values", []byte(`{} {}`), consumer.ReasonInvalidMessage, "more than one", false},
		{"02_action_id_missing", create.with("action_id", nil).body(), consumer.ReasonInvalidMessage, "action_id: missing", false},
		{"02_action_id_is_no_uuid", create.with("action_id", "SYNTHETIC").body(), consumer.ReasonInvalidMessage, "action_id: not a UUID", false},
		{"02_action_type_missing", create.with("action_type", nil).body(), consumer.ReasonInvalidMessage, "action_type: missing", true},
		{"03_schema_version_2", create.with("schema_version", 2).body(), consumer.ReasonUnsupportedSchema, "schema_version", true},
		{"03_schema_version_missing", create.with("schema_version", nil).body(), consumer.ReasonUnsupportedSchema, "schema_version", true},
		{"04_action_type_unknown", create.with("action_type", "worklist.SYNTHETIC").body(), consumer.ReasonUnsupportedAction, "action_type", true},
		{"04_action_type_is_a_number", create.with("action_type", leaktest.NHSNumber).body(), consumer.ReasonUnsupportedAction, "action_type", true},
		{"04_action_type_in_other_case", create.with("action_type", "Worklist.Create_Item").body(), consumer.ReasonUnsupportedAction, "action_type", true},
		{"05_create_without_accession", create.with(item+"accession_number", nil).body(), consumer.ReasonInvalidMessage, item + "accession_number: missing", true},
		{"05_create_accession_too_long", create.with(item+"accession_number", strings.Repeat("A", 17)).body(), consumer.ReasonInvalidMessage, item + "accession_number: not", true},
		{"05_create_without_nhs_number", create.with(item+"participant.nhs_number", nil).body(), consumer.ReasonInvalidMessage, item + "participant.nhs_number: missing", true},
		{"05_create_name_too_long", create.with(item+"participant.name", strings.Repeat("É", 65)).body(), consumer.ReasonInvalidMessage, item + "participant.name: not", true},
		{"05_create_birth_date_wrong", create.with(item+"participant.birth_date", "1970-01-01").body(), consumer.ReasonInvalidMessage, item + "participant.birth_date: not", true},
		{"05_create_date_is_no_day", create.with(item+"scheduled.date", "20260231").body(), consumer.ReasonInvalidMessage, item + "scheduled.date: not", true},
		{"05_create_date_is_year_9999", create.with(item+"scheduled.date", "99991231").body(), consumer.ReasonInvalidMessage, item + "scheduled.date: not", true},
		{"05_create_time_wrong", create.with(item+"scheduled.time", "09:30").body(), consumer.ReasonInvalidMessage, item + "scheduled.time: not", true},
		{"05_create_modality_is_a_number", create.with(item+"procedure.modality", 7).body(), consumer.ReasonInvalidMessage, item + "procedure.modality: not", true},
		{"05_create_without_parameters", create.with("parameters", nil).body(), consumer.ReasonInvalidMessage, item + "scheduled.date: missing", true},
		{"06_update_without_status", update.with(item+"status", nil).body(), consumer.ReasonInvalidMessage, item + "status: missing", true},
		{"06_update_status_unknown", update.with(item+"status", "SYNTHETIC").body(), consumer.ReasonInvalidMessage, item + "status: not", true},
		{"06_update_without_accession", update.with(item+"accession_number", nil).body(), consumer.ReasonInvalidMessage, item + "accession_number: missing", true},
		{"07_body_over_1_MiB", create.with("padding", strings.Repeat("SYNTHETIC", 120_000)).body(), consumer.ReasonPayloadTooLarge, "body: ", true},
	}
	var list []situation
	for _, b := range bodies {
		list = append(list, situation{b.name, func(t *testing.T, url string) {
			w := running(t, url)
			w.send(&azservicebus.Message{Body: b.body, ApplicationProperties: map[string]any{"provider_id": provider}})
			w.refusedAs(b.reason, b.fault, b.body, b.row)
		}})
	}
	properties := []struct {
		name       string
		properties map[string]any
		fault      string
	}{
		{"08_provider_id_missing", nil, "provider_id: missing"},
		{"08_provider_id_is_a_number", map[string]any{"provider_id": int64(7)}, "provider_id: not a string"},
		{"08_provider_id_empty", map[string]any{"provider_id": ""}, "provider_id: not a string"},
		{"08_provider_id_too_long", map[string]any{"provider_id": strings.Repeat("p", 65)}, "provider_id: not a string"},
		{"08_setting_id_is_a_number", map[string]any{"provider_id": provider, "setting_id": 1.5}, "setting_id: not a string"},
		{"08_setting_id_is_null", map[string]any{"provider_id": provider, "setting_id": nil}, "setting_id: not a string"},
		{"08_setting_id_empty", map[string]any{"provider_id": provider, "setting_id": ""}, "setting_id: not a string"},
	}
	for _, p := range properties {
		list = append(list, situation{p.name, func(t *testing.T, url string) {
			w := running(t, url)
			body := newCreate().body()
			w.send(&azservicebus.Message{Body: body, ApplicationProperties: p.properties})
			w.refusedAs(consumer.ReasonInvalidMessage, p.fault, body, true)
		}})
	}
	return append(list, situation{"01_body_is_a_value_or_a_sequence", func(t *testing.T, url string) {
		w := running(t, url)
		w.sendAnnotated(&azservicebus.AMQPAnnotatedMessage{
			Body:                  azservicebus.AMQPAnnotatedMessageBody{Value: string(newCreate().body())},
			ApplicationProperties: map[string]any{"provider_id": provider},
		})
		w.refusedAs(consumer.ReasonInvalidMessage, "body: empty", nil, false)
	}}, situation{"08_invalid_never_changes_a_row", func(t *testing.T, url string) {
		w := running(t, url)
		a := newCreate()
		w.enqueue(a)
		w.noDeadLetter()
		before := w.row(a.id())
		w.enqueue(a.with("schema_version", 3))
		w.deadLetter(consumer.ReasonUnsupportedSchema)
		w.sameRow(before)
	}})
}

// refusedAs checks a dead letter for a message that does not validate.
func (w *world) refusedAs(reason consumer.Reason, fault string, body []byte, hasRow bool) {
	w.t.Helper()
	description := w.deadLetter(reason)
	if !strings.Contains(description, fault) {
		w.t.Errorf("description %q does not name %q", description, fault)
	}
	var doc struct {
		ActionID string `json:"action_id"`
	}
	_ = json.Unmarshal(body, &doc) // most bodies here are wrong on purpose
	if hasRow {
		w.hasRow(doc.ActionID, store.Failed, reason, "")
	} else if counts, err := w.store.Counts(context.Background()); err != nil || counts[store.Failed] != 0 {
		w.t.Errorf("rows %v, %v, want none", counts, err)
	}
	w.nothingSent()
}
