package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
)

// LeastPostgres is the oldest version of PostgreSQL that the schema can be made
// on: it has identity columns.
const LeastPostgres = 10

// MostConnections is how many connections to PostgreSQL one process opens at most.
const MostConnections = 8

// Server is where a database URL leads, as the driver reads it.
type Server struct {
	Addresses []string // host:port each; none: a file, or a socket of this machine
	TLSMode   string   // sslmode: "disable", "require", "verify-full", ...
	RootCert  string   // PEM file, or "system"; "": the system's
}

// ServerOf says where url leads. It dials nothing, and its error is why [Open]
// could not use the URL, without a piece of it.
func ServerOf(url string) (Server, error) {
	if strings.HasPrefix(url, "sqlite:") {
		return Server{}, nil
	}
	db, _, err := openURL(url, options{waits: &usual, most: MostConnections}) // which connects when first used
	if err != nil {
		return Server{}, err
	}
	_ = db.Close()
	cfg, err := pq.NewConfig(url)
	if err != nil {
		return Server{}, errors.New("the URL has a parameter that the driver does not accept")
	}
	s := Server{TLSMode: cmp.Or(string(cfg.SSLMode), "require"), RootCert: cfg.SSLRootCert}
	add := func(host string, port uint16) {
		if host != "" && !strings.HasPrefix(host, "/") && !strings.HasPrefix(host, "@") {
			s.Addresses = append(s.Addresses, net.JoinHostPort(host, strconv.Itoa(int(port))))
		}
	}
	add(cfg.Host, cfg.Port)
	for _, other := range cfg.Multi {
		add(other.Host, other.Port)
	}
	return s, nil
}

// Inspection is what a database says of itself.
type Inspection struct {
	Version        string    // of the server, or of SQLite
	Major          int       // of PostgreSQL; 0 with SQLite
	User           string    // whom it knows us as; "" with SQLite
	Standby        bool      // it only follows another
	ReadOnly       bool      // transactions are, unless they say otherwise
	Now            time.Time // by its own clock, UTC; zero with SQLite
	MaxConnections int       // 0 with SQLite
	Connections    int       // in use, ours among them
	Lacking        []string  // rights on our tables that the user has not: "INSERT on actions"
}

// Inspect asks PostgreSQL about itself and our rights, and SQLite for its version.
// It writes nothing, and wants no tables: what is not there is no missing right.
func (s *Store) Inspect(ctx context.Context) (Inspection, error) {
	var i Inspection
	if s.dialect.name == "sqlite" {
		err := s.db.GetContext(ctx, &i.Version, "SELECT sqlite_version()")
		if err != nil {
			err = fmt.Errorf("inspect database %s: %w", s.dialect.where, err)
		}
		return i, err
	}
	var number int
	err := s.db.QueryRowContext(ctx, `SELECT current_setting('server_version'), current_setting('server_version_num')::int, current_user,
		pg_is_in_recovery(), current_setting('transaction_read_only') = 'on',
		current_setting('max_connections')::int, (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'), clock_timestamp()`).
		Scan(&i.Version, &number, &i.User, &i.Standby, &i.ReadOnly, &i.MaxConnections, &i.Connections, &i.Now)
	if err == nil {
		i.Major, i.Now = number/10000, i.Now.UTC()
		i.Lacking, err = s.lacking(ctx)
	}
	if err != nil {
		return Inspection{}, fmt.Errorf("inspect database %s: %w", s.dialect.where, err)
	}
	return i, nil
}

// rights are those that the program uses, by table.
var rights = []struct{ table, rights string }{
	{versionTable, "SELECT"},
	{"relays", "SELECT, INSERT, UPDATE, DELETE"},
	{"actions", "SELECT, INSERT, UPDATE"},
	{"attempts", "SELECT, INSERT"},
	{"audit", "SELECT, INSERT"},
	{"pulse", "SELECT, INSERT, UPDATE"},
	{"gateway_health", "SELECT, INSERT, UPDATE"},
	{"worklist_outcomes", "SELECT"},
}

func (s *Store) lacking(ctx context.Context) (list []string, err error) {
	for _, r := range rights {
		for right := range strings.SplitSeq(r.rights, ", ") {
			var has bool
			err := s.db.GetContext(ctx, &has, "SELECT COALESCE(has_table_privilege(to_regclass($1), $2), TRUE)", r.table, right)
			if err != nil {
				return nil, err
			}
			if !has {
				list = append(list, right+" on "+r.table)
			}
		}
	}
	return list, nil
}

var errTakenBack = errors.New("taken back")

// TryWrite makes the write of [Store.Writable] and takes it back: a standby, a
// read-only database and a missing right refuse it, and nothing is changed.
func (s *Store) TryWrite(ctx context.Context) error {
	err := s.write(ctx, func(tx *sqlx.Tx) error {
		if _, err := tx.ExecContext(ctx, writePulse, s.now()); err != nil {
			return err
		}
		return errTakenBack
	})
	if err != nil && !errors.Is(err, errTakenBack) {
		return fmt.Errorf("write to database %s: %w", s.dialect.where, err)
	}
	return nil
}
