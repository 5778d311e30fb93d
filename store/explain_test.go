package store_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storefill"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// When the methods of the store are called. A new one has to be put in its place.
var (
	onTheWay = strings.Fields(`Claim MarkSent Release Abandon Record RecordInvalid Relay Health SaveHealth TakeProbe
		WorklistOutcome OweOutcome OutcomesOwed OutcomeTold Ping Writable`)  // of each action
	inALoop = strings.Fields("Standings CountOutcomesOwed DeadLettered WouldEnd") // of the service, with whatever is listed as overdue
	byHand  = strings.Fields(`Action Actions ActionsByID AddRelay Audit CheckSchema CountActions Counts Healths HoldGateway Inspect Migrate
		PutRelays RelayAudit Relays ReleaseGateway RemoveRelay Reopen ReplaceRelay Resolve Traffic TryWrite Version Withdraw`)
	offline = strings.Fields("Close Dialect Waiting Gathering") // asks nothing of the database; the last two are of tests
)

// exception lets the statements of a method that hold a text do what costs more
// the more rows there are.
type exception struct{ method, text, finding, dialect, why string }

var exceptions = []exception{
	{"Claim", "GROUP BY relay", "sorts", "", "the attempts of one action"},
	{"Claim", "accession_number = $2", "sorts", "", "the actions of one accession number"},
	{"OutcomesOwed", "WHERE outcome_owed", "sorts", "", "those of one instant, and few are owed"},

	{"Standings", "FROM relays", "scans relays or scans gateway_health or sorts", "", "it tells of each gateway"},
	{"Standings", "WINDOW gateway", "sorts or walks relays or scans relays", "", "the actions that wait, with their relays"},
	{"Actions", overdue, "sorts", "", "the actions that wait"},

	{"Relays", "", "scans relays or walks relays", "", "it lists them"},
	{"Healths", "", "scans gateway_health or walks gateway_health", "", "it lists them"},
	{"Traffic", "FROM relays", "scans relays or walks relays", "", "it tells of each gateway"},
	{"Actions", "FROM actions  ORDER BY", "walks actions", "", "the newest, as many as are wanted"},
	{"Actions", "WHERE provider_id = $1 ORDER BY", "reads a provider's actions", "", "the newest, as many as are wanted"},
	{"Actions", "lower(relay) LIKE", "scans actions or walks actions", "", "part of a name, which no index knows"},
	{"Actions", "lower(reason)", "scans actions or walks actions", "", "too seldom asked to pay for an index"},
	{"Actions", "last_phase = $1", "scans actions or walks actions", "", "too seldom asked to pay for an index"},
	{"CountActions", "FROM actions", "scans actions or walks actions or reads a provider's actions", "", "it counts them"},
	{"Counts", "", "scans actions or walks actions", "", "it counts them"},

	{"Migrate", versions, "scans goose_db_version", "", "a row for each migration"},
	{"Version", versions, "scans goose_db_version", "postgres", "a row for each migration"},
	{"CheckSchema", versions, "scans goose_db_version", "postgres", "a row for each migration"},
}

const versions = "goose_db_version"

// TestEveryQueryUsesAnIndex has the store make all of its statements among some
// thousands of rows, and asks the database how it goes about each. The answer is
// the planner's own choice: nothing is forbidden to it, so that what it could do
// better and does not is found too. SQLite is asked with statistics and, as the
// service leaves it, without.
func TestEveryQueryUsesAnIndex(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	storetest.Each(t, func(t *testing.T, url string) {
		statements := noteEverything(t, url, 5000)
		p := planOn(t, url)
		used := map[exception]bool{}
		check := func() {
			p.must(ctx, t, "BEGIN")
			for _, f := range p.all(ctx, t, statements) {
				if f.excepted == (exception{}) {
					t.Errorf("%s %s:\n%s\n%s", f.method, f.what, f.text, f.plan)
				}
				used[f.excepted] = true
			}
			p.must(ctx, t, "ROLLBACK")
		}
		if p.dialect == "sqlite" {
			check()
		}
		p.must(ctx, t, "ANALYZE")
		check()
		for _, e := range exceptions {
			if !used[e] && (e.dialect == "" || e.dialect == p.dialect) {
				t.Errorf("%s of %q need not be let to do what %q says", e.method, e.text, e.finding)
			}
		}
		t.Run("indexes", func(t *testing.T) { p.everyIndexIsNeeded(ctx, t, statements) })
	})
}

// unmissed are indexes that a plan does without, and is the worse for.
var unmissed = []string{"audit_relay"} // what was done to one relay is not sought among what was done to all

// everyIndexIsNeeded: each costs every write of its table, so there is none that
// no statement needs.
func (p planner) everyIndexIsNeeded(ctx context.Context, t *testing.T, statements []noted) {
	for name, i := range p.indexes {
		if strings.HasSuffix(name, "_pkey") || strings.HasPrefix(name, "sqlite_autoindex") {
			continue // a primary key is one
		}
		p.must(ctx, t, "BEGIN")
		p.must(ctx, t, "DROP INDEX "+name)
		var miss []string
		for _, f := range p.all(ctx, t, statements) {
			if f.excepted == (exception{}) {
				miss = append(miss, f.method+" "+f.what)
			}
		}
		p.must(ctx, t, "ROLLBACK")
		slices.Sort(miss)
		t.Logf("without %s: %s", name, strings.Join(slices.Compact(miss), ", "))
		if len(miss) == 0 && !i.unique && !slices.Contains(unmissed, name) {
			t.Errorf("no statement misses %s", name)
		}
	}
}

// What may cost more with more rows is never on the way of an action, nor again
// and again, but for what grows with the gateways and not with the past.
func TestExceptionsAreForPeople(t *testing.T) {
	t.Parallel()
	for _, e := range exceptions {
		for what := range strings.SplitSeq(e.finding, " or ") {
			_, table, _ := strings.Cut(what, " ")
			onTheWay, overAgain := slices.Contains(onTheWay, e.method), slices.Contains(inALoop, e.method) || e.text == overdue
			if what != "sorts" && (onTheWay || overAgain && table != "relays" && table != "gateway_health") {
				t.Errorf("%s %s", e.method, what)
			}
		}
	}
}

// found is what a statement does that costs more the more rows there are.
type found struct {
	noted
	what, plan string
	excepted   exception // zero: it must not
}

// all is what the statements do, in the transaction that is open. What one does
// with several arguments is told once.
func (p planner) all(ctx context.Context, t *testing.T, statements []noted) (all []found) {
	t.Helper()
	p.must(ctx, t, "SAVEPOINT explained")
	told := map[[3]string]bool{}
	for _, s := range statements {
		verb, _, _ := strings.Cut(strings.TrimSpace(s.text), " ")
		if !slices.Contains([]string{"SELECT", "WITH", "INSERT", "UPDATE", "DELETE"}, strings.ToUpper(verb)) {
			continue
		}
		findings, plan, err := p.findings(ctx, s)
		if err != nil {
			p.must(ctx, t, "ROLLBACK TO explained")
			findings = []string{"is not explained: " + err.Error()}
		}
		for _, what := range findings {
			key := [3]string{s.method, s.text, what}
			if told[key] || what == "sorts" && s.byHand() {
				continue
			}
			told[key] = true
			all = append(all, found{s, what, plan, exceptionFor(s, what, p.dialect)})
		}
	}
	return all
}

func (s noted) byHand() bool {
	return slices.Contains(byHand, s.method) && !strings.Contains(s.text, overdue)
}

// overdue is what reconciling asks for, again and again.
const overdue = "COALESCE(claimed_until"

func exceptionFor(s noted, what, dialect string) exception {
	for _, e := range exceptions {
		meant := e.method == s.method && strings.Contains(s.text, e.text) && strings.Contains(s.text, overdue) == (e.text == overdue)
		if meant && slices.Contains(strings.Split(e.finding, " or "), what) && (e.dialect == "" || e.dialect == dialect) {
			return e
		}
	}
	return exception{}
}

func (p planner) must(ctx context.Context, t *testing.T, statement string) {
	t.Helper()
	if _, err := p.ExecContext(ctx, statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// planOn explains on a connection of its own.
func planOn(t *testing.T, url string) planner {
	t.Helper()
	db := raw(t, url)
	conn, err := db.DB.Conn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	p, err := newPlanner(context.Background(), conn, db.DriverName())
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// noteEverything returns the statements of every method of the store, made on
// the database at url, among so many rows of each table.
func noteEverything(t *testing.T, url string, rows int) []noted {
	t.Helper()
	n := &notes{known: map[string]bool{}}
	c := &clock{at: start}
	f := fixture{storetest.Open(t, url, store.WithClock(c.now), store.WithConnector(n.connector)), t, c, url}
	ctx := context.Background()
	if err := storefill.Fill(ctx, url, rows); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{manyRelays, manyHealths, manyAudits} {
		if _, err := raw(t, url).ExecContext(ctx, fmt.Sprintf(many, rows)+table); err != nil {
			t.Fatal(err)
		}
	}
	n.take(true)
	f.everything(ctx)
	if f.Dialect() == "postgres" {
		f.gathers(t, 1000, 2, func(step func()) { step() })
		f.gathers(t, 2000, 40, func(step func()) { step() }) // most of the largest
	}
	n.take(false)
	return n.all
}

const (
	many       = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d) "
	manyRelays = `INSERT INTO relays (provider_id, namespace, hybrid_connection, created_at, updated_at)
		SELECT 'many-' || i, 'many.servicebus.windows.net', 'hc-' || i, '2026-03-02 09:00:00+00:00', '2026-03-02 09:00:00+00:00' FROM n`
	manyHealths = `INSERT INTO gateway_health (relay, failures, probes, updated_at)
		SELECT 'many.servicebus.windows.net/hc-' || i, 0, 0, '2026-03-02 09:00:00+00:00' FROM n`
	manyAudits = `INSERT INTO audit (at, who, verb, provider_id, action_id, relay, why, detail)
		SELECT '2026-03-02 09:00:00+00:00', 'ada', 'resolve', 'many-' || i, CAST(i AS TEXT), 'many.servicebus.windows.net/hc-' || i, '', '' FROM n`
)
