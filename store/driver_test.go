package store_test

import (
	"cmp"
	"context"
	"database/sql/driver"
	"sync"
	"testing"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// driven counts what the driver is asked, and does harm where a test says so.
type driven struct {
	after func() // each statement that returns no rows; nil: nothing. Set while none runs

	mu           sync.Mutex // guards what follows
	statements   int
	transactions int    // a statement outside of one is one too
	failCommits  int    // so many of the next fail
	at           any    // the argument of a statement before which do is called; nil: none
	do           func() // and may panic
	asking       int    // queries that have no answer yet
	refused      error  // the first error of a query; nil: none
	inside       bool   // a transaction of the one connection is open; for a store with more, one caller at a time
}

// openDriven is open with the driver's calls seen.
func openDriven(t testing.TB, url string, opts ...store.Option) (fixture, *driven) {
	t.Helper()
	d, c := &driven{}, &clock{at: start}
	return fixture{storetest.Open(t, url, append(opts, store.WithClock(c.now), store.WithConnector(d.wrap))...), t, c, url}, d
}

// since is what do asked for.
func (d *driven) since(do func()) (statements, transactions int) {
	d.mu.Lock()
	s, t := d.statements, d.transactions
	d.mu.Unlock()
	do()
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.statements - s, d.transactions - t
}

func (d *driven) statement(args []driver.NamedValue) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.statements++
	if !d.inside {
		d.transactions++
	}
	for _, arg := range args {
		if d.at != nil && arg.Value == d.at {
			d.do()
		}
	}
}

func (d *driven) begin(inside bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.inside = inside
	if inside {
		d.transactions++
	}
}

func (d *driven) begun(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asking += n
}

// under reports whether a query is under way.
func (d *driven) under() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.asking > 0
}

func (d *driven) commitFails() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.failCommits == 0 {
		return false
	}
	d.failCommits--
	return true
}

func (d *driven) wrap(c driver.Connector) driver.Connector { return drivenConnector{c, d} }

type drivenConnector struct {
	driver.Connector
	*driven
}

func (c drivenConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return drivenConn{conn.(driverConn), c.driven}, nil
}

type drivenConn struct {
	driverConn
	*driven
}

func (c drivenConn) CheckNamedValue(v *driver.NamedValue) error {
	if checks, ok := c.driverConn.(driver.NamedValueChecker); ok {
		return checks.CheckNamedValue(v)
	}
	return driver.ErrSkip
}

func (c drivenConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.statement(args)
	if c.after != nil {
		defer c.after()
	}
	return c.driverConn.ExecContext(ctx, query, args)
}

func (c drivenConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.statement(args)
	c.begun(1)
	defer c.begun(-1)
	rows, err := c.driverConn.QueryContext(ctx, query, args)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.refused = cmp.Or(c.refused, err)
	return rows, err
}

// PrepareContext would hide what its statements are asked.
func (c drivenConn) PrepareContext(context.Context, string) (driver.Stmt, error) {
	panic("a prepared statement, which is not counted")
}

func (c drivenConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	tx, err := c.driverConn.BeginTx(ctx, opts)
	if err != nil {
		return nil, err
	}
	c.begin(true)
	return drivenTx{tx, c.driven}, nil
}

type drivenTx struct {
	driver.Tx
	*driven
}

func (t drivenTx) Commit() error {
	t.begin(false)
	if t.commitFails() {
		_ = t.Tx.Rollback()
		return driver.ErrBadConn
	}
	return t.Tx.Commit()
}

func (t drivenTx) Rollback() error {
	t.begin(false)
	return t.Tx.Rollback()
}
