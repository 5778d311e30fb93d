package main_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// Where nothing is wrong doctor finds nothing wrong: in words and as JSON, with
// and without calling the gateway, on both databases.
func TestDoctorFindsAllWell(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		dialect, _, _ := strings.Cut(address, ":")
		i := newInstallation(t, dialect, queueAsItShouldBe())
		i.env["HTTP_ADDR"] = freeAddr(t)
		said := i.examine("--echo", "--json")
		if said.code != 0 || said.Worst != "ok" || said.errs != "" {
			t.Errorf("exit code %d, worst %q, %s", said.code, said.Worst, said.errs)
		}
		checks := map[string]bool{}
		for _, f := range said.Findings {
			checks[f.Check] = true
			if f.State != "ok" && f.State != "note" && f.Check != "clock" || f.Found == "" {
				t.Errorf("finding %+v", f)
			}
		}
		for _, check := range []string{"configuration", "dns", "tcp", "tls", "token", "listen", "sessions", "send", "manage", "queue",
			"database", "schema", "write", "clock", "relays", "echo", "http", "time zone", "shutdown"} {
			if !checks[check] {
				t.Errorf("no finding of %s", check)
			}
		}
		words := i.examine()
		if words.code != 0 || words.errs != "" {
			t.Errorf("exit code %d, %s", words.code, words.errs)
		}
		lines := strings.Split(strings.TrimSpace(words.out), "\n")
		if last := lines[len(lines)-1]; !strings.HasPrefix(last, "worst: ok (0 failed, 0 warnings, ") {
			t.Errorf("the last line is %q", last)
		}
		for _, line := range lines {
			if len([]rune(line)) > 80 && strings.Contains(strings.TrimSpace(line), " ") {
				t.Errorf("more than 80 columns: %s", line)
			}
		}
		if !strings.Contains(words.out, "skipped  echo: ") || !strings.Contains(words.out, "ok       schema: ") {
			t.Errorf("said:\n%s", words.out)
		}
	})
}

// Doctor takes no message, locks none, writes no row, and calls no gateway
// unless it is told to.
func TestDoctorChangesNothing(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, address string) {
		dialect, _, _ := strings.Cut(address, ":")
		i := newInstallation(t, dialect, queueAsItShouldBe())
		i.send("0f0f0f0f-0000-4000-8000-000000000001", "0f0f0f0f-0000-4000-8000-000000000002")
		i.deadLetterFirst()
		before := i.everything()
		if said := i.examine(); said.code != 0 {
			t.Errorf("exit code %d\n%s", said.code, said.out)
		}
		if diff := cmp.Diff(before, i.everything()); diff != "" {
			t.Errorf("something changed (-before +after):\n%s", diff)
		}
	})
}

// send puts creates into the queue.
func (i *installation) send(ids ...string) {
	i.t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(i.broker.ConnectionString(), nil)
	i.must(err)
	defer client.Close(context.Background())
	sender, err := client.NewSender(queue, nil)
	i.must(err)
	for _, id := range ids {
		body, err := json.Marshal(leaktest.Create(id, "SYN"+id[30:], "20300506"))
		i.must(err)
		m, err := consumer.Encode("leeds", nil, body)
		i.must(err)
		i.must(sender.SendMessage(context.Background(), m, nil))
	}
}

func (i *installation) deadLetterFirst() {
	i.t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(i.broker.ConnectionString(), nil)
	i.must(err)
	defer client.Close(context.Background())
	receiver, err := client.AcceptNextSessionForQueue(context.Background(), queue, nil)
	i.must(err)
	messages, err := receiver.ReceiveMessages(context.Background(), 1, nil)
	i.must(err)
	i.must(receiver.DeadLetterMessage(context.Background(), messages[0], nil))
	i.must(receiver.Close(context.Background()))
}

// everything is the state of the queue, the gateway and the database.
func (i *installation) everything() map[string]string {
	i.t.Helper()
	all := map[string]string{
		"queues":   fmt.Sprintf("%+v", i.broker.Queues()),
		"sessions": fmt.Sprintf("%+v", i.broker.Sessions(queue)),
		"messages": fmt.Sprintf("%+v", i.broker.Messages(queue)),
		"dead":     fmt.Sprintf("%+v", i.broker.Messages(queue+"/$DeadLetterQueue")),
		"gateway":  fmt.Sprintf("%+v", i.gateway.Snapshot()),
	}
	s := scene{t: i.t, database: i.database}
	db, err := s.open()
	i.must(err)
	defer db.Close()
	for _, table := range []string{"relays", "actions", "attempts", "audit", "pulse", "gateway_health", "goose_db_version"} {
		all[table] = i.dump(db, table)
	}
	return all
}

func (i *installation) dump(db *sql.DB, table string) string {
	i.t.Helper()
	rows, err := db.Query("SELECT * FROM " + table)
	i.must(err)
	defer rows.Close()
	columns, err := rows.Columns()
	i.must(err)
	var text strings.Builder
	for rows.Next() {
		values := make([]any, len(columns))
		for n := range values {
			values[n] = new(any)
		}
		i.must(rows.Scan(values...))
		for _, v := range values {
			fmt.Fprintf(&text, "%v ", *v.(*any))
		}
		text.WriteString("\n")
	}
	i.must(rows.Err())
	return text.String()
}

// Gateways that get no actions for a while are no fault, and noted.
func TestDoctorNotesHeldGateways(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "sqlite", queueAsItShouldBe())
	name := i.relay.Addr() + "/leeds"
	now, phase := time.Now(), "no_listener"
	i.must(i.store.SaveHealth(context.Background(), store.Health{Relay: name, Failures: 3, OpenedAt: &now, NextProbeAt: &now, LastPhase: &phase}))
	i.must(i.store.HoldGateway(context.Background(), name, store.By{Who: "ada", Why: "new firmware"}))
	said := i.examine("--json")
	said.has(t, finding{Check: "gateway", Target: "/leeds", State: "note", Found: "by ada: new firmware", Mend: "relays release"})
	said.has(t, finding{Check: "gateway", Target: "/leeds", State: "note", Found: "its breaker is open since", Mend: "listener running"})
	if said.code != 0 {
		t.Errorf("exit code %d", said.code)
	}
}

// What cmd/local serves is an installation without faults.
func TestDoctorOfLocalServers(t *testing.T) {
	t.Parallel()
	p := startServers(t, storetest.URL(t, "sqlite"))
	if said := p.run("worklist-relay", "doctor", "--echo"); !strings.Contains(string(said), "\nworst: ok (0 failed, 0 warnings, ") {
		t.Errorf("said:\n%s", said)
	}
}
