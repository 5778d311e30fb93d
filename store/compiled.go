package store

import (
	"context"
	"database/sql/driver"
)

// compiling connects to SQLite so that each text is compiled once for each
// connection, and the Store makes one: the driver compiles it anew at each call,
// which takes longer than to run it.
type compiling struct{ driver.Connector }

// Connect implements [driver.Connector].
func (c compiling) Connect(ctx context.Context) (driver.Conn, error) {
	made, err := c.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &compiledConn{sqliteConn: made.(sqliteConn), compiled: map[string]compiled{}}, nil
}

// sqliteConn is all that the driver's connections can do for database/sql.
type sqliteConn interface {
	driver.Conn
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.ExecerContext
	driver.Pinger
	driver.QueryerContext
	driver.SessionResetter
	driver.Validator
}

// compiledConn keeps what writes were compiled to. Of reads it keeps nothing:
// their rows may still be open when the same text is asked for again. SQLite
// compiles again by itself after a change of the tables.
type compiledConn struct {
	sqliteConn
	compiled map[string]compiled
}

type compiled interface {
	driver.Stmt
	driver.StmtExecContext
}

// mostCompiled bounds what is kept. The store has fewer texts that write.
const mostCompiled = 64

// ExecContext implements [driver.ExecerContext].
func (c *compiledConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if len(args) == 0 { // a migration: several statements, and once
		return c.sqliteConn.ExecContext(ctx, query, args)
	}
	return c.exec(ctx, query, args)
}

func (c *compiledConn) exec(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	statement, ok := c.compiled[query]
	if !ok {
		if len(c.compiled) == mostCompiled {
			return c.sqliteConn.ExecContext(ctx, query, args)
		}
		made, err := c.PrepareContext(ctx, query)
		if err != nil {
			return nil, err
		}
		statement = made.(compiled)
		c.compiled[query] = statement
	}
	return statement.ExecContext(ctx, args)
}

// BeginTx implements [driver.ConnBeginTx]. It asks for the right to write at once,
// so that nothing in the transaction waits for a lock.
func (c *compiledConn) BeginTx(ctx context.Context, _ driver.TxOptions) (driver.Tx, error) {
	if _, err := c.exec(ctx, "BEGIN IMMEDIATE", nil); err != nil {
		_ = compiledTx{c}.Rollback() // a statement that ran is an error, too, where the context ended meanwhile
		return nil, err
	}
	return compiledTx{c}, nil
}

type compiledTx struct{ conn *compiledConn }

// Commit implements [driver.Tx]. No context cuts it short: it waits for the disk alone.
func (t compiledTx) Commit() error {
	_, err := t.conn.exec(context.Background(), "COMMIT", nil)
	if err != nil {
		_ = t.Rollback() // which SQLite may have done already
	}
	return err
}

// Rollback implements [driver.Tx].
func (t compiledTx) Rollback() error {
	_, err := t.conn.exec(context.Background(), "ROLLBACK", nil)
	return err
}

// Close implements [driver.Conn].
func (c *compiledConn) Close() error {
	for _, statement := range c.compiled {
		_ = statement.Close() // the connection's end ends it too
	}
	clear(c.compiled)
	return c.sqliteConn.Close()
}
