package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// pingsAtOnce is how many gateways are asked at a time. One gateway is asked
// once at a time, whatever this says.
const pingsAtOnce = 4

func relaysPingCommand() *cobra.Command {
	var which pinged
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ping [NAME | --provider ID [--setting ID] | --all]",
		Short: "Ask gateways for a sign of life",
		Long: "ping sends an echo, through the code and with the credential that run sends actions\n" +
			"with, and says how long each step took, or where it failed, what that means and what to\n" +
			"do about it. An echo carries nothing of a participant, and changes nothing, at the\n" +
			"gateway or in SQL. A gateway answers one call at a time: while it is at work for run,\n" +
			"ping waits. NAME is namespace/path, the path, or its last segments.\n\n" +
			"It needs DATABASE_URL, and the variables that hold the keys; for Entra ID\n" +
			"SERVICEBUS_NAMESPACE, AZURE_CLIENT_ID or DATABASE_ENTRA; RELAY_* and the timeouts as for run.\n\n" +
			"The JSON is an array: relay (namespace/path), key_name and key_variable, ok, phase,\n" +
			"error, meaning and todo (\"\" where it answered), and dns_ms, connect_ms, tls_ms,\n" +
			"handshake_ms and ack_ms, null for a step that was not taken.\n\n" +
			"Exit codes: 0 all answered, 4 some did not; others as always.",
		Args: cobra.MaximumNArgs(1),
		PreRunE: func(_ *cobra.Command, args []string) error {
			return which.parse(args)
		},
		RunE: withStore(func(cmd *cobra.Command, _ []string, c config, s *store.Store) error {
			relays, err := which.relays(cmd.Context(), s)
			if err != nil {
				return err
			}
			pings, err := c.pingAll(cmd, relays)
			if err != nil {
				return err
			}
			show := printPings
			if asJSON {
				show = printPingsJSON
			}
			return errors.Join(show(cmd.OutOrStdout(), pings), unanswered(pings))
		}),
	}
	cmd.Flags().StringVar(&which.provider, "provider", "", "the gateway of this provider")
	cmd.Flags().StringVar(&which.setting, "setting", "", "and of this setting; left out: the provider's default")
	cmd.Flags().BoolVar(&which.all, "all", false, "all gateways")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// pinged is which gateways are asked: exactly one of its ways to say it is used.
type pinged struct {
	name, provider, setting string
	all                     bool
}

func (p *pinged) parse(args []string) error {
	ways := len(args)
	if len(args) == 1 {
		p.name = args[0]
	}
	if p.provider != "" {
		ways++
	}
	if p.all {
		ways++
	}
	switch {
	case ways != 1:
		return usage("relays ping needs one of: NAME, --provider, --all")
	case p.setting != "" && p.provider == "":
		return usage("--setting goes with --provider")
	}
	return nil
}

func (p *pinged) relays(ctx context.Context, s *store.Store) ([]store.Relay, error) {
	if p.provider != "" {
		r, err := s.Relay(ctx, p.provider, given(p.setting))
		return []store.Relay{r}, err
	}
	all, err := s.Relays(ctx, "")
	if err != nil {
		return nil, err
	}
	at := byGateway(all)
	named := names(at)
	if len(named) == 0 {
		return nil, errors.New("there are no relays yet: `relays add` adds one")
	}
	if !p.all {
		if named, err = gatewaysNamed(p.name, named); err != nil {
			return nil, err
		}
	}
	var relays []store.Relay
	for _, name := range named {
		relays = append(relays, distinct(at[name])...)
	}
	return relays, nil
}

// distinct leaves out what leads to the same gateway with the same credential.
func distinct(relays []store.Relay) (some []store.Relay) {
	for _, r := range relays {
		if !slices.ContainsFunc(some, func(other store.Relay) bool {
			return orDash(other.KeyName) == orDash(r.KeyName) && orDash(other.KeyVariable) == orDash(r.KeyVariable)
		}) {
			some = append(some, r)
		}
	}
	return some
}

// ping is what came of asking one gateway with one credential.
type ping struct {
	relay   store.Relay
	phase   relay.Phase // "": it answered
	err     error       // safe to print
	timings relay.Timings
}

// pingAll asks every gateway once, and returns the answers in the order of relays.
func (c config) pingAll(cmd *cobra.Command, relays []store.Relay) ([]ping, error) {
	entra, err := c.entra()
	if err != nil {
		return nil, failure{exitConfig, err}
	}
	gateways := c.gateways()
	defer gateways.Close()
	ctx := cmd.Context()
	pings := make([]ping, len(relays))
	slots, done := make(chan struct{}, pingsAtOnce), make(chan struct{})
	for i, r := range relays {
		go func() {
			slots <- struct{}{}
			pings[i] = pingOne(ctx, gateways, r, entra)
			<-slots
			done <- struct{}{}
		}()
	}
	told := newProgress(cmd.ErrOrStderr(), len(relays), "asked")
	for n := range relays {
		<-done
		if len(relays) > pingsAtOnce {
			told.at(n + 1)
		}
	}
	told.finish()
	return pings, context.Cause(ctx)
}

func pingOne(ctx context.Context, gateways *relay.Client, r store.Relay, entra relay.TokenSource) ping {
	tokens, err := consumer.Tokens(r, os.Getenv, entra)
	if err != nil {
		return ping{relay: r, phase: relay.PhaseAuth, err: err}
	}
	timings, err := gateways.Echo(ctx, gatewayOf(r), tokens)
	p := ping{relay: r, err: err, timings: timings}
	if failed, ok := errors.AsType[*relay.Error](err); ok {
		p.phase = failed.Phase
	}
	gateways.CloseIdle(gatewayOf(r)) // whoever else wants the gateway must find it free
	return p
}

// unanswered is the error that makes the exit code 4; nil where all answered.
func unanswered(pings []ping) error {
	n := 0
	for _, p := range pings {
		if p.err != nil {
			n++
		}
	}
	switch {
	case n == 0:
		return nil
	case len(pings) == 1:
		return failure{exitRefused, errors.New("the gateway did not answer")}
	}
	return failure{exitRefused, fmt.Errorf("%d of %s did not answer", n, several(len(pings), "gateway"))}
}

// took is a step's time in five characters; "-" where it was not taken.
func took(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < 10*time.Millisecond:
		return fmt.Sprintf("%.1fms", max(d.Seconds()*1000, 0.1))
	case d < time.Second:
		return fmt.Sprintf("%dms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1fs", d.Seconds())
}
