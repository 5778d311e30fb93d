package main

import (
	"context"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/worklist-relay/worklist-relay/store"
)

// deadLetter dead-letters what is on the queue, one message for each reason.
// "unreadable" makes one whose reason is no text.
func deadLetter(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: dead-letter REASON ...")
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	client, err := azservicebus.NewClientFromConnectionString(ts.Getenv("SERVICEBUS_CONNECTION_STRING"), nil)
	ts.Check(err)
	defer client.Close(ctx)
	receiver, err := client.NewReceiverForQueue("worklist-commands", nil)
	ts.Check(err)
	for _, reason := range args {
		messages, err := receiver.ReceiveMessages(ctx, 1, nil)
		ts.Check(err)
		options := &azservicebus.DeadLetterOptions{Reason: &reason}
		if reason == "unreadable" {
			options = &azservicebus.DeadLetterOptions{PropertiesToModify: map[string]any{"DeadLetterReason": int64(7)}}
		}
		ts.Check(receiver.DeadLetterMessage(ctx, messages[0], options))
	}
}

// strand leaves an action behind that was due on a morning in 2020.
func strand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: strand ACTION")
	}
	ctx := context.Background()
	due := time.Date(2020, 5, 6, 7, 0, 0, 0, time.UTC)
	s, err := store.Open(ctx, ts.Getenv("DATABASE_URL"), store.WithClock(func() time.Time { return due.Add(-time.Minute) }))
	ts.Check(err)
	defer s.Close()
	_, err = s.Claim(ctx, store.Delivery{
		ActionID: args[0], ActionType: "worklist.update_status", ProviderID: "leeds", AccessionNumber: "SYN5", BodySHA256: "5",
		SequenceNumber: 5, OriginalSequence: 5, EnqueuedAt: due, Lease: time.Minute,
	})
	ts.Check(err)
}

// awaitFailed waits until an action has failed.
func awaitFailed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: await-failed ACTION")
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	s, err := store.Open(ctx, ts.Getenv("DATABASE_URL"))
	ts.Check(err)
	defer s.Close()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := s.CountActions(ctx, store.ActionFilter{ActionID: args[0], Status: store.Failed})
		ts.Check(err)
		if n == 1 {
			return
		}
		<-tick.C // the context's end is an error of the next look
	}
}

// invalidMessage puts a body of a file into the queue that enqueue would not.
func invalidMessage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: invalid-message PROVIDER FILE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	client, err := azservicebus.NewClientFromConnectionString(ts.Getenv("SERVICEBUS_CONNECTION_STRING"), nil)
	ts.Check(err)
	defer client.Close(ctx)
	sender, err := client.NewSender("worklist-commands", nil)
	ts.Check(err)
	ts.Check(sender.SendMessage(ctx, &azservicebus.Message{
		Body: []byte(ts.ReadFile(args[1])), ApplicationProperties: map[string]any{"provider_id": args[0]},
	}, nil))
}
