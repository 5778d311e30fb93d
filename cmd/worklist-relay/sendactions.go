package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/spf13/cobra"
)

// send sends in batches and tells what was sent, also where it stopped.
func (c config) send(cmd *cobra.Command, list []queued) ([]queued, error) {
	ctx := cmd.Context()
	sent := []queued{}
	client, err := c.connect()
	if err != nil {
		return sent, err
	}
	defer client.Close(context.WithoutCancel(ctx))
	sender, err := client.NewSender(c.ServiceBusQueue, nil)
	if err != nil {
		return sent, err
	}
	progress := newProgress(cmd.ErrOrStderr(), len(list), "enqueued")
	defer progress.finish()
	for len(sent) < len(list) {
		n, err := sendBatch(ctx, sender, list[len(sent):])
		sent = list[:len(sent)+n]
		progress.at(len(sent))
		if ctx.Err() != nil {
			return sent, fmt.Errorf("interrupted; at least %d of %d were sent, and sending all again is harmless", len(sent), len(list))
		}
		if err != nil {
			return sent, fmt.Errorf("queue %s: %s; %d of %d were sent, and sending all again is harmless", c.ServiceBusQueue, plainly(err), len(sent), len(list))
		}
	}
	return sent, nil
}

// sdkError is how the SDK prints an answer of the broker.
var sdkError = regexp.MustCompile(`\*Error\{Condition: ([^,]*), Description: (.*), Info: .*\}`)

// plainly is the SDK's error as a sentence.
func plainly(err error) string {
	return sdkError.ReplaceAllString(err.Error(), "$2 ($1)")
}

// bySession brings the actions of each session together, the sessions in the
// order of their first actions: the broker takes the session of a batch from its
// first message. Within a session the order stays.
func bySession(list []queued) {
	first := map[string]int{}
	for i, q := range list {
		if _, known := first[*q.message.SessionID]; !known {
			first[*q.message.SessionID] = i
		}
	}
	slices.SortStableFunc(list, func(a, b queued) int { return first[*a.message.SessionID] - first[*b.message.SessionID] })
}

// sendBatch sends as many of list as one batch holds, and says how many. A batch
// is of one session.
func sendBatch(ctx context.Context, sender *azservicebus.Sender, list []queued) (int, error) {
	batch, err := sender.NewMessageBatch(ctx, nil)
	if err != nil {
		return 0, err
	}
	n := 0
	for ; n < len(list) && *list[n].message.SessionID == *list[0].message.SessionID; n++ {
		err := batch.AddMessage(list[n].message, nil)
		if errors.Is(err, azservicebus.ErrMessageTooLarge) && n > 0 {
			break
		}
		if err != nil {
			return 0, fmt.Errorf("action %s: %w", list[n].ActionID, err)
		}
	}
	if err := sender.SendMessageBatch(ctx, batch, nil); err != nil {
		return 0, err
	}
	return n, nil
}

func printIDs(w io.Writer, sent []queued) error {
	out := bufio.NewWriter(w)
	for _, q := range sent {
		fmt.Fprintln(out, q.ActionID)
	}
	return out.Flush()
}
