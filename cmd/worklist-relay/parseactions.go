package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
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
	name, in, err := openInput(cmd, args)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	return parseActions(name, in)
}

// parseActions reads every line. If any is wrong it returns one error with all faults.
func parseActions(name string, in io.Reader) ([]queued, error) {
	var list []queued
	seen := earlier{}
	err := eachLine(name, in, "nothing was sent", func(n int, line []byte) error {
		action, err := parseLine(line)
		if err == nil {
			action.known, err = seen.has(action, n)
		}
		list = append(list, action)
		return err
	})
	if err == nil && len(list) == 0 {
		err = fmt.Errorf("%s holds no action", name)
	}
	return list, err
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
