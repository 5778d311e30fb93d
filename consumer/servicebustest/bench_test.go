package servicebustest_test

import (
	"context"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

// BenchmarkRoundTrip sends, receives and completes one message per iteration through the SDK, with 50 messages in hand at a time.
func BenchmarkRoundTrip(b *testing.B) {
	server, err := servicebustest.NewServer(servicebustest.Config{Queues: []servicebustest.Queue{{Name: "bench"}}})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { server.Close() })
	ctx := context.Background()
	client, err := azservicebus.NewClientFromConnectionString(server.ConnectionString(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { client.Close(ctx) })
	sender, err := client.NewSender("bench", nil)
	if err != nil {
		b.Fatal(err)
	}
	receiver, err := client.NewReceiverForQueue("bench", nil)
	if err != nil {
		b.Fatal(err)
	}
	const inHand = 50
	body := make([]byte, 600)
	slots := make(chan struct{}, inHand)
	b.ReportAllocs()
	b.ResetTimer()
	sent := make(chan error, 1)
	go func() {
		for range b.N {
			if err := sender.SendMessage(ctx, &azservicebus.Message{Body: body}, nil); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	failed := make(chan error, inHand)
	for done := 0; done < b.N; {
		messages, err := receiver.ReceiveMessages(ctx, inHand, &azservicebus.ReceiveMessagesOptions{TimeAfterFirstMessage: time.Millisecond})
		if err != nil {
			b.Fatal(err)
		}
		for _, m := range messages {
			slots <- struct{}{}
			go func() {
				if err := receiver.CompleteMessage(ctx, m, nil); err != nil {
					failed <- err
				}
				<-slots
			}()
		}
		done += len(messages)
	}
	for range inHand {
		slots <- struct{}{}
	}
	b.StopTimer()
	if err := <-sent; err != nil {
		b.Fatal(err)
	}
	select {
	case err := <-failed:
		b.Fatal(err)
	default:
	}
}
