package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
)

const (
	maxLine       = 2 << 20 // bytes of one input line: a body of 1 MiB and what is around it
	maxFaultLines = 50      // faults shown in full
)

func enqueueCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "enqueue [FILE|-]",
		Short: "Put actions into the queue, one JSON object a line",
		Long: "enqueue reads one action a line, from FILE or from standard input:\n\n" +
			`  {"provider_id":"leeds","setting_id":null,"action":{"action_id":"...",...}}` + "\n\n" +
			"All lines are checked first; if one is wrong, nothing is sent and every fault is\n" +
			"reported with its line. The ids of what was sent are printed. Sending the same file\n" +
			"again is harmless: an action that is known is not forwarded twice. No database is needed.",
		Args: cobra.MaximumNArgs(1),
		RunE: doing(func(cmd *cobra.Command, args []string) error {
			c, err := readConfig(needQueue)
			if err != nil {
				return err
			}
			messages, err := readActions(cmd, args)
			if err != nil {
				return err
			}
			bySession(messages)
			sent, err := c.send(cmd, messages)
			if asJSON {
				return errors.Join(err, printJSON(cmd.OutOrStdout(), sent))
			}
			return errors.Join(err, printIDs(cmd.OutOrStdout(), sent))
		}),
	}
	jsonFlag(cmd, &asJSON)
	return cmd
}

// queued is one action as enqueue tells of it.
type queued struct {
	ActionID   string  `json:"action_id"`
	ProviderID string  `json:"provider_id"`
	SettingID  *string `json:"setting_id"`

	message *azservicebus.Message
}

func readActions(cmd *cobra.Command, args []string) ([]queued, error) {
	if len(args) == 0 || args[0] == "-" {
		return parseActions("standard input", cmd.InOrStdin())
	}
	file, err := os.Open(args[0])
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return parseActions(args[0], file)
}

// parseActions reads every line. If any is wrong it returns one error with all faults.
func parseActions(name string, in io.Reader) ([]queued, error) {
	var list []queued
	var faults []string
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	n := 0
	for lines.Scan() {
		n++
		line := bytes.TrimSpace(bytes.TrimPrefix(lines.Bytes(), []byte("\ufeff"))) // editors on Windows begin a file with a mark
		if len(line) == 0 {
			continue
		}
		action, err := parseLine(line)
		if err != nil {
			faults = append(faults, fmt.Sprintf("%s line %d: %v", name, n, err))
			continue
		}
		list = append(list, action)
	}
	if err := lines.Err(); errors.Is(err, bufio.ErrTooLong) {
		faults = append(faults, fmt.Sprintf("%s line %d: longer than %d bytes", name, n+1, maxLine))
	} else if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(faults) == 0 && len(list) == 0 {
		return nil, fmt.Errorf("%s holds no action", name)
	}
	if len(faults) > 0 {
		total := len(faults)
		if total > maxFaultLines {
			faults = append(faults[:maxFaultLines], fmt.Sprintf("... and %d more", total-maxFaultLines))
		}
		return nil, fmt.Errorf("nothing was sent, %d of %d lines are wrong:\n  %s", total, total+len(list), strings.Join(faults, "\n  "))
	}
	return list, nil
}

// parseLine reads one line. Its errors name fields, never values.
func parseLine(line []byte) (queued, error) {
	var fields struct {
		ProviderID *string         `json:"provider_id"`
		SettingID  *string         `json:"setting_id"`
		Action     json.RawMessage `json:"action"`
	}
	decoder := json.NewDecoder(bytes.NewReader(line))
	decoder.DisallowUnknownFields()
	err := decoder.Decode(&fields)
	var wrongType *json.UnmarshalTypeError
	switch {
	case errors.As(err, &wrongType) && wrongType.Field == "":
		return queued{}, errors.New("not a JSON object")
	case errors.As(err, &wrongType):
		return queued{}, fmt.Errorf("%s is a %s", wrongType.Field, wrongType.Value)
	case err != nil && strings.Contains(err.Error(), "unknown field"):
		return queued{}, errors.New("holds another key than provider_id, setting_id and action")
	case err != nil:
		return queued{}, errors.New("not a JSON object")
	case decoder.More():
		return queued{}, errors.New("more than one JSON value")
	case fields.ProviderID == nil:
		return queued{}, errors.New("provider_id is missing")
	case fields.Action == nil:
		return queued{}, errors.New("action is missing")
	}
	message, err := consumer.Encode(*fields.ProviderID, fields.SettingID, bytes.Clone(fields.Action))
	if err != nil {
		return queued{}, err
	}
	return queued{ActionID: *message.MessageID, ProviderID: *fields.ProviderID, SettingID: fields.SettingID, message: message}, nil
}

// send sends in batches and tells what was sent, also where it stopped.
func (c config) send(cmd *cobra.Command, list []queued) ([]queued, error) {
	ctx := cmd.Context()
	client, err := c.connect()
	if err != nil {
		return nil, err
	}
	defer client.Close(context.WithoutCancel(ctx))
	sender, err := client.NewSender(c.ServiceBusQueue, nil)
	if err != nil {
		return nil, err
	}
	progress := newProgress(cmd.ErrOrStderr(), len(list), "enqueued")
	defer progress.finish()
	sent := []queued{}
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

func printIDs(w io.Writer, sent []queued) error {
	out := bufio.NewWriter(w)
	for _, q := range sent {
		fmt.Fprintln(out, q.ActionID)
	}
	return out.Flush()
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
