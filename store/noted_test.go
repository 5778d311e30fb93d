package store_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"regexp"
	"runtime"
	"sync"
)

// noted is one statement that a method of the store made.
type noted struct {
	method string // exported, of *store.Store
	text   string
	args   []any
}

// notes are the different statements of a store whose connector they wrap. They
// are safe for concurrent use.
type notes struct {
	mu    sync.Mutex // guards what follows
	taken bool       // from now on
	all   []noted
	known map[string]bool // of all, as printed
}

// take begins to note, or ceases to.
func (n *notes) take(from bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.taken = from
}

func (n *notes) add(text string, args []driver.NamedValue) {
	s := noted{method: caller(), text: text}
	for _, arg := range args {
		s.args = append(s.args, arg.Value)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if key := fmt.Sprint(s); n.taken && s.method != "" && !n.known[key] {
		n.known[key] = true
		n.all = append(n.all, s)
	}
}

var storeMethod = regexp.MustCompile(`/store\.\(\*Store\)\.([A-Z]\w*)`)

// caller is the outermost exported method of the store on the stack; "": none.
// The driver is called by the goroutine that asks.
func caller() (method string) {
	pcs := make([]uintptr, 100)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(1, pcs)])
	for more := true; more; {
		var frame runtime.Frame
		frame, more = frames.Next()
		if m := storeMethod.FindStringSubmatch(frame.Function); m != nil {
			method = m[1]
		}
	}
	return method
}

func (n *notes) connector(c driver.Connector) driver.Connector { return notingConnector{c, n} }

type notingConnector struct {
	driver.Connector
	notes *notes
}

func (c notingConnector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return notingConn{conn.(driverConn), c.notes}, nil
}

// driverConn is what the connections of both drivers can do.
type driverConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

// notingConn notes a prepared statement without its arguments: it cannot be
// explained, and the test says so.
type notingConn struct {
	driverConn
	notes *notes
}

func (c notingConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	c.notes.add(query, args)
	return c.driverConn.ExecContext(ctx, query, args)
}

func (c notingConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	c.notes.add(query, args)
	return c.driverConn.QueryContext(ctx, query, args)
}

func (c notingConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	c.notes.add(query, nil)
	return c.driverConn.PrepareContext(ctx, query)
}

func (c notingConn) CheckNamedValue(v *driver.NamedValue) error {
	if checker, ok := c.driverConn.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(v)
	}
	return driver.ErrSkip
}
