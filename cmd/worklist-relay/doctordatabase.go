package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

// databaseAnswer is what came of asking the database.
type databaseAnswer struct {
	findings   []finding
	clocks     []clock
	store      *store.Store // open, with this program's schema; nil: not
	inspection store.Inspection
}

// askDatabase opens the database as run does, and asks it what run needs to be
// so. Nothing is written: one write is made and taken back.
func (d *doctor) askDatabase(ctx context.Context) databaseAnswer {
	for _, why := range []string{d.cut["the database"], d.cut["token for PostgreSQL"]} {
		if why != "" {
			return databaseAnswer{findings: []finding{{Check: "database", State: skipped, Found: why}}}
		}
	}
	if file, isFile := strings.CutPrefix(d.config.DatabaseURL, "sqlite:"); isFile {
		// Opening would make an empty database.
		if _, err := os.Stat(file); err != nil {
			return databaseAnswer{findings: []finding{d.bad(ctx, "database", file, "not there", "Name another file in DATABASE_URL, or make this one with `worklist-relay migrate`.")}}
		}
	}
	answer, ok := within(ctx, d.timeout, d.openDatabase)
	if !ok {
		return databaseAnswer{findings: []finding{d.bad(ctx, "database", "", fmt.Sprintf("no answer within %s", d.timeout), "Look at the server: it takes connections and does not answer.")}}
	}
	return answer
}

func (d *doctor) openDatabase(ctx context.Context) databaseAnswer {
	s, err := d.config.openDatabase(ctx)
	if err != nil {
		what, mend := d.whyNotOpen(ctx, err)
		return databaseAnswer{findings: []finding{d.bad(ctx, "database", "", what, mend)}}
	}
	begun := time.Now()
	i, err := s.Inspect(ctx)
	if err != nil {
		_ = s.Close()
		return databaseAnswer{findings: []finding{d.bad(ctx, "database", "", oneLine(err), "Look at the server and its log.")}}
	}
	answer := databaseAnswer{inspection: i}
	if !i.Now.IsZero() {
		answer.clocks = []clock{{whose: "database", said: i.Now, fineness: time.Microsecond, before: begun, after: time.Now()}}
	}
	answer.findings = append(answer.findings, d.judgeServer(ctx, s, i)...)
	schema, fits := d.judgeSchema(ctx, s)
	answer.findings = append(answer.findings, schema)
	if !fits {
		_ = s.Close()
		answer.findings = append(answer.findings, finding{Check: "rights", State: skipped, Found: "the schema is not this program's"})
		return answer
	}
	answer.store = s
	answer.findings = append(answer.findings, d.judgeRights(ctx, s, i)...)
	return answer
}

// whyNotOpen is why the database does not let us in, and what mends it.
func (d *doctor) whyNotOpen(ctx context.Context, err error) (what, mend string) {
	var slow net.Error
	what = oneLine(err)
	has := func(text string) bool { return strings.Contains(what, text) }
	switch {
	case strings.HasPrefix(d.config.DatabaseURL, "sqlite:"):
		return what, "Is it a database, and may this user write to the file and to its folder? SQLite makes files beside it."
	case has("password authentication failed"), has("28P01"), has("database password"):
		return what, "Compare user and password in DATABASE_URL with the server. With Entra ID, the user is the identity's name, and the role must have been made for it with pgaadauth_create_principal_with_oid."
	case has("pg_hba.conf"), has("28000"):
		return what, "The server does not let this user in from here: look at its firewall rules, its pg_hba.conf and whether the role exists."
	case has("does not exist"):
		return what, "Compare the database's name in DATABASE_URL with the server, or make the database."
	case has("too many"), has("remaining connection slots"):
		return what, fmt.Sprintf("Raise max_connections, or run fewer replicas: each opens up to %d.", store.MostConnections)
	case ctx.Err() == context.DeadlineExceeded, errors.As(err, &slow) && slow.Timeout():
		return fmt.Sprintf("no answer within %s", d.timeout), "Look at the server: it takes connections and does not answer."
	}
	return what, "Look at DATABASE_URL, and at the server and its log."
}

func (d *doctor) judgeServer(ctx context.Context, s *store.Store, i store.Inspection) []finding {
	if s.Dialect() == "sqlite" {
		return []finding{{Check: "database", Target: "SQLite", State: fine, Found: "version " + i.Version}}
	}
	findings := []finding{{Check: "database", Target: "PostgreSQL", State: fine, Found: fmt.Sprintf("version %s, as %s", i.Version, i.User)}}
	if i.Major < store.LeastPostgres {
		findings[0] = d.bad(ctx, "database", "PostgreSQL", fmt.Sprintf("version %s, needed: %d at least", i.Version, store.LeastPostgres), "Upgrade the server.")
	}
	if i.Standby || i.ReadOnly {
		what := "read-only"
		if i.Standby {
			what = "a standby, which follows another server"
		}
		findings = append(findings, d.bad(ctx, "database", "PostgreSQL", what, "Name the primary server in DATABASE_URL. After a failover, wait until it is primary. A full disk makes a server read-only, too."))
	}
	connections := finding{Check: "connections", State: fine, Found: fmt.Sprintf("%d of %d in use; each replica opens up to %d", i.Connections, i.MaxConnections, store.MostConnections)}
	if i.MaxConnections-i.Connections < store.MostConnections {
		connections.State, connections.Mend = warning, "Raise max_connections, or run fewer replicas."
	}
	return append(findings, connections)
}

// judgeSchema compares the version of the tables with this program's.
func (d *doctor) judgeSchema(ctx context.Context, s *store.Store) (f finding, fits bool) {
	have, want, err := s.Version(ctx)
	switch {
	case err != nil:
		return d.bad(ctx, "schema", "", oneLine(err), "Look at the rights of the database's user, and at the server's log."), false
	case have == 0:
		return d.bad(ctx, "schema", "", fmt.Sprintf("no tables, needed: version %d", want), "Run `worklist-relay migrate`. If it was migrated, DATABASE_URL names another database or search_path."), false
	case have < want:
		return d.bad(ctx, "schema", "", fmt.Sprintf("version %d, needed: %d", have, want), "Run `worklist-relay migrate`."), false
	case have > want:
		return d.bad(ctx, "schema", "", fmt.Sprintf("version %d is newer than this program's %d", have, want), "Run the newer worklist-relay."), false
	}
	return finding{Check: "schema", State: fine, Found: fmt.Sprintf("version %d, as this program needs", have)}, true
}

// judgeRights names what the database's user may not do, and tries a write.
func (d *doctor) judgeRights(ctx context.Context, s *store.Store, i store.Inspection) []finding {
	var findings []finding
	switch {
	case len(i.Lacking) == 0 && i.User != "":
		findings = append(findings, finding{Check: "rights", State: fine, Found: i.User + " may do what run does with each table"})
	case len(i.Lacking) > 0:
		findings = append(findings, d.bad(ctx, "rights", "", i.User+" lacks "+strings.Join(i.Lacking, ", "), fmt.Sprintf("As the tables' owner: GRANT %s TO %q; and so on.", i.Lacking[0], i.User)))
	}
	if err := s.TryWrite(ctx); err != nil {
		return append(findings, d.bad(ctx, "write", "", oneLine(err), "The database takes no writes: it is read-only or a standby, its disk is full, it is locked by others, or the right is missing."))
	}
	return append(findings, finding{Check: "write", State: fine, Found: "a write was made and taken back"})
}
