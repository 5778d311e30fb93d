package servicebustest_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

func TestSending(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "a message arrives and is gone once it is completed", prove: func(t *testing.T, r *rig) {
			r.send("SYNTHETIC^ONE")
			receiver := r.receiver()
			m := r.receiveOne(receiver)
			if string(m.Body) != "SYNTHETIC^ONE" || m.DeliveryCount != 1 || *m.SequenceNumber != 1 {
				t.Errorf("received %q, delivery %d, sequence number %d", m.Body, m.DeliveryCount, *m.SequenceNumber)
			}
			must(t, receiver.CompleteMessage(r.ctx, m, nil))
			r.state(servicebustest.QueueState{})
		}},
		{name: "all properties come back as they were sent", prove: propertiesComeBack},
		{name: "application properties keep their types", prove: propertyTypes},
		{name: "annotations of the sender are kept, those of the service replaced", prove: annotationsKept},
		{name: "a batch is its messages, in order", prove: func(t *testing.T, r *rig) {
			sender := r.sender()
			batch, err := sender.NewMessageBatch(r.ctx, nil)
			must(t, err)
			for i := range 100 {
				must(t, batch.AddMessage(&azservicebus.Message{Body: fmt.Appendf(nil, "%d", i)}, nil))
			}
			must(t, sender.SendMessageBatch(r.ctx, batch, nil))
			for i, m := range r.receive(r.receiver(), 100) {
				if string(m.Body) != fmt.Sprint(i) || *m.SequenceNumber != int64(i+1) {
					t.Errorf("message %d: body %s, sequence number %d", i, m.Body, *m.SequenceNumber)
				}
			}
		}},
		{name: "a batch takes 256 KiB and no more", prove: func(t *testing.T, r *rig) {
			sender := r.sender()
			batch, err := sender.NewMessageBatch(r.ctx, nil)
			must(t, err)
			half := &azservicebus.Message{Body: make([]byte, 127<<10)}
			must(t, batch.AddMessage(half, nil))
			must(t, batch.AddMessage(half, nil))
			if err := batch.AddMessage(half, nil); !errors.Is(err, azservicebus.ErrMessageTooLarge) {
				t.Errorf("the third of 127 KiB: %v", err)
			}
			must(t, sender.SendMessageBatch(r.ctx, batch, nil))
			r.state(servicebustest.QueueState{Active: 2})
		}},
		{name: "a message over the limit is too large", queue: servicebustest.Queue{MaxMessageBytes: 2000}, prove: func(t *testing.T, r *rig) {
			err := r.sender().SendMessage(r.ctx, &azservicebus.Message{Body: make([]byte, 2001)}, nil)
			if !errors.Is(err, azservicebus.ErrMessageTooLarge) {
				t.Errorf("error %v", err)
			}
			r.state(servicebustest.QueueState{})
		}},
		{name: "a message of many frames arrives whole", prove: func(t *testing.T, r *rig) {
			body := bytes.Repeat([]byte("0123456789abcdef"), 16000)
			r.sendMessage(&azservicebus.Message{Body: body})
			receiver := r.receiver()
			m := r.receiveOne(receiver)
			if !bytes.Equal(m.Body, body) {
				t.Errorf("received %d bytes, sent %d", len(m.Body), len(body))
			}
			must(t, receiver.CompleteMessage(r.ctx, m, nil))
		}},
		{name: "a message sent settled is enqueued too", prove: func(t *testing.T, r *rig) {
			sender, err := r.rawSession().NewSender(r.ctx, queueName, &amqp.SenderOptions{SettlementMode: amqp.SenderSettleModeSettled.Ptr()})
			must(t, err)
			must(t, sender.Send(r.ctx, amqp.NewMessage([]byte("settled")), nil))
			r.state(servicebustest.QueueState{Active: 1})
		}},
		{name: "a sender that settles second has its message confirmed", prove: func(t *testing.T, r *rig) {
			sender, err := r.rawSession().NewSender(r.ctx, queueName, &amqp.SenderOptions{RequestedReceiverSettleMode: amqp.ReceiverSettleModeSecond.Ptr()})
			must(t, err)
			must(t, sender.Send(r.ctx, amqp.NewMessage([]byte("second")), nil))
			r.state(servicebustest.QueueState{Active: 1})
		}},
		{name: "senders share a queue and never run out of credit", prove: manySenders},
		{name: "an unknown queue is not found", prove: func(t *testing.T, r *rig) {
			sender, err := r.client.NewSender("elsewhere", nil)
			must(t, err)
			condition(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil), amqp.ErrCondNotFound)
		}},
		{name: "nothing can be sent to a dead-letter queue", prove: func(t *testing.T, r *rig) {
			sender, err := r.client.NewSender(deadName, nil)
			must(t, err)
			condition(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil), amqp.ErrCondNotAllowed)
		}},
		{name: "a queue's name is found in any case", prove: func(t *testing.T, r *rig) {
			sender, err := r.client.NewSender(strings.ToUpper(queueName), nil)
			must(t, err)
			must(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil))
			r.state(servicebustest.QueueState{Active: 1})
		}},
	})
}

func propertiesComeBack(t *testing.T, r *rig) {
	sent := &azservicebus.Message{
		Body: []byte(`{"name":"SYNTHETIC^PROPERTIES"}`), MessageID: ptr("id-1"), CorrelationID: ptr("correlation-1"), Subject: ptr("create"),
		ContentType: ptr("application/json"), To: ptr("gateway"), ReplyTo: ptr("answers"), ReplyToSessionID: ptr("answers-1"),
		SessionID: ptr("session-1"), PartitionKey: ptr("session-1"), TimeToLive: ptr(time.Hour),
		ApplicationProperties: map[string]any{"provider_id": "7"},
	}
	before := time.Now().Add(-time.Second)
	r.sendMessage(sent)
	m := r.receiveOne(r.receiver())
	got := m.Message()
	got.ScheduledEnqueueTime = nil
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Errorf("sent and received differ:\n%s", diff)
	}
	if m.EnqueuedTime.Before(before) || m.EnqueuedTime.After(time.Now()) {
		t.Errorf("enqueued at %s", m.EnqueuedTime)
	}
	if *m.EnqueuedSequenceNumber != *m.SequenceNumber || m.DeadLetterSource != nil || m.State != azservicebus.MessageStateActive {
		t.Errorf("enqueued as %d, now %d, state %v, dead-lettered from %v", *m.EnqueuedSequenceNumber, *m.SequenceNumber, m.State, m.DeadLetterSource)
	}
	if got := m.ExpiresAt.Sub(*m.EnqueuedTime); got != time.Hour {
		t.Errorf("expires after %s", got)
	}
}

func propertyTypes(t *testing.T, r *rig) {
	sent := map[string]any{
		"bool": true, "int8": int8(-8), "int16": int16(-16), "int32": int32(-32), "int64": int64(-1 << 40), "uint8": uint8(8),
		"uint16": uint16(16), "uint32": uint32(1 << 31), "uint64": uint64(1 << 63), "float32": float32(1.5), "float64": 2.5,
		"string": "text", "long": strings.Repeat("x", 300), "time": time.UnixMilli(1700000000123).UTC(), "null": nil,
		"uuid": amqp.UUID{1, 2, 3}, "binary": []byte{0, 1},
	}
	r.sendMessage(&azservicebus.Message{ApplicationProperties: sent})
	m := r.receiveOne(r.receiver())
	if diff := cmp.Diff(sent, m.ApplicationProperties); diff != "" {
		t.Errorf("sent and received differ:\n%s", diff)
	}
}

func annotationsKept(t *testing.T, r *rig) {
	r.rawSend(&amqp.Message{
		Annotations: amqp.Annotations{"x-opt-sequence-number": int64(99), "x-opt-locked-until": "soon", "x-own": "kept", int64(5): "five"},
		Footer:      amqp.Annotations{"checksum": int64(1)},
		Data:        [][]byte{[]byte("a"), []byte("b")},
	})
	m := r.rawReceive()
	if m.Annotations["x-opt-sequence-number"] != int64(1) || m.Annotations["x-own"] != "kept" || m.Annotations[int64(5)] != "five" {
		t.Errorf("annotations %v", m.Annotations)
	}
	if diff := cmp.Diff([][]byte{[]byte("a"), []byte("b")}, m.Data); diff != "" || m.Footer["checksum"] != int64(1) {
		t.Errorf("footer %v, data differ:\n%s", m.Footer, diff)
	}
}

func manySenders(t *testing.T, r *rig) {
	const senders, each = 4, 700
	var running sync.WaitGroup
	session := r.rawSession()
	for range senders {
		sender, err := session.NewSender(r.ctx, queueName, nil)
		must(t, err)
		running.Go(func() {
			for range each {
				if err := sender.Send(r.ctx, amqp.NewMessage([]byte("x")), nil); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	running.Wait()
	r.state(servicebustest.QueueState{Active: senders * each})
}

func TestOddMessages(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "a value body arrives", prove: func(t *testing.T, r *rig) {
			r.rawSend(&amqp.Message{Value: map[string]any{"name": "SYNTHETIC^VALUE"}})
			m := r.receiveOne(r.receiver())
			if diff := cmp.Diff(any(map[string]any{"name": "SYNTHETIC^VALUE"}), m.RawAMQPMessage.Body.Value); diff != "" || m.Body != nil {
				t.Errorf("body %q, value differs:\n%s", m.Body, diff)
			}
		}},
		{name: "a sequence body arrives", prove: func(t *testing.T, r *rig) {
			r.rawSend(&amqp.Message{Sequence: [][]any{{int64(1), "one"}, {int64(2)}}})
			m := r.receiveOne(r.receiver())
			if diff := cmp.Diff([][]any{{int64(1), "one"}, {int64(2)}}, m.RawAMQPMessage.Body.Sequence); diff != "" || m.Body != nil {
				t.Errorf("body %q, sequence differs:\n%s", m.Body, diff)
			}
		}},
		{name: "message ids of any type arrive", prove: func(t *testing.T, r *rig) {
			ids := []any{uint64(7), amqp.UUID{9}, []byte{1}, "text", nil}
			for _, id := range ids {
				r.rawSend(&amqp.Message{Properties: &amqp.MessageProperties{MessageID: id}, Data: [][]byte{{1}}})
			}
			for i, m := range r.receive(r.receiver(), len(ids)) {
				if diff := cmp.Diff(ids[i], m.RawAMQPMessage.Properties.MessageID); diff != "" {
					t.Errorf("message id differs:\n%s", diff)
				}
			}
			if got := r.server.Messages(queueName)[3].MessageID; got != "text" {
				t.Errorf("the server tells message id %q", got)
			}
		}},
		{name: "a message without properties has delivery count 0", prove: func(t *testing.T, r *rig) {
			r.rawSend(amqp.NewMessage([]byte("bare")))
			if m := r.receiveOne(r.receiver()); m.DeliveryCount != 0 || string(m.Body) != "bare" {
				t.Errorf("delivery count %d, body %q", m.DeliveryCount, m.Body)
			}
		}},
		{name: "a reason that is no text reaches the client as it was sent", prove: oddReason},
		{name: "an empty message arrives", prove: func(t *testing.T, r *rig) {
			r.sendMessage(&azservicebus.Message{})
			r.receiveOne(r.receiver())
		}},
	})
}

// oddReason also shows what such a message does to the SDK: it panics.
func oddReason(t *testing.T, r *rig) {
	r.rawSend(&amqp.Message{
		Properties: &amqp.MessageProperties{}, ApplicationProperties: map[string]any{"DeadLetterReason": int64(5)}, Data: [][]byte{{1}},
	})
	receiver := r.receiver()
	panicked := func() (v any) {
		defer func() { v = recover() }()
		receiver.PeekMessages(r.ctx, 1, nil)
		return nil
	}()
	if panicked == nil {
		t.Error("the SDK did not panic on peeking")
	}
	if m := r.rawReceive(); m.ApplicationProperties["DeadLetterReason"] != int64(5) {
		t.Errorf("properties %v", m.ApplicationProperties)
	}
}
