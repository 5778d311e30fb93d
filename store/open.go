package store

import (
	"database/sql"
	"errors"
	"io/fs"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/jmoiron/sqlx"
	"github.com/lib/pq"
	"modernc.org/sqlite"
)

// dialect is what little differs between the two databases.
type dialect struct {
	name       string // "postgres" or "sqlite"; also the folder of its migrations
	where      string // the database for messages, without a password
	forUpdate  string // appended to a SELECT to lock its rows
	withWrites bool   // a WITH may hold a statement that writes
	shares     bool   // writes wait for one connection, and share transactions
	hasTable   string // a query that says whether table $1 exists
}

func openURL(url string, o options) (*sqlx.DB, dialect, error) {
	if isPostgres(url) {
		return openPostgres(url, o)
	}
	if file, ok := strings.CutPrefix(url, "sqlite:"); ok {
		return openSQLite(file, o)
	}
	return nil, dialect{}, errors.New("a database URL begins with postgres:// or postgresql://, or is sqlite:FILE")
}

func isPostgres(url string) bool {
	scheme, _, _ := strings.Cut(url, ":")
	return scheme == "postgres" || scheme == "postgresql"
}

func openPostgres(text string, o options) (*sqlx.DB, dialect, error) {
	u, cfg, err := parsePostgres(text, o.password != nil)
	if err != nil {
		return nil, dialect{}, err
	}
	if cfg.ConnectTimeout == 0 {
		cfg.ConnectTimeout = o.waits.Open
	}
	// One round trip for each statement instead of two.
	cfg.BinaryParameters = true
	db := sql.OpenDB(o.wrapped(connector{cfg: cfg, waits: o.waits, password: o.password}))
	db.SetMaxOpenConns(o.most)
	db.SetMaxIdleConns(o.most)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(30 * time.Minute)
	return sqlx.NewDb(db, "postgres"), dialect{
		name:       "postgres",
		where:      u.Scheme + "://" + u.Host + u.Path,
		forUpdate:  " FOR UPDATE",
		withWrites: true,
		hasTable:   "SELECT to_regclass($1) IS NOT NULL",
	}, nil
}

// parsePostgres says nothing of a URL that does not parse: an unescaped
// character in a password makes a parser quote the password's pieces.
func parsePostgres(text string, asksPassword bool) (*url.URL, pq.Config, error) {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Fragment != "" || strings.Contains(u.Host+u.Path, "@") {
		return nil, pq.Config{}, errors.New("the URL does not parse; write special characters of the password as %XX")
	}
	cfg, err := pq.NewConfig(text)
	if err != nil {
		return nil, pq.Config{}, errors.New("the URL has a parameter that the driver does not accept")
	}
	if asksPassword {
		err = takesPassword(u, cfg)
	}
	return u, cfg, err
}

// takesPassword says what keeps a password that is asked for from being sent to
// a server: such a one lets its reader in elsewhere too.
func takesPassword(u *url.URL, cfg pq.Config) error {
	var faults []error
	if _, has := u.User.Password(); has || u.Query().Has("password") {
		faults = append(faults, errors.New("the URL holds a password, and a token is to be the password: leave one out"))
	}
	if u.User.Username() == "" {
		faults = append(faults, errors.New("the URL names no role: give postgres://ROLE@HOST/DATABASE"))
	}
	if cfg.SSLMode != pq.SSLModeVerifyFull && !onLoopback(cfg) {
		faults = append(faults, errors.New("a token is sent only to a server whose name is verified: give sslmode=verify-full"))
	}
	return errors.Join(faults...)
}

// onLoopback reports whether nothing that is sent leaves this machine.
func onLoopback(cfg pq.Config) bool {
	hosts := append([]pq.ConfigMultihost{{Host: cfg.Host, Hostaddr: cfg.Hostaddr}}, cfg.Multi...)
	return !slices.ContainsFunc(hosts, func(h pq.ConfigMultihost) bool {
		if h.Hostaddr.IsValid() { // is dialled, whatever the host is called
			return !h.Hostaddr.IsLoopback()
		}
		address, _ := netip.ParseAddr(strings.Trim(h.Host, "[]"))
		return h.Host != "localhost" && !address.IsLoopback()
	})
}

// openSQLite makes one connection: it queues writers fairly within a process,
// where several would take turns by sleeping, and those that wait share a
// transaction. Other processes wait for the busy timeout. synchronous=FULL, since a sent mark must survive a power cut.
func openSQLite(file string, o options) (*sqlx.DB, dialect, error) {
	if file == "" || strings.Contains(file, ":memory:") {
		return nil, dialect{}, errors.New("sqlite: no file name")
	}
	if err := create(file); err != nil {
		return nil, dialect{}, err
	}
	query := url.Values{
		"_busy_timeout": {strconv.FormatInt(o.waits.Busy.Milliseconds(), 10)},
		"_journal_mode": {"WAL"},
		"_synchronous":  {"FULL"},
		"_foreign_keys": {"on"},
		"_time_format":  {"sqlite"},
		"_timezone":     {"UTC"},
		"_dqs":          {"0"},
	}
	uri := url.URL{Scheme: "file", Opaque: (&url.URL{Path: filepath.ToSlash(file)}).EscapedPath(), RawQuery: query.Encode()}
	connector, err := sqlite.NewConnector(uri.String())
	if err != nil {
		return nil, dialect{}, err
	}
	db := sql.OpenDB(o.wrapped(compiling{connector}))
	db.SetMaxOpenConns(1)
	return sqlx.NewDb(db, "sqlite"), dialect{
		name:     "sqlite",
		shares:   true,
		where:    "sqlite:" + file,
		hasTable: "SELECT count(*) > 0 FROM sqlite_master WHERE type = 'table' AND name = $1",
	}, nil
}

// creating guards the closing of new database files: a process that closes any
// descriptor of a file loses all its locks on it, SQLite's among them.
var creating sync.Mutex

// create makes an empty file that only its owner can read, unless there is one.
// SQLite gives its journals the same mode.
func create(file string) error {
	creating.Lock()
	defer creating.Unlock()
	f, err := os.OpenFile(filepath.Clean(file), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}
