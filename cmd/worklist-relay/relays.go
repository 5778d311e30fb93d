package main

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

func relaysCommand() *cobra.Command {
	return group("relays", "Look after gateways, and which hybrid connection leads to each",
		relaysAddCommand(), relaysListCommand(), relaysRemoveCommand(), relaysImportCommand(), relaysExportCommand(),
		relaysPingCommand(), relaysHoldCommand(), relaysReleaseCommand())
}

// withStore makes a RunE of a function that needs the database.
func withStore(run func(cmd *cobra.Command, args []string, c config, s *store.Store) error) func(*cobra.Command, []string) error {
	return doing(func(cmd *cobra.Command, args []string) error {
		c, err := readConfig(needDatabase)
		if err != nil {
			return err
		}
		s, err := c.openStore(cmd.Context())
		if err != nil {
			return err
		}
		return errors.Join(run(cmd, args, c, s), s.Close())
	})
}

func relaysAddCommand() *cobra.Command {
	var r store.Relay
	var setting, keyName, keyVariable, why string
	var replace bool
	cmd := &cobra.Command{
		Use:   "add --provider ID --namespace HOST --hybrid-connection PATH [flags]",
		Short: "Add a provider's relay",
		Long: "add says which hybrid connection the actions of a provider go to, or of one setting of\n" +
			"it. Without --setting it is the provider's default, which serves the messages that\n" +
			"name no setting, and no others. The key is named by the environment variable that holds\n" +
			"it where run runs; without a key, Entra ID is used, for which run needs\nSERVICEBUS_NAMESPACE, AZURE_CLIENT_ID or DATABASE_ENTRA.",
		Args: cobra.NoArgs,
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil {
				return err
			}
			r.SettingID, r.KeyName, r.KeyVariable = given(setting), given(keyName), given(keyVariable)
			return checkRelay(r)
		},
		RunE: withStore(func(cmd *cobra.Command, _ []string, _ config, s *store.Store) error {
			put := s.AddRelay
			if replace {
				put = s.ReplaceRelay
			}
			err := put(cmd.Context(), r, store.By{Who: operator(), Why: why})
			if errors.Is(err, store.ErrRelayExists) {
				return failure{exitRefused, fmt.Errorf("%w: use --replace to change it", err)}
			}
			if err == nil {
				fmt.Fprintf(cmd.OutOrStdout(), "relay of provider %s, setting %s: %s\n", r.ProviderID, orDash(r.SettingID), r.Name())
			}
			return err
		}),
	}
	f := cmd.Flags()
	f.StringVar(&r.ProviderID, "provider", "", "provider id (required)")
	f.StringVar(&setting, "setting", "", "setting id; left out: the provider's default")
	f.StringVar(&r.Namespace, "namespace", "", "relay namespace, such as contoso.servicebus.windows.net (required)")
	f.StringVar(&r.HybridConnection, "hybrid-connection", "", "path of the hybrid connection (required)")
	f.StringVar(&keyName, "key-name", "", "name of the shared access key")
	f.StringVar(&keyVariable, "key-variable", "", "environment variable that holds the key")
	f.BoolVar(&replace, "replace", false, "change the relay that is there")
	f.StringVar(&why, "why", "", "reason, for the audit")
	require(cmd, "provider", "namespace", "hybrid-connection")
	cmd.MarkFlagsRequiredTogether("key-name", "key-variable")
	return cmd
}

var (
	variableName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	pathName     = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]*[A-Za-z0-9])?$`)
)

// checkRelay refuses what could never work. It does not repeat the variable's
// name, which may be the key itself, pasted in the wrong place.
func checkRelay(r store.Relay) error {
	switch namespaceErr := (&relay.Client{AllowHosts: []string{r.Namespace}}).Allowed(r.Namespace); {
	case !isID(r.ProviderID):
		return usage("--provider is not 1 to 64 characters")
	case r.SettingID != nil && !isID(*r.SettingID):
		return usage("--setting is not 1 to 64 characters")
	case namespaceErr != nil:
		return usage("--namespace %q is no host name: give contoso.servicebus.windows.net", r.Namespace)
	case !pathName.MatchString(r.HybridConnection):
		return usage("--hybrid-connection %q is no path of letters, digits, '.', '-', '_' and '/'", r.HybridConnection)
	case r.KeyVariable != nil && !variableName.MatchString(*r.KeyVariable):
		return usage("--key-variable is no name of an environment variable; the key itself does not belong here")
	}
	return nil
}

// isID is what a message may hold as its provider_id or setting_id.
func isID(s string) bool {
	n := utf8.RuneCountInString(s)
	return strings.TrimSpace(s) != "" && n <= 64
}

func relaysRemoveCommand() *cobra.Command {
	var provider, setting, why string
	cmd := &cobra.Command{
		Use:   "remove --provider ID [--setting ID]",
		Short: "Remove a provider's relay",
		Long:  "remove takes away the relay of exactly this provider and setting. Actions for it are\ndead-lettered as NoRelay from then on.",
		Args:  cobra.NoArgs,
		RunE: withStore(func(cmd *cobra.Command, _ []string, _ config, s *store.Store) error {
			return s.RemoveRelay(cmd.Context(), provider, given(setting), store.By{Who: operator(), Why: why})
		}),
	}
	cmd.Flags().StringVar(&provider, "provider", "", "provider id (required)")
	cmd.Flags().StringVar(&setting, "setting", "", "setting id; left out: the provider's default")
	cmd.Flags().StringVar(&why, "why", "", "reason, for the audit")
	require(cmd, "provider")
	return cmd
}

func require(cmd *cobra.Command, flags ...string) {
	for _, name := range flags {
		if err := cmd.MarkFlagRequired(name); err != nil {
			panic(err) // the flag is defined a few lines above
		}
	}
}

// given is a flag that may be left out.
func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// operator is who the audit says did it.
func operator() string {
	name := os.Getenv("USER")
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		name += "@" + host
	}
	return name
}
