package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/store"
)

// exported is one line of an export: a dead letter, as `dlq replay --with`
// reads it when its body is revealed.
type exported struct {
	SequenceNumber int64           `json:"sequence_number"`
	ActionID       string          `json:"action_id"` // "" where it could not be read
	ProviderID     string          `json:"provider_id"`
	SettingID      *string         `json:"setting_id"`
	Reason         string          `json:"reason"`
	Description    string          `json:"description"`
	Gateway        string          `json:"relay"`
	Phase          string          `json:"phase"`
	EnqueuedAt     time.Time       `json:"enqueued_at"`
	DeadLetteredAt time.Time       `json:"dead_lettered_at"`
	Masked         bool            `json:"masked"`
	Action         json.RawMessage `json:"action"` // the body; a string where it is no JSON
}

func dlqExportCommand() *cobra.Command {
	var chosen selection
	var reveal bool
	cmd := &cobra.Command{
		Use:   "export FILE|- [ACTION|SEQUENCE ...]",
		Short: "Write dead letters to a file, one JSON object a line",
		Long: "export writes dead letters to a new file that only you can read, or to standard output (-).\n" +
			"A participant's details are masked; with --reveal they are in the file, each letter is\n" +
			"audited, and `dlq replay --with FILE` takes the file back, mended. Delete it after.\n" +
			"Letters that cannot be read are left out and counted.",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("dlq export needs a file, or - for standard output")
			}
			return nil
		},
		RunE: withQueue(func(cmd *cobra.Command, args []string, s *store.Store, letters *consumer.DeadLetters) error {
			filter, err := chosen.of(args[1:])
			if err != nil {
				return err
			}
			if err := missing(cmd, letters, args[1:]); err != nil {
				return err
			}
			out, done, err := exportTo(cmd, args[0])
			if err != nil {
				return err
			}
			n, unreadable, err := export(cmd, s, letters, filter, out, reveal)
			if err := errors.Join(err, done()); err != nil {
				if n == 0 && args[0] != "-" {
					err = errors.Join(err, os.Remove(args[0])) // it would stand in the way of the next try
				}
				return fmt.Errorf("%s exported, then: %w", several(n, "dead letter"), err)
			}
			fmt.Fprintf(cmd.ErrOrStderr(), "%s exported\n", several(n, "dead letter"))
			if unreadable > 0 {
				return failure{exitRefused, fmt.Errorf("%s cannot be read and %s left out", several(unreadable, "dead letter"), wasWere(unreadable))}
			}
			return nil
		}),
	}
	chosen.flags(cmd)
	chosen.olderThan(cmd)
	cmd.Flags().BoolVar(&reveal, "reveal", false, "with bodies unmasked, which is audited")
	return cmd
}

func wasWere(n int) string {
	if n == 1 {
		return "was"
	}
	return "were"
}

// exportTo opens a file that must not be there yet.
func exportTo(cmd *cobra.Command, name string) (io.Writer, func() error, error) {
	if name == "-" {
		return cmd.OutOrStdout(), func() error { return nil }, nil
	}
	file, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil, nil, fmt.Errorf("%s is there already: name another file", name)
	}
	if err != nil {
		return nil, nil, err
	}
	return file, file.Close, nil
}

// export writes each letter as it is read, audited first where it is revealed.
func export(cmd *cobra.Command, s *store.Store, letters *consumer.DeadLetters, filter consumer.DeadLetterFilter, w io.Writer, reveal bool) (n, unreadable int, err error) {
	out := bufio.NewWriter(w)
	lines := json.NewEncoder(out)
	err = letters.Each(cmd.Context(), filter, func(l consumer.DeadLetter) error {
		if l.Unreadable {
			unreadable++
			return nil
		}
		if reveal {
			if err := auditReveal(cmd, s, []listed{{DeadLetter: l}}); err != nil {
				return err
			}
		}
		n++
		return lines.Encode(exported{
			l.SequenceNumber, l.ActionID, l.ProviderID, l.SettingID, l.Reason, l.Description, l.Gateway, l.Phase,
			l.EnqueuedAt, l.DeadLetteredAt, !reveal, shownBody(l, reveal),
		})
	})
	return n, unreadable, errors.Join(err, out.Flush())
}
