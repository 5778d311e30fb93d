package store

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"

	"github.com/lib/pq"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// Errors to test for with errors.Is.
var (
	// ErrNoAction says that there is no such action, or none of this provider.
	ErrNoAction = errors.New("no such action")

	// ErrNoRelay says that there is no relay for exactly this provider and setting.
	ErrNoRelay = errors.New("no such relay")

	// ErrRelayExists says that the provider and setting have a relay already.
	ErrRelayExists = errors.New("relay exists")

	// ErrNoHealth says that nothing is known of the gateway.
	ErrNoHealth = errors.New("no health known")

	// ErrStale says that the attempt is no longer the row's own: its claim was
	// given up, recorded or taken over, or the action has ended.
	ErrStale = errors.New("stale attempt")

	// ErrFinal is an ErrStale whose action is confirmed: whatever this attempt
	// met, the action is done.
	ErrFinal = fmt.Errorf("%w: action is confirmed", ErrStale)

	// ErrAccessionHeld says that another create of the provider holds the
	// accession number, confirmed or possibly arrived.
	ErrAccessionHeld = errors.New("accession number is held by another action")

	// ErrClaimed refuses an operator while a delivery is at work on the action.
	ErrClaimed = errors.New("action is being worked on")

	// ErrConfirmed refuses an operator what would undo a confirmation.
	ErrConfirmed = errors.New("action is confirmed")

	// ErrOtherProvider is an ErrNoAction: the action id is another provider's.
	ErrOtherProvider = fmt.Errorf("%w of this provider", ErrNoAction)

	// ErrOtherContent says that the action id was used for other content.
	ErrOtherContent = errors.New("action id was used for other content")

	// ErrHeld says that the gateway is held back already, ErrNotHeld that it is not.
	ErrHeld    = errors.New("gateway is held back already")
	ErrNotHeld = errors.New("gateway is not held back")

	// ErrEnded refuses to withdraw what has failed already.
	ErrEnded = errors.New("action has failed already")

	// ErrMayHaveArrived refuses an operator what is safe only for an action
	// that certainly never reached a gateway.
	ErrMayHaveArrived = errors.New("action may have arrived at the gateway")
)

// Unavailable reports whether err comes from a database that is away, full,
// overloaded or locked, from a password that [WithPassword] could not get, or from a deadline: the same call may succeed later,
// and the caller knows nothing about whether it took effect. A cancelled
// context is not counted.
func Unavailable(err error) bool {
	if fault, ok := errors.AsType[*pq.Error](err); ok {
		return unavailablePostgres(string(fault.Code))
	}
	if fault, ok := errors.AsType[*sqlite.Error](err); ok {
		return unavailableSQLite(fault.Code() & 0xff) // extended codes keep the primary one in the low byte
	}
	if errors.Is(err, context.Canceled) {
		return false
	}
	_, password := errors.AsType[noPassword](err) // a new identity takes minutes to get its tokens
	_, network := errors.AsType[net.Error](err)   // a deadline is one too
	return password || network ||
		errors.Is(err, driver.ErrBadConn) ||
		errors.Is(err, sql.ErrConnDone) ||
		errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF)
}

// unavailablePostgres judges a SQLSTATE (PostgreSQL documentation, appendix A).
func unavailablePostgres(code string) bool {
	switch code {
	case "25006": // read-only transaction: a standby, or a full disk's protection
		return true
	case "":
		return false
	}
	switch code[:2] {
	case "08", // connection exception
		"28", // invalid authorization: an expired token, a role not yet granted
		"3D", // the database does not exist, or not yet
		"40", // transaction rollback: deadlock, serialization
		"53", // insufficient resources: disk, memory, connections
		"55", // object not in prerequisite state: lock not available
		"57", // operator intervention: shutdown, starting up, statement timeout
		"58": // system error outside PostgreSQL
		return true
	}
	return false
}

// unavailableSQLite judges a primary result code (sqlite.org/rescode.html).
func unavailableSQLite(code int) bool {
	switch code {
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_INTERRUPT,
		sqlite3.SQLITE_IOERR, sqlite3.SQLITE_FULL, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PROTOCOL:
		return true
	}
	return false
}

// violatesUnique reports a second row under a unique index.
func violatesUnique(err error) bool {
	if fault, ok := errors.AsType[*pq.Error](err); ok {
		return fault.Code == "23505"
	}
	fault, ok := errors.AsType[*sqlite.Error](err)
	return ok && fault.Code() == sqlite3.SQLITE_CONSTRAINT_UNIQUE
}
