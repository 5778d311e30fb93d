package consumer

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/store"
)

const sampleCreate = `{"schema_version":1,"action_id":"5E0F3D3A-0C5F-4A53-9D6C-0F6A3B0C7A11","action_type":"worklist.create_item",
	"parameters":{"worklist_item":{"accession_number":"SYN00000001",
	"participant":{"nhs_number":"9990000018","name":"SYNTHETIC^PATIENT","birth_date":"19700101"},
	"scheduled":{"date":"20300506","time":"093000"},"procedure":{"modality":"MG"}}}}`

func TestCopyOf(t *testing.T) {
	t.Parallel()
	sequence, enqueued, lockedUntil := int64(41), noon.Add(-time.Minute), noon.Add(time.Minute)
	expires, contentType, session := noon.Add(time.Hour), "application/json", "leeds"
	reason, ttl := "stale", time.Hour
	original := &azservicebus.ReceivedMessage{
		MessageID: "original", Body: []byte(sampleCreate), SequenceNumber: &sequence, EnqueuedTime: &enqueued,
		LockedUntil: &lockedUntil, ExpiresAt: &expires, TimeToLive: &ttl, ContentType: &contentType, SessionID: &session, DeadLetterReason: &reason,
		ApplicationProperties: map[string]any{
			"provider_id": "leeds", "traceparent": "00-1-2-03", "bytes": []byte{1, 2},
			"DeadLetterReason": reason, "DeadLetterErrorDescription": "stale",
		},
	}
	in, err := decode(original)
	if err != nil {
		t.Fatal(err)
	}
	first := copyOf(original, in, outcome{settlement: store.Retry, due: noon.Add(5 * time.Second)})
	left, due := time.Hour-5*time.Second, noon.Add(5*time.Second)
	id := strings.ToLower("5E0F3D3A-0C5F-4A53-9D6C-0F6A3B0C7A11") + ":41"
	want := &azservicebus.Message{
		MessageID: &id, Body: original.Body, ContentType: &contentType, SessionID: &session, ScheduledEnqueueTime: &due, TimeToLive: &left,
		ApplicationProperties: map[string]any{
			"provider_id": "leeds", "traceparent": "00-1-2-03", "bytes": []byte{1, 2},
			"original_sequence_number": int64(41), "original_enqueued_at": enqueued, "original_expires_at": expires,
			"copied_from_sequence_number": int64(41),
		},
	}
	if diff := cmp.Diff(want, first); diff != "" {
		t.Error(diff)
	}
	first.ApplicationProperties["bytes"].([]byte)[0] = 9
	if original.ApplicationProperties["bytes"].([]byte)[0] != 1 {
		t.Error("the copy shares its properties with the message that is still to be settled")
	}

	// A copy of the copy still tells of the first message.
	sequence2, enqueued2 := int64(77), noon.Add(5*time.Second)
	in, err = decode(&azservicebus.ReceivedMessage{Body: first.Body, SequenceNumber: &sequence2, EnqueuedTime: &enqueued2, ApplicationProperties: first.ApplicationProperties})
	if err != nil {
		t.Fatal(err)
	}
	if in.sequence != 77 || in.original != 41 || in.copiedFrom != 41 || !in.enqueued.Equal(enqueued) || !in.expires.Equal(expires) {
		t.Errorf("copy decodes to %+v", in)
	}
	unrecorded := copyOf(original, in, outcome{settlement: store.Postpone, due: due, unrecorded: true})
	if unrecorded.ApplicationProperties["postponements"] != int64(1) {
		t.Errorf("postponements %v, want 1", unrecorded.ApplicationProperties["postponements"])
	}
	if from, ok := unrecorded.ApplicationProperties["copied_from_sequence_number"]; ok {
		t.Errorf("an unrecorded postponement says it is a copy of %v, want what its message said", from)
	}
	if stands := unrecorded.ApplicationProperties["stands_for_sequence_number"]; stands != int64(77) {
		t.Errorf("an unrecorded postponement stands for %v, want its message", stands)
	}

	// In SQL what follows goes on from the message that the postponed one stands for.
	sequence3 := int64(99)
	in, err = decode(&azservicebus.ReceivedMessage{Body: first.Body, SequenceNumber: &sequence3, ApplicationProperties: unrecorded.ApplicationProperties})
	if err != nil {
		t.Fatal(err)
	}
	recorded := copyOf(original, in, outcome{settlement: store.Retry, due: due})
	if from, stands := recorded.ApplicationProperties["copied_from_sequence_number"], recorded.ApplicationProperties["stands_for_sequence_number"]; from != int64(77) || stands != nil {
		t.Errorf("copied from %v, stands for %v, want 77 and nothing", from, stands)
	}
	if want := strings.TrimSuffix(id, "41") + "99"; *recorded.MessageID != want {
		t.Errorf("message id %s, want %s", *recorded.MessageID, want)
	}
}

func TestEncode(t *testing.T) {
	t.Parallel()
	setting := "north"
	m, err := Encode("leeds", &setting, []byte(sampleCreate))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(m.Body, []byte(sampleCreate)) {
		t.Error("the body is not sent as it stands")
	}
	if diff := cmp.Diff(map[string]any{"provider_id": "leeds", "setting_id": "north"}, m.ApplicationProperties); diff != "" {
		t.Error(diff)
	}
	_, err = Encode("", nil, []byte(`{"action_id":"SECRET"}`))
	var invalid *InvalidError
	if !errors.As(err, &invalid) || invalid.Reason != ReasonInvalidMessage || len(invalid.Faults) != 3 {
		t.Errorf("error %v, want every fault of an invalid message", err)
	}
	if strings.Contains(err.Error(), "SECRET") {
		t.Errorf("error holds a value: %v", err)
	}
}

func TestDigest(t *testing.T) {
	t.Parallel()
	of := func(body string) string {
		doc, fault := parseBody([]byte(body))
		if fault != "" {
			t.Fatal(fault)
		}
		return digest(doc)
	}
	base := of(`{"action_type":"a","parameters":{"x":1,"y":{"p":"q","r":[1,2]}},"timestamp":"1"}`)
	for _, same := range []string{
		`{"parameters":{"y":{"r":[1,2],"p":"q"},"x":1},"action_type":"a"}`,
		`{"action_type":"a","parameters":{"x":1,"y":{"p":"\u0071","r":[1,2]}},"timestamp":"2","action_id":"z"}`,
	} {
		if of(same) != base {
			t.Errorf("%s has another digest", same)
		}
	}
	for _, other := range []string{
		`{"action_type":"b","parameters":{"x":1,"y":{"p":"q","r":[1,2]}}}`,
		`{"action_type":"a","parameters":{"x":1,"y":{"p":"q","r":[2,1]}}}`,
		`{"action_type":"a"}`,
	} {
		if of(other) == base {
			t.Errorf("%s has the same digest", other)
		}
	}
}

// FuzzDecode: whatever comes from the queue is an action or an [InvalidError]
// that names no value, and what is accepted is canonical.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(sampleCreate), "leeds", "")
	f.Add([]byte(`{"schema_version":1,"action_id":"5e0f3d3a-0c5f-4a53-9d6c-0f6a3b0c7a11","action_type":"worklist.update_status","parameters":{"worklist_item":{"accession_number":"A","status":"completed"}}}`), "p", "s")
	f.Add([]byte(`[]`), "", "\x00")
	f.Add([]byte(`{"a":1e999,"a":"b"}`), "p", "s")
	f.Fuzz(func(t *testing.T, body []byte, provider, setting string) {
		m := &azservicebus.ReceivedMessage{Body: body, ApplicationProperties: map[string]any{"provider_id": provider, "setting_id": setting}}
		in, err := decode(m)
		var invalid *InvalidError
		if err != nil {
			if !errors.As(err, &invalid) || len(invalid.Faults) == 0 {
				t.Fatalf("error %v", err)
			}
			return
		}
		if !isUUID(in.actionID) || in.actionID != strings.ToLower(in.actionID) || in.providerID == "" || in.accession == "" || len(in.digest) != 64 {
			t.Fatalf("accepted %+v", in)
		}
		if in.create {
			if _, err := time.Parse("20060102", in.scheduled); err != nil {
				t.Fatal(err)
			}
		}
		if !json.Valid(body) {
			t.Fatal("accepted what is not JSON")
		}
	})
}

// The README explains every reason, and none that there is not.
func TestReadmeReasons(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(readme), "| reason | what it means, and what helps |\n| --- | --- |\n")
	var told []Reason
	for line := range strings.Lines(table) {
		name, ok := strings.CutPrefix(line, "| `")
		if !ok {
			break
		}
		name, _, _ = strings.Cut(name, "`")
		told = append(told, Reason(name))
	}
	if diff := cmp.Diff(Reasons(), told); diff != "" {
		t.Error(diff)
	}
}
