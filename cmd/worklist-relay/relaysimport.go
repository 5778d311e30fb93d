package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/store"
)

// relayLine is one line of what export prints and import reads. The keys' names
// are those of the columns.
type relayLine struct {
	ProviderID       string  `json:"provider_id"`
	SettingID        *string `json:"setting_id"`
	Namespace        string  `json:"namespace"`
	HybridConnection string  `json:"hybrid_connection"`
	KeyName          *string `json:"key_name"`
	KeyVariable      *string `json:"key_variable"`
}

const relayLineHelp = "one relay a line, as a JSON object with the keys provider_id, setting_id (null or left out:\n" +
	"the provider's default), namespace, hybrid_connection, key_name and key_variable (null or\n" +
	"left out: Entra ID). key_variable is the name of the environment variable that holds the\n" +
	"key, never the key."

func relaysExportCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "export",
		Short: "Print all relays, for import",
		Long:  "export prints " + relayLineHelp + "\n`relays import` reads that back: here, it changes nothing.",
		Args:  cobra.NoArgs,
		RunE: withStore(func(cmd *cobra.Command, _ []string, _ config, s *store.Store) error {
			relays, err := s.Relays(cmd.Context(), "")
			if err != nil {
				return err
			}
			encoder := json.NewEncoder(cmd.OutOrStdout())
			for _, r := range relays {
				line := relayLine{r.ProviderID, r.SettingID, r.Namespace, r.HybridConnection, r.KeyName, r.KeyVariable}
				if err := encoder.Encode(line); err != nil {
					return err
				}
			}
			return nil
		}),
	}
}

func relaysImportCommand() *cobra.Command {
	var replace, dryRun bool
	var why string
	cmd := &cobra.Command{
		Use:   "import [FILE|-]",
		Short: "Add many relays, all or none",
		Long: "import reads " + relayLineHelp + "\n\n" +
			"All lines are checked first, and nothing is changed if one is wrong. A relay that is there\n" +
			"as the line says is left alone; one that differs is refused, unless --replace says to change\n" +
			"it. Relays that no line names stay. Without FILE, or with -, standard input is read.\n\n" +
			"Exit codes: 0 done, 4 a relay differs and nothing was changed; others as always.",
		Args: cobra.MaximumNArgs(1),
		RunE: withStore(func(cmd *cobra.Command, args []string, _ config, s *store.Store) error {
			relays, err := readRelays(cmd, args)
			if err != nil {
				return err
			}
			added, changed, err := importRelays(cmd, s, relays, replace, dryRun, store.By{Who: operator(), Why: why})
			if errors.Is(err, store.ErrRelayExists) {
				return failure{exitRefused, fmt.Errorf("%w and differs: use --replace to change it; nothing was changed", err)}
			}
			if err != nil {
				return err
			}
			would := ""
			if dryRun {
				would = "would be "
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s: %d %sadded, %d %schanged, %d as they were\n", several(len(relays), "relay"), added, would, changed, would, len(relays)-added-changed)
			return nil
		}),
	}
	cmd.Flags().BoolVar(&replace, "replace", false, "change relays that are there and differ")
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and change nothing")
	cmd.Flags().StringVar(&why, "why", "", "reason, for the audit")
	return cmd
}

// importRelays puts them, or with dryRun only says what that would do.
func importRelays(cmd *cobra.Command, s *store.Store, relays []store.Relay, replace, dryRun bool, by store.By) (added, changed int, err error) {
	if !dryRun {
		return s.PutRelays(cmd.Context(), relays, replace, by)
	}
	for _, r := range relays {
		known, err := s.Relay(cmd.Context(), r.ProviderID, r.SettingID)
		switch {
		case errors.Is(err, store.ErrNoRelay):
			added++
		case err != nil:
			return 0, 0, err
		case known.Same(r):
		case !replace:
			return 0, 0, fmt.Errorf("relay of provider %s, setting %s: %w", r.ProviderID, orDash(r.SettingID), store.ErrRelayExists)
		default:
			changed++
		}
	}
	return added, changed, nil
}

// readRelays reads and checks all lines, and reports every fault by its line
// number. It repeats no value but those that checkRelay does.
func readRelays(cmd *cobra.Command, args []string) (relays []store.Relay, err error) {
	name, in, err := openInput(cmd, args)
	if err != nil {
		return nil, err
	}
	defer in.Close()
	seen := map[string]int{}
	err = eachLine(name, in, "nothing was changed", func(n int, line []byte) error {
		r, err := readRelay(line)
		if err != nil {
			return err
		}
		key := r.ProviderID + "\x00" + orDash(r.SettingID)
		if earlier := seen[key]; earlier > 0 {
			return fmt.Errorf("the provider and setting of line %d again", earlier)
		}
		seen[key] = n
		relays = append(relays, r)
		return nil
	})
	return relays, err
}

func readRelay(text []byte) (store.Relay, error) {
	var line relayLine
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&line); err != nil {
		return store.Relay{}, errors.New(plainJSON(err))
	}
	if decoder.More() {
		return store.Relay{}, errors.New("more than one JSON object")
	}
	r := store.Relay{
		ProviderID: line.ProviderID, SettingID: line.SettingID, Namespace: line.Namespace, HybridConnection: line.HybridConnection,
		KeyName: line.KeyName, KeyVariable: line.KeyVariable,
	}
	if (orDash(r.KeyName) == "-") != (orDash(r.KeyVariable) == "-") {
		return r, errors.New("key_name and key_variable go together")
	}
	if err := checkRelay(r); err != nil {
		return r, errors.New(asKey.Replace(err.Error()))
	}
	return r, nil
}

// asKey speaks of a line's keys where checkRelay speaks of flags.
var asKey = strings.NewReplacer("--provider", "provider_id", "--setting", "setting_id", "--namespace", "namespace",
	"--hybrid-connection", "hybrid_connection", "--key-variable", "key_variable")

// plainJSON says what is wrong with a line, without a value of it: a key might
// be among them, also in the place of a name.
func plainJSON(err error) string {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind) && kind.Field != "":
		return kind.Field + " is not a string"
	case errors.As(err, &kind):
		return "no JSON object"
	case strings.HasPrefix(err.Error(), "json: unknown field"):
		return "a key that is none of provider_id, setting_id, namespace, hybrid_connection, key_name, key_variable"
	}
	return "no JSON object"
}
