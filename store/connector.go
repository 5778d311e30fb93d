package store

import (
	"context"
	"database/sql/driver"
	"net"
	"sync/atomic"
	"time"

	"github.com/lib/pq"
)

// connector dials PostgreSQL with a password that may change between dials.
type connector struct {
	cfg      pq.Config
	waits    *waits
	password func(context.Context) (string, error)
}

func (c connector) Connect(ctx context.Context) (driver.Conn, error) {
	cfg := c.cfg
	if c.password != nil {
		asking, cancel := context.WithTimeout(ctx, c.waits.Open) // the caller's may have no end
		password, err := c.password(asking)
		cancel()
		if err != nil {
			return nil, noPassword{err}
		}
		cfg.Password = password
	}
	// The driver minds the context while it dials, not while it logs in.
	if deadline, ok := ctx.Deadline(); ok {
		cfg.ConnectTimeout = max(time.Millisecond, min(cfg.ConnectTimeout, time.Until(deadline)))
	}
	connecting, err := pq.NewConnectorConfig(cfg)
	if err != nil {
		return nil, err
	}
	line := &line{late: c.waits.LateAnswer}
	connecting.Dialer(line)
	made, err := connecting.Connect(ctx)
	if err != nil {
		return nil, err
	}
	line.up.Store(true)
	return connection{made.(driverConn), line}, nil
}

// noPassword is why there is no password to connect with.
type noPassword struct{ cause error }

func (e noPassword) Error() string { return "database password: " + e.cause.Error() }
func (e noPassword) Unwrap() error { return e.cause }

func (c connector) Driver() driver.Driver { return &pq.Driver{} }

// driverConn is all that the driver's connections can do.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.NamedValueChecker
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

// connection is one of the driver's that waits for no answer long after the
// context of the question ended, whatever the server does: of one that says
// nothing, as in a failover, that would be a quarter of an hour.
type connection struct {
	driverConn
	line *line
}

// BeginTx minds ctx also before the transaction has begun, which the driver does not.
func (c connection) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	stop := context.AfterFunc(ctx, c.line.hurry)
	defer stop()
	return c.driverConn.BeginTx(ctx, options)
}

// IsValid says whether the connection may be used again.
func (c connection) IsValid() bool { return !c.line.hurried.Load() && c.driverConn.IsValid() }

// line dials for one connection of the driver. When the context of a question
// ends, the driver dials again, to ask the server to give up, and then waits for
// the answer without end; so that second dial ends the wait.
type line struct {
	late    time.Duration            // how long an answer may still take then
	up      atomic.Bool              // the connection is made: what is dialled now is such a request
	hurried atomic.Bool              // the wait for an answer was ended
	conn    atomic.Pointer[net.Conn] // the connection
}

func (l *line) hurry() {
	l.hurried.Store(true)
	_ = (*l.conn.Load()).SetReadDeadline(time.Now().Add(l.late)) // fails for a closed one only
}

// DialContext implements [pq.DialerContext].
func (l *line) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if l.up.Load() {
		l.hurry()
		return (&net.Dialer{}).DialContext(ctx, network, address)
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	l.conn.Store(&conn)
	return conn, err
}

// Dial and DialTimeout are what [pq.Dialer] asks for besides; the driver prefers
// DialContext.
func (l *line) Dial(network, address string) (net.Conn, error) {
	return l.DialContext(context.Background(), network, address)
}

// DialTimeout is Dial within timeout.
func (l *line) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.DialContext(ctx, network, address)
}
