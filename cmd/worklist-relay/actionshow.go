package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// shown is the document of actions show --json.
type shown struct {
	Summary  string             `json:"summary"`
	Action   store.Action       `json:"action"`
	Timeline []event            `json:"timeline"`
	Attempts []store.Attempt    `json:"attempts"`
	Audit    []store.AuditEntry `json:"audit"`
}

func actionsShowCommand() *cobra.Command {
	var provider string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "show ACTION",
		Short: "Show where one action is and why, with all that happened to it",
		Long: "show says in one line where the action is and why, and then all that happened to it: every\n" +
			"try at the gateway with how long each step took, what people did, and when the next try\n" +
			"is due. Times are local; --json has them in UTC.",
		Args: oneAction("show"),
		RunE: withStore(func(cmd *cobra.Command, args []string, _ config, s *store.Store) error {
			action, attempts, audit, err := findAction(cmd, s, provider, args[0])
			if err != nil {
				return err
			}
			n := narrator{time.Now(), at}
			if asJSON {
				n.at = inUTC
			}
			doc := shown{n.summary(action, audit), action, n.timeline(action, attempts, audit), attempts, audit}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), doc)
			}
			return printAction(cmd.OutOrStdout(), doc)
		}),
	}
	cmd.Flags().StringVar(&provider, "provider", "", "only if it is this provider's")
	jsonFlag(cmd, &asJSON)
	return cmd
}

func oneAction(verb string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage("actions %s needs one action id", verb)
		}
		if !isActionID(args[0]) {
			return usage("%q is no action id: a UUID is; `actions list --accession` finds one by its accession number", args[0])
		}
		return nil
	}
}

// findAction looks an action up, and says what it may mean that there is none.
func findAction(cmd *cobra.Command, s *store.Store, provider, id string) (store.Action, []store.Attempt, []store.AuditEntry, error) {
	action, attempts, audit, err := s.Action(cmd.Context(), provider, id)
	switch {
	case errors.Is(err, store.ErrNoAction) && provider != "":
		err = fmt.Errorf("no action %s of provider %s", id, provider)
	case errors.Is(err, store.ErrNoAction):
		err = fmt.Errorf("no action %s: it was never received, or its id could not be read; `dlq show %s` looks among the dead letters", id, id)
	}
	return action, attempts, audit, err
}

func printAction(w io.Writer, s shown) error {
	a := s.Action
	fmt.Fprintf(w, "%s  %s\n", a.ActionID, a.ActionType)
	fmt.Fprintf(w, "provider %s, setting %s, accession number %s, %s\n", a.ProviderID, orDash(a.SettingID), orDash(&a.AccessionNumber), several(a.Attempts, "try"))
	fmt.Fprintf(w, "gateway %s\n", orDash(a.Relay))
	fmt.Fprintln(w, hanging("", s.Summary))
	if a.Status != store.Confirmed && a.LastPhase != nil {
		if advice, known := phases[relay.Phase(*a.LastPhase)]; known {
			fmt.Fprintln(w, hanging("", advice.Meaning+" "+advice.Todo))
		}
	}
	if a.Reason != nil && helps[consumer.Reason(*a.Reason)] != "" {
		fmt.Fprintln(w, hanging("", helps[consumer.Reason(*a.Reason)]))
	}
	fmt.Fprintln(w)
	for _, e := range s.Timeline {
		fmt.Fprintln(w, hanging(at(&e.At)+"  ", e.What))
	}
	return nil
}
