package servicebustest

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"
	"time"
)

// configFile is the part of the emulator's Config.json that is read. Topics and the logging section are ignored.
type configFile struct {
	UserConfig *struct {
		Namespaces []struct {
			Name   string
			Queues []struct {
				Name       string
				Properties map[string]json.RawMessage
			}
		}
	}
}

// ReadConfig reads the queues from a Config.json of Microsoft's Service Bus emulator, so that one file serves both. Durations are in
// ISO 8601, such as PT1M. The error names the first thing that is wrong and where it stands; a property that is not known, or that
// this server cannot honour, is wrong.
func ReadConfig(r io.Reader) ([]Queue, error) {
	var file configFile
	d := json.NewDecoder(r)
	if err := d.Decode(&file); err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	if err := d.Decode(&struct{}{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("config: something follows the JSON object")
	}
	if file.UserConfig == nil || len(file.UserConfig.Namespaces) != 1 {
		return nil, errors.New("config: UserConfig.Namespaces: must hold exactly one namespace")
	}
	var queues []Queue
	seen := make(map[string]bool)
	for i, entry := range file.UserConfig.Namespaces[0].Queues {
		at := fmt.Sprintf("config: UserConfig.Namespaces[0].Queues[%d]", i)
		q, err := readQueue(entry.Name, entry.Properties, at)
		if err != nil {
			return nil, err
		}
		if key := strings.ToLower(q.Name); seen[key] {
			return nil, fmt.Errorf("%s.Name: %s is there twice", at, q.Name)
		} else {
			seen[key] = true
		}
		queues = append(queues, q)
	}
	return queues, nil
}

func readQueue(name string, properties map[string]json.RawMessage, at string) (Queue, error) {
	q := Queue{Name: name}
	for _, property := range slices.Sorted(maps.Keys(properties)) {
		read, known := readProperty[property]
		if !known {
			return q, fmt.Errorf("%s.Properties.%s: is not known", at, property)
		}
		if err := read(&q, properties[property]); err != nil {
			return q, fmt.Errorf("%s.Properties.%s: %w", at, property, err)
		}
	}
	if _, err := q.withDefaults(); err != nil {
		return q, fmt.Errorf("%s: %w", at, err)
	}
	return q, nil
}

var readProperty = map[string]func(*Queue, json.RawMessage) error{
	"LockDuration":             func(q *Queue, raw json.RawMessage) error { return readDuration(&q.LockDuration, raw) },
	"DefaultMessageTimeToLive": func(q *Queue, raw json.RawMessage) error { return readTTL(&q.DefaultTTL, raw) },
	"DuplicateDetectionHistoryTimeWindow": func(q *Queue, raw json.RawMessage) error {
		return readDuration(&q.DuplicateDetectionWindow, raw)
	},
	"MaxDeliveryCount":                 func(q *Queue, raw json.RawMessage) error { return readCount(&q.MaxDeliveryCount, raw) },
	"RequiresSession":                  func(q *Queue, raw json.RawMessage) error { return readValue(&q.RequiresSession, raw) },
	"RequiresDuplicateDetection":       func(q *Queue, raw json.RawMessage) error { return readValue(&q.RequiresDuplicateDetection, raw) },
	"DeadLetteringOnMessageExpiration": func(q *Queue, raw json.RawMessage) error { return readValue(&q.DeadLetteringOnExpiration, raw) },
	"ForwardTo":                        func(_ *Queue, raw json.RawMessage) error { return readNothing(raw) },
	"ForwardDeadLetteredMessagesTo":    func(_ *Queue, raw json.RawMessage) error { return readNothing(raw) },
}

func readValue[T any](v *T, raw json.RawMessage) error {
	if err := json.Unmarshal(raw, v); err != nil {
		return fmt.Errorf("%s is no %T", raw, *v)
	}
	return nil
}

// readDuration refuses what a zero Queue field would turn into a default.
func readDuration(d *time.Duration, raw json.RawMessage) error {
	var text string
	if err := readValue(&text, raw); err != nil {
		return err
	}
	parsed, err := parseDuration(text)
	if err == nil && parsed == 0 {
		err = errors.New("must be above 0")
	}
	*d = parsed
	return err
}

// readTTL reads the longest duration, which is how the service writes "no end", as none.
func readTTL(d *time.Duration, raw json.RawMessage) error {
	err := readDuration(d, raw)
	if *d == math.MaxInt64 {
		*d = 0
	}
	return err
}

func readCount(n *int, raw json.RawMessage) error {
	if err := readValue(n, raw); err != nil {
		return err
	}
	if *n < 1 {
		return fmt.Errorf("%d is below 1", *n)
	}
	return nil
}

func readNothing(raw json.RawMessage) error {
	var text string
	if err := readValue(&text, raw); err != nil {
		return err
	}
	if text != "" {
		return errors.New("forwarding is not supported")
	}
	return nil
}
