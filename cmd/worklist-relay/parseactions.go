package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
)

const (
	maxLine       = 2 << 20 // bytes of one input line: a body of 1 MiB and what is around it
	maxFaultLines = 50      // faults shown in full
)

// queued is one action as enqueue tells of it.
type queued struct {
	ActionID   string  `json:"action_id"`
	ProviderID string  `json:"provider_id"`
	SettingID  *string `json:"setting_id"`

	AccessionNumber string `json:"accession_number"`

	message  *azservicebus.Message
	digest   string // of what it asks for
	known    bool   // SQL has it, or an earlier line
	conflict string // why it will be dead-lettered: "is known with other content"
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
	seen := earlier{}
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
		if err == nil {
			action.known, err = seen.has(action, n)
		}
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

// earlier are the actions of the lines before, by action id.
type earlier map[string]struct {
	line int
	queued
}

// has reports whether an earlier line holds the action too. The same id with
// anything else is an error.
func (e earlier) has(q queued, line int) (bool, error) {
	first, seen := e[q.ActionID]
	if !seen {
		first.line, first.queued = line, q
		e[q.ActionID] = first
		return false, nil
	}
	if first.digest != q.digest || *first.message.SessionID != *q.message.SessionID {
		return true, fmt.Errorf("action %s is on line %d too, with other content or for another gateway", q.ActionID, first.line)
	}
	return true, nil
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
	return newQueued(*fields.ProviderID, fields.SettingID, bytes.Clone(fields.Action))
}

func newQueued(provider string, setting *string, action []byte) (queued, error) {
	message, err := consumer.Encode(provider, setting, action)
	if err != nil {
		return queued{}, err
	}
	id, err := consumer.Identify(action)
	return queued{
		ActionID: id.ActionID, ProviderID: provider, SettingID: setting, AccessionNumber: id.AccessionNumber,
		message: message, digest: id.BodySHA256,
	}, err
}
