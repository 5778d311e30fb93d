package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// trafficSpan is how far back `relays list` looks at attempts.
const trafficSpan = time.Hour

func relaysListCommand() *cobra.Command {
	var provider string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List gateways with their health, and the relays that lead to them",
		Long: "list shows, for each namespace, what is known of its gateways, then which provider and\n" +
			"setting leads to which of them, with what credential.\n\n" +
			"  BREAKER   open: it cannot be reached, its actions wait while echoes are sent\n" +
			"  LIFE      how long ago it gave a sign of life last\n" +
			"  FAILED    how long ago it could not be reached last, and in which phase\n" +
			"  WAITS     actions that wait for it\n" +
			"  OK        share of the attempts of the last hour that were confirmed\n" +
			"  P50, P99  median and 99th percentile of the time to the ack, in that hour\n\n" +
			"The JSON is an array of relays. Besides its own columns, each has relay (namespace/path,\n" +
			"as actions have it), health (null: nothing is known; opened_at is since when the breaker\n" +
			"is open, held_at, held_by and held_why tell of a hold), and traffic: waiting, tries and\n" +
			"confirmed of the last hour, success_rate (null: no tries), ack_p50_ms and ack_p99_ms\n" +
			"(null: no ack).",
		Args: cobra.NoArgs,
		RunE: withStore(func(cmd *cobra.Command, _ []string, _ config, s *store.Store) error {
			l, err := lookAtRelays(cmd.Context(), s, provider)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(cmd.OutOrStdout(), l.documents())
			}
			return l.print(cmd.OutOrStdout())
		}),
	}
	cmd.Flags().StringVar(&provider, "provider", "", "only this provider's")
	jsonFlag(cmd, &asJSON)
	return cmd
}

// relayList is all that `relays list` shows. The maps are by gateway.
type relayList struct {
	now     time.Time
	relays  []store.Relay
	health  map[string]store.Health
	traffic map[string]store.Traffic
	orphans []string // gateways that are held back, and that no relay leads to any more
}

func lookAtRelays(ctx context.Context, s *store.Store, provider string) (relayList, error) {
	l := relayList{now: time.Now().UTC(), health: map[string]store.Health{}}
	relays, err := s.Relays(ctx, provider)
	healths, errHealth := s.Healths(ctx)
	traffic, errTraffic := s.Traffic(ctx, l.now.Add(-trafficSpan))
	if err := errors.Join(err, errHealth, errTraffic); err != nil {
		return l, err
	}
	l.relays, l.traffic = relays, traffic
	at := byGateway(relays)
	for _, h := range healths {
		l.health[h.Relay] = h
		if h.HeldAt != nil && provider == "" && at[h.Relay] == nil {
			l.orphans = append(l.orphans, h.Relay)
		}
	}
	return l, nil
}

// trafficDocument is a gateway's traffic in JSON.
type trafficDocument struct {
	Waiting     int      `json:"waiting"`
	Tries       int      `json:"tries"`
	Confirmed   int      `json:"confirmed"`
	SuccessRate *float64 `json:"success_rate"`
	AckP50      *float64 `json:"ack_p50_ms"`
	AckP99      *float64 `json:"ack_p99_ms"`
}

// relayDocument is one element of what --json prints.
type relayDocument struct {
	store.Relay
	Name    string          `json:"relay"`
	Health  *store.Health   `json:"health"`
	Traffic trafficDocument `json:"traffic"`
}

func (l relayList) documents() []relayDocument {
	list := make([]relayDocument, len(l.relays))
	for i, r := range l.relays {
		name := gatewayOf(r).String()
		t := l.traffic[name]
		list[i] = relayDocument{Relay: r, Name: name, Traffic: trafficDocument{
			Waiting: t.Waiting, Tries: t.Tries, Confirmed: t.Confirmed, AckP50: inMS(t.AckP50), AckP99: inMS(t.AckP99),
		}}
		if t.Tries > 0 {
			rate := float64(t.Confirmed) / float64(t.Tries)
			list[i].Traffic.SuccessRate = &rate
		}
		if h, known := l.health[name]; known {
			list[i].Health = &h
		}
	}
	return list
}

func (l relayList) print(w io.Writer) error {
	if len(l.relays)+len(l.orphans) == 0 {
		_, err := fmt.Fprintln(w, "no relays; `relays add` adds one")
		return err
	}
	gateways := append(names(byGateway(l.relays)), l.orphans...)
	slices.Sort(gateways)
	for i, namespace := range namespacesOf(gateways) {
		if i > 0 {
			fmt.Fprintln(w)
		}
		fmt.Fprintf(w, "%s\n%s\n", namespace, healthRow("GATEWAY", "BREAKER", "LIFE", "FAILED", "WAITS", "OK", "P50", "P99"))
		for _, name := range gateways {
			if itsNamespace, path, _ := strings.Cut(name, "/"); itsNamespace == namespace {
				l.printGateway(w, name, path)
			}
		}
		if err := l.printRoutes(w, namespace); err != nil {
			return err
		}
	}
	return nil
}

func namespacesOf(gateways []string) (list []string) {
	for _, name := range gateways {
		namespace, _, _ := strings.Cut(name, "/")
		list = append(list, namespace)
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// printGateway is a gateway's row, and below it what else is to be known.
func (l relayList) printGateway(w io.Writer, name, path string) {
	h, t := l.health[name], l.traffic[name]
	breaker, failed, ok := fmt.Sprintf("%-7s", "closed"), "-", "-"
	if h.OpenedAt != nil {
		breaker = paint(w, red, fmt.Sprintf("%-7s", "open"))
	}
	if h.LastFailureAt != nil {
		failed = l.ago(h.LastFailureAt) + " " + orDash(h.LastPhase)
	}
	if t.Tries > 0 {
		ok = fmt.Sprintf("%d%%", t.Confirmed*100/t.Tries)
	}
	fmt.Fprintln(w, healthRow(lastOf(path, healthWidth), breaker, l.ago(h.LastLifeAt), failed, fmt.Sprint(t.Waiting), ok, took(t.AckP50), took(t.AckP99)))
	if h.OpenedAt != nil {
		fmt.Fprintln(w, hanging("  ", fmt.Sprintf("open since %s, %s failed, next at %s", at(h.OpenedAt), several(h.Probes, "probe"), at(h.NextProbeAt))))
		fmt.Fprintln(w, hanging("    ", meaningOf(h.LastPhase)))
	}
	if h.HeldAt != nil {
		fmt.Fprintln(w, paint(w, yellow, hanging("  ", fmt.Sprintf("held back since %s by %s: %s", at(h.HeldAt), orDash(h.HeldBy), orDash(h.HeldWhy)))))
	}
}

// meaningOf is the advice on a phase that SQL names.
func meaningOf(phase *string) string {
	a := phases[relay.Phase(strings.TrimPrefix(orDash(phase), "-"))]
	return a.Meaning + " " + a.Todo
}

const healthWidth = 20 // of a gateway's path in the table of health

// healthRow is 80 columns wide. The breaker is padded already: it may be coloured.
func healthRow(name, breaker, life, failed, waits, ok, p50, p99 string) string {
	return strings.TrimRight(fmt.Sprintf("%-*s  %s  %-4s  %-16s  %5s  %4s  %5s  %5s", healthWidth, name, breaker, life, failed, waits, ok, p50, p99), " ")
}

func (l relayList) printRoutes(w io.Writer, namespace string) error {
	var rows []string
	for _, r := range l.relays {
		itsNamespace, path, _ := strings.Cut(gatewayOf(r).String(), "/")
		if itsNamespace != namespace {
			continue
		}
		credential := "Entra ID"
		if r.KeyName != nil {
			credential = *r.KeyName + " from " + orDash(r.KeyVariable)
		}
		rows = append(rows, strings.Join([]string{r.ProviderID, orDash(r.SettingID), path, credential}, "\t"))
	}
	if len(rows) == 0 {
		return nil
	}
	fmt.Fprintln(w)
	return printTable(w, "PROVIDER\tSETTING\tGATEWAY\tCREDENTIAL", rows)
}

// ago is a span in four characters; "-" for no time.
func (l relayList) ago(t *time.Time) string {
	if t == nil {
		return "-"
	}
	switch d := max(l.now.Sub(*t), 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 100*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}
