package amqp_test

import (
	"testing"
	"time"

	peer "github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

func ptr[T any](v T) *T { return &v }

func fullMessage(t testing.TB) (*peer.Message, []byte) {
	t.Helper()
	m := &peer.Message{
		Header:              &peer.MessageHeader{Durable: true, Priority: 7, TTL: time.Minute, DeliveryCount: 3},
		DeliveryAnnotations: peer.Annotations{"for-this-hop": "dropped"},
		Annotations:         peer.Annotations{"x-opt-partition-key": "p"},
		Properties: &peer.MessageProperties{
			MessageID: "id", ReplyTo: ptr("answers"), CorrelationID: uint64(5), GroupID: ptr("session"), CreationTime: ptr(time.UnixMilli(5).UTC()),
		},
		ApplicationProperties: map[string]any{"a": int32(1)},
		Data:                  [][]byte{[]byte("one"), []byte("two")},
		Footer:                peer.Annotations{"f": true},
	}
	encoded, err := m.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return m, encoded
}

func TestParseMessage(t *testing.T) {
	sent, encoded := fullMessage(t)
	m, err := amqp.ParseMessage(encoded)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(amqp.Header{Durable: true, Priority: 7, TTL: time.Minute, HasTTL: true, DeliveryCount: 3}, m.Header); diff != "" {
		t.Error(diff)
	}
	for index, want := range map[int]any{
		amqp.PropertyMessageID: "id", amqp.PropertyReplyTo: "answers", amqp.PropertyCorrelationID: uint64(5), amqp.PropertyGroupID: "session",
	} {
		if got := amqp.NewDecoder(m.Property(index)).Value(); got != want {
			t.Errorf("property %d is %v, want %v", index, got, want)
		}
	}
	if m.Property(1) != nil || m.Property(99) != nil {
		t.Error("an absent property has a value")
	}
	if diff := cmp.Diff([][]byte{[]byte("one"), []byte("two")}, m.Data()); diff != "" || m.Value() != nil {
		t.Errorf("value %v, data:\n%s", m.Value(), diff)
	}

	w := amqp.MessageAnnotations(m.Header.Append(nil))
	for _, e := range m.Annotations {
		w.Entry(e)
	}
	w.Long("long", -1)
	w.Int("int", 2)
	w.Time("time", time.UnixMilli(3))
	w.Text("text", "t")
	w.UUID("uuid", amqp.UUID{4})
	var again peer.Message
	if err := again.UnmarshalBinary(m.AppendBare(w.End())); err != nil {
		t.Fatal(err)
	}
	sent.DeliveryAnnotations = nil
	sent.Annotations = peer.Annotations{
		"x-opt-partition-key": "p", "long": int64(-1), "int": int32(2), "time": time.UnixMilli(3).UTC(), "text": "t", "uuid": peer.UUID{4},
	}
	if diff := cmp.Diff(sent, &again, cmpopts.IgnoreUnexported(peer.Message{})); diff != "" {
		t.Errorf("sent and passed on differ:\n%s", diff)
	}
}

func TestParseMessageDefaults(t *testing.T) {
	m, err := amqp.ParseMessage(nil)
	if err != nil || m.Header.Priority != 4 || m.Header.HasTTL || m.Value() != nil || len(m.Data()) != 0 || m.Property(0) != nil {
		t.Errorf("message %+v, error %v", m, err)
	}
}

func TestParseMessageFaults(t *testing.T) {
	tests := map[string][]byte{
		"not described":       {0x40},
		"unknown section":     {0x00, 0x53, 0x79, 0x40},
		"data of a string":    {0x00, 0x53, 0x75, 0xa1, 1, 'x'},
		"properties as a map": {0x00, 0x53, 0x73, 0xc1, 1, 0},
		"annotations as list": {0x00, 0x53, 0x72, 0x45},
		"header of text":      {0x00, 0x53, 0x70, 0xc0, 4, 1, 0xa1, 1, 'x'},
		"odd map":             {0x00, 0x53, 0x74, 0xc1, 2, 1, 0x40},
		"cut short":           {0x00, 0x53, 0x75, 0xa0, 9, 1},
	}
	for name, encoded := range tests {
		if m, err := amqp.ParseMessage(encoded); err == nil {
			t.Errorf("%s: parsed %+v", name, m)
		}
	}
}

// FuzzDecodeMessage takes apart what any client may send, and uses the parts as the broker does.
func FuzzDecodeMessage(f *testing.F) {
	_, encoded := fullMessage(f)
	f.Add(encoded)
	for _, v := range values {
		f.Add([]byte(amqp.ValueBody(v)))
	}
	f.Fuzz(func(t *testing.T, encoded []byte) {
		m, err := amqp.ParseMessage(encoded)
		if err != nil {
			return
		}
		m.Value()
		m.Data()
		for i := range 13 {
			m.Property(i)
		}
		out := m.AppendBare(m.Header.Append(nil))
		again, err := amqp.ParseMessage(out)
		if err != nil {
			t.Fatalf("passed on: %v", err)
		}
		if diff := cmp.Diff(m.Body, again.Body); diff != "" {
			t.Error(diff)
		}
		d := amqp.NewDecoder(encoded)
		if v := d.Value(); d.Err() == nil {
			amqp.AppendValue(nil, v)
		}
	})
}
