package store_test

import (
	"context"
	"database/sql/driver"
	"sync/atomic"
	"testing"

	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// readOnly makes the connections of a store refuse writes while on is set, and
// answer reads: as SQLite does on a read-only file system, and PostgreSQL as a standby.
type readOnly struct {
	driver.Connector
	on   atomic.Bool
	set  map[bool]string // the statements that begin and end it
	says bool            // a transaction says itself whether it writes: PostgreSQL
}

func (r *readOnly) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := r.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &readOnlyConn{drivenConn: drivenConn{conn.(driverConn), &driven{}}, readOnly: r}, nil
}

type readOnlyConn struct {
	drivenConn
	*readOnly
	is bool
}

func (c *readOnlyConn) settle(ctx context.Context) error {
	want := c.on.Load()
	if c.is == want {
		return nil
	}
	c.is = want
	_, err := c.driverConn.ExecContext(ctx, c.set[want], nil)
	return err
}

func (c *readOnlyConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	return c.drivenConn.ExecContext(ctx, query, args)
}

func (c *readOnlyConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	return c.drivenConn.QueryContext(ctx, query, args)
}

func (c *readOnlyConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	if err := c.settle(ctx); err != nil {
		return nil, err
	}
	opts.ReadOnly = c.is && c.says // else it begins one that may write, whatever the default
	return c.drivenConn.BeginTx(ctx, opts)
}

// A database that answers reads and takes no writes is unavailable, changes
// nothing, and is as good as ever when it takes them again.
func TestTakesNoWrites(t *testing.T) {
	t.Parallel()
	storetest.Each(t, func(t *testing.T, url string) {
		r, c := &readOnly{}, &clock{at: start}
		f := fixture{storetest.Open(t, url, store.WithClock(c.now), store.WithConnector(func(to driver.Connector) driver.Connector {
			r.Connector = to
			return r
		})), t, c, url}
		r.set = map[bool]string{true: "PRAGMA query_only = ON", false: "PRAGMA query_only = OFF"}
		if f.Dialect() == "postgres" {
			r.says = true
			r.set = map[bool]string{true: "SET default_transaction_read_only = on", false: "SET default_transaction_read_only = off"}
		}
		ctx := t.Context()
		marked, claimed := f.claim(nth(1), store.Claimed).Ref(), f.claim(nth(2), store.Claimed).Ref()
		f.mark(marked)

		r.on.Store(true)
		for name, write := range map[string]func() error{
			"Writable": func() error { return f.Writable(ctx) },
			"Claim":    func() error { _, err := f.Claim(ctx, nth(3)); return err },
			"MarkSent": func() error { return f.MarkSent(ctx, claimed, gateway, lease) },
			"Record":   func() error { return f.Record(ctx, confirmed(marked, 1)) },
			"Release":  func() error { return f.Release(ctx, claimed) },
			"Abandon":  func() error { return f.Abandon(ctx, marked) },
		} {
			if err := write(); !store.Unavailable(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		f.must(f.Ping(ctx))
		same(t, "statuses", []store.Status{f.action(marked.ActionID).Status, f.action(claimed.ActionID).Status}, []store.Status{store.Sent, store.Pending})

		r.on.Store(false)
		f.must(f.Writable(ctx))
		f.mark(claimed)
		f.record(confirmed(marked, 1))
		f.claim(nth(3), store.Claimed)
	})
}
