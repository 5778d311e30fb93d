package consumer_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// clinic is where the clocks of these tests hang: an hour before UTC's in May.
var clinic = time.FixedZone("clinic", 60*60)

func sampleItem() consumer.CreateItem {
	return consumer.CreateItem{
		ActionID:      "0f0f0f0f-0000-4000-8000-000000000001",
		Timestamp:     time.Date(2030, 5, 6, 8, 30, 0, 0, clinic),
		SourceSystem:  "clinic",
		AppointmentID: "APPOINTMENT-1", ParticipantID: "PARTICIPANT-1",
		AccessionNumber: "SYN00000001",
		NHSNumber:       "9990000018",
		Name:            consumer.PersonName{Family: "SYNTHETIC", Given: "PATIENT"},
		BirthDate:       time.Date(1970, 1, 1, 0, 0, 0, 0, clinic), // still 1969 in UTC
		Sex:             "F",
		Scheduled:       time.Date(2030, 5, 6, 9, 30, 0, 0, clinic),
		Modality:        "MG", StudyDescription: "SYNTHETIC STUDY",
	}
}

// fieldsOf is the body, parsed, which Encode accepts.
func fieldsOf(t interface {
	Helper()
	Fatal(...any)
}, body []byte, err error) map[string]any {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := consumer.Encode("leeds", nil, body); err != nil {
		t.Fatal("Encode refuses what was built: ", err)
	}
	var fields map[string]any
	if err := json.Unmarshal(body, &fields); err != nil {
		t.Fatal(err)
	}
	return fields
}

func TestCreateItemBody(t *testing.T) {
	t.Parallel()
	want := map[string]any{
		"schema_version": 1.0, "action_id": "0f0f0f0f-0000-4000-8000-000000000001", "action_type": "worklist.create_item",
		"timestamp": "2030-05-06T07:30:00Z", "source_system": "clinic",
		"source_reference": map[string]any{"appointment_id": "APPOINTMENT-1", "participant_id": "PARTICIPANT-1"},
		"parameters": map[string]any{"worklist_item": map[string]any{
			"accession_number": "SYN00000001",
			"participant":      map[string]any{"nhs_number": "9990000018", "name": "SYNTHETIC^PATIENT", "birth_date": "19700101", "sex": "F"},
			"scheduled":        map[string]any{"date": "20300506", "time": "093000"},
			"procedure":        map[string]any{"modality": "MG", "study_description": "SYNTHETIC STUDY"},
		}},
	}
	body, err := sampleItem().Body()
	if diff := cmp.Diff(want, fieldsOf(t, body, err)); diff != "" {
		t.Error(diff)
	}
	test := sampleItem()
	test.Test = true
	body, err = test.Body()
	want["action_type"] = "worklist.create_test_item"
	if diff := cmp.Diff(want, fieldsOf(t, body, err)); diff != "" {
		t.Error(diff)
	}
}

// What is empty is left out or made up, anew each time.
func TestCreateItemBodyOfTheLeast(t *testing.T) {
	t.Parallel()
	least := sampleItem()
	least.ActionID, least.AccessionNumber, least.Timestamp = "", "", time.Time{}
	least.SourceSystem, least.AppointmentID, least.ParticipantID, least.Sex, least.StudyDescription = "", "", "", "", ""
	before := time.Now().Truncate(time.Second)
	var made []string
	for range 2 {
		body, err := least.Body()
		fields := fieldsOf(t, body, err)
		for _, name := range []string{"source_system", "source_reference", "sex", "study_description"} {
			if strings.Contains(string(body), name) {
				t.Errorf("%s is not left out", name)
			}
		}
		if at, err := time.Parse(time.RFC3339, fields["timestamp"].(string)); err != nil || at.Before(before) || at.After(time.Now()) {
			t.Errorf("timestamp %v is not now", fields["timestamp"])
		}
		item := fields["parameters"].(map[string]any)["worklist_item"].(map[string]any)
		made = append(made, fields["action_id"].(string), item["accession_number"].(string))
	}
	if made[0] == made[2] || made[1] == made[3] {
		t.Errorf("two actions share an id or a number: %v", made)
	}
}

func TestUpdateStatusBody(t *testing.T) {
	t.Parallel()
	update := consumer.UpdateStatus{
		ActionID: "0f0f0f0f-0000-4000-8000-000000000002", Timestamp: time.Date(2030, 5, 6, 9, 0, 0, 0, time.UTC), SourceSystem: "clinic",
		AppointmentID: "APPOINTMENT-1", AccessionNumber: "SYN00000001", Status: "in progress",
	}
	body, err := update.Body()
	want := map[string]any{
		"schema_version": 1.0, "action_id": "0f0f0f0f-0000-4000-8000-000000000002", "action_type": "worklist.update_status",
		"timestamp": "2030-05-06T09:00:00Z", "source_system": "clinic",
		"source_reference": map[string]any{"appointment_id": "APPOINTMENT-1"},
		"parameters":       map[string]any{"worklist_item": map[string]any{"accession_number": "SYN00000001", "status": "in progress"}},
	}
	if diff := cmp.Diff(want, fieldsOf(t, body, err)); diff != "" {
		t.Error(diff)
	}
	_, err = consumer.UpdateStatus{ActionID: "SECRET", Status: "SECRET", SourceSystem: "SECRET\n"}.Body()
	refused(t, err, consumer.ReasonInvalidMessage,
		"action_id: not a UUID",
		"parameters.worklist_item.accession_number: missing",
		"parameters.worklist_item.status: not one of IN PROGRESS, COMPLETED, DISCONTINUED",
		"source_system: not text without control characters")
}

func refused(t *testing.T, err error, reason consumer.Reason, faults ...string) {
	t.Helper()
	var bad *consumer.InvalidError
	if !errors.As(err, &bad) || bad.Reason != reason {
		t.Errorf("error %v, want %s", err, reason)
		return
	}
	if diff := cmp.Diff(faults, bad.Faults); diff != "" {
		t.Error(diff)
	}
	if strings.Contains(err.Error(), "SEC") {
		t.Errorf("the error quotes a value: %v", err)
	}
}

// Nothing given: each field that is required is missing, and all are told at once.
func TestCreateItemBodyTellsEveryFault(t *testing.T) {
	t.Parallel()
	_, err := consumer.CreateItem{}.Body()
	item := "parameters.worklist_item."
	refused(t, err, consumer.ReasonInvalidMessage,
		item+"participant.name: family name: missing", item+"participant.nhs_number: missing", item+"participant.birth_date: missing",
		item+"scheduled.date: missing", item+"scheduled.time: missing", item+"procedure.modality: missing")

	_, err = consumer.CreateItem{
		ActionID: "SECRET", SourceSystem: "SEC\x85RET", AppointmentID: "SEC\nRET", ParticipantID: "SECRET\xff",
		AccessionNumber: strings.Repeat("S", 17), NHSNumber: "SECRET\x00", Name: consumer.PersonName{Family: "SEC^RET", Given: "SEC=RET"},
		BirthDate: time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC), Scheduled: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC),
		Sex: "SECRET", Modality: "secret", StudyDescription: `SEC\RET`,
	}.Body()
	delimits := ` holds ^, = or \, which delimit parts of a name in DICOM`
	refused(t, err, consumer.ReasonInvalidMessage,
		item+"participant.name: family name:"+delimits, item+"participant.name: given name:"+delimits,
		"action_id: not a UUID", item+"accession_number: not a string of 1 to 16 characters",
		item+"participant.nhs_number: not a string of 1 to 64 characters", item+"participant.birth_date: not a date YYYYMMDD",
		item+"scheduled.date: not a date YYYYMMDD",
		"source_system: not text without control characters", "source_reference.appointment_id: not text without control characters",
		"source_reference.participant_id: not text without control characters", item+"participant.sex: not F, M or O",
		item+"procedure.modality: not 1 to 16 of A to Z, 0 to 9, space and underscore",
		item+"procedure.study_description: not 1 to 64 characters without a backslash or control character")

	huge := sampleItem()
	huge.SourceSystem = strings.Repeat("S", 1<<20)
	_, err = huge.Body()
	var bad *consumer.InvalidError
	if !errors.As(err, &bad) || bad.Reason != consumer.ReasonPayloadTooLarge {
		t.Errorf("error %v, want PayloadTooLarge", err)
	}
}

// Each field at its bound and just past it, where DICOM is narrower than the consumer.
func TestCreateItemBodyBounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		what string
		set  func(*consumer.CreateItem, string)
		good []string
		bad  []string
	}{
		{"accession number", func(c *consumer.CreateItem, s string) { c.AccessionNumber = s },
			[]string{"1", strings.Repeat("é", 16)}, []string{" ", strings.Repeat("A", 17), `A\B`, "A\u0085B"}},
		{"nhs number", func(c *consumer.CreateItem, s string) { c.NHSNumber = s },
			[]string{strings.Repeat("9", 64)}, []string{strings.Repeat("9", 65), `9\9`, "\u00a0"}},
		{"sex", func(c *consumer.CreateItem, s string) { c.Sex = s },
			[]string{"", "F", "M", "O"}, []string{"f", "X", "U", " ", "FM"}},
		{"modality", func(c *consumer.CreateItem, s string) { c.Modality = s },
			[]string{"MG", "A_1 " + strings.Repeat("Z", 12)}, []string{"", " ", "mg", `MG\CR`, "MÉ", strings.Repeat("Z", 17)}},
		{"study description", func(c *consumer.CreateItem, s string) { c.StudyDescription = s },
			[]string{"", "x", strings.Repeat("é", 64)}, []string{" ", strings.Repeat("x", 65), `a\b`, "a\nb", "\xff"}},
	} {
		for good, list := range map[bool][]string{true: c.good, false: c.bad} {
			for _, value := range list {
				item := sampleItem()
				c.set(&item, value)
				if _, err := item.Body(); (err == nil) != good {
					t.Errorf("%s %q: error %v", c.what, value, err)
				}
			}
		}
	}
}

// Whatever the fields are, the body is one that Encode accepts or there is none.
func TestBodyIsWhatEncodeAccepts(t *testing.T) {
	t.Parallel()
	text := rapid.OneOf(rapid.String(), rapid.StringMatching(`[ -~]{0,70}`), rapid.Just("A"))
	when := rapid.Custom(func(t *rapid.T) time.Time {
		return time.Unix(rapid.Int64Range(-1e11, 1e12).Draw(t, "seconds"), 0).In(clinic)
	})
	rapid.Check(t, func(t *rapid.T) {
		item := sampleItem()
		for _, field := range []*string{&item.SourceSystem, &item.AppointmentID, &item.AccessionNumber, &item.NHSNumber, &item.Name.Family, &item.Modality, &item.StudyDescription} {
			if rapid.IntRange(0, 3).Draw(t, "change") == 0 {
				*field = text.Draw(t, "text")
			}
		}
		item.BirthDate, item.Scheduled = when.Draw(t, "born"), when.Draw(t, "scheduled")
		body, err := item.Body()
		var bad *consumer.InvalidError
		switch {
		case errors.As(err, &bad) && len(bad.Faults) > 0 && body == nil:
		case err == nil:
			fieldsOf(t, body, err)
		default:
			t.Fatalf("body %q, error %v", body, err)
		}
	})
}
