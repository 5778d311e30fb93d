package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// readMended reads the file of `dlq replay --with`: lines as `dlq export
// --reveal` writes them, or as enqueue takes them, with the bodies mended. All
// faults are told at once, without quoting a line.
func readMended(name string) (map[string]consumer.Mended, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	mended := map[string]consumer.Mended{}
	err = eachLine(name, file, "nothing was sent", func(_ int, line []byte) error {
		key, body, err := parseMended(line)
		if _, twice := mended[key]; err == nil && twice {
			err = errors.New("the dead letter stands on a line before")
		}
		mended[key] = body
		return err
	})
	if err == nil && len(mended) == 0 {
		err = fmt.Errorf("%s holds no line", name)
	}
	return mended, err
}

// parseMended is the letter that a line is for, and what it holds now.
func parseMended(line []byte) (key string, m consumer.Mended, err error) {
	var fields struct {
		SequenceNumber int64           `json:"sequence_number"`
		ActionID       string          `json:"action_id"`
		ProviderID     string          `json:"provider_id"`
		SettingID      *string         `json:"setting_id"`
		Masked         bool            `json:"masked"`
		Action         json.RawMessage `json:"action"`
	}
	if json.Unmarshal(line, &fields) != nil {
		return "", m, errors.New("not a JSON object as `dlq export --reveal` writes it")
	}
	var action struct {
		ActionID string `json:"action_id"`
	}
	switch {
	case fields.Masked:
		return "", m, errors.New("its body is masked: export it with --reveal")
	case len(fields.Action) == 0 || fields.Action[0] != '{':
		return "", m, errors.New("action is no JSON object")
	case json.Unmarshal(fields.Action, &action) != nil:
		return "", m, errors.New("action.action_id is no string")
	}
	// Checked here so that all lines are told of before anything is done.
	provider := fields.ProviderID
	if provider == "" {
		return "", m, errors.New("provider_id is missing")
	}
	if _, err := consumer.Encode(provider, fields.SettingID, fields.Action); err != nil {
		return "", m, err
	}
	key = strings.ToLower(action.ActionID)
	if fields.SequenceNumber > 0 {
		key = strconv.FormatInt(fields.SequenceNumber, 10)
	}
	return key, consumer.Mended{ProviderID: provider, SettingID: fields.SettingID, Body: bytes.Clone(fields.Action)}, nil
}
