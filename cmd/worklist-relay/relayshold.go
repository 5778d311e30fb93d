package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/store"
)

func relaysHoldCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "hold NAME --why TEXT",
		Short: "Hold a gateway's actions back, for maintenance",
		Long: "hold keeps every action from a gateway until `relays release`. Within five seconds nothing\n" +
			"more is sent to it, not even an echo: the hospital may be working on it. Its actions\n" +
			"wait, and spend no attempts; those whose clinic day ends meanwhile fail as Expired. NAME is\n" +
			"namespace/path, the path, or its last segments. --why is shown by `relays list` and kept in\n" +
			"the audit: name no participant.\n\n" +
			"Exit codes: 0 done, 4 it is held back already; others as always.",
		Args: oneGateway("relays hold"),
		RunE: withStore(func(cmd *cobra.Command, args []string, _ config, s *store.Store) error {
			name, err := theGateway(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			err = s.HoldGateway(cmd.Context(), name, store.By{Who: operator(), Why: why})
			if errors.Is(err, store.ErrHeld) {
				return failure{exitRefused, alreadyHeld(cmd.Context(), s, name)}
			}
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is held back: its actions wait until `relays release`\n", name)
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&why, "why", "", "reason, for whoever wonders, and for the audit (required)")
	require(cmd, "why")
	return cmd
}

func relaysReleaseCommand() *cobra.Command {
	var why string
	cmd := &cobra.Command{
		Use:   "release NAME",
		Short: "Let a gateway's actions flow again",
		Long: "release ends what `relays hold` began. Actions flow within seconds from a session queue,\n" +
			"or after POSTPONE_DELAYS from a plain one; if the hold was longer than ten minutes, within a\n" +
			"quarter of an hour. Try the gateway with `relays ping` first.\n\n" +
			"Exit codes: 0 done, 4 it is not held back; others as always.",
		Args: oneGateway("relays release"),
		RunE: withStore(func(cmd *cobra.Command, args []string, _ config, s *store.Store) error {
			name, err := theGateway(cmd.Context(), s, args[0])
			if err != nil {
				return err
			}
			err = s.ReleaseGateway(cmd.Context(), name, store.By{Who: operator(), Why: why})
			if errors.Is(err, store.ErrNotHeld) {
				return failure{exitRefused, fmt.Errorf("%s is not held back", name)}
			}
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "%s is held back no longer\n", name)
			}
			return err
		}),
	}
	cmd.Flags().StringVar(&why, "why", "", "reason, for the audit")
	return cmd
}

func oneGateway(command string) cobra.PositionalArgs {
	return func(_ *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage("%s needs the name of one gateway", command)
		}
		return nil
	}
}

// theGateway is the one gateway that a person means. One that is held back can
// be named also when no relay leads to it any more.
func theGateway(ctx context.Context, s *store.Store, name string) (string, error) {
	l, err := lookAtRelays(ctx, s, "")
	if err != nil {
		return "", err
	}
	found, err := gatewaysNamed(name, append(names(byGateway(l.relays)), l.orphans...))
	switch {
	case err != nil:
		return "", err
	case len(found) > 1:
		return "", fmt.Errorf("%q is the name of %d gateways, give the whole name of one:\n  %s", name, len(found), strings.Join(found, "\n  "))
	}
	return found[0], nil
}

// alreadyHeld says by whom.
func alreadyHeld(ctx context.Context, s *store.Store, name string) error {
	h, err := s.Health(ctx, name)
	if err != nil || h.HeldAt == nil {
		return fmt.Errorf("%s is held back already", name)
	}
	return fmt.Errorf("%s is held back already, since %s by %s: %s", name, at(h.HeldAt), orDash(h.HeldBy), orDash(h.HeldWhy))
}
