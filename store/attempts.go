package store

import (
	"context"
	"strings"
	"time"

	"github.com/jmoiron/sqlx"
)

// How far a frame got, as the sent column of an attempt holds it.
const (
	SentNo    = "no"    // certainly had no effect at the gateway
	SentMaybe = "maybe" // may have arrived
	SentYes   = "yes"   // acknowledged
)

// Timings is how long the steps of an attempt took. Zero is a step that was
// not taken. Kept to the microsecond.
type Timings struct {
	DNS, Connect, TLS, Handshake, Ack time.Duration
	Reused                            bool // the frame went over a cached connection
}

// Attempt is one ended attempt, a row of the attempts table. The open attempt
// lives in its action's row until it ends or a later claim takes over.
type Attempt struct {
	ActionID   string     `db:"action_id" json:"action_id"`
	Attempt    int        `db:"attempt" json:"attempt"`
	ProviderID string     `db:"provider_id" json:"provider_id"`
	Relay      *string    `db:"relay" json:"relay"`
	StartedAt  time.Time  `db:"started_at" json:"started_at"`
	SentAt     *time.Time `db:"sent_at" json:"sent_at"` // marked sent
	EndedAt    time.Time  `db:"ended_at" json:"ended_at"`

	Sent     string  `db:"sent" json:"sent"` // SentNo, SentMaybe or SentYes
	Answered bool    `db:"answered" json:"answered"`
	Phase    *string `db:"phase" json:"phase"` // where it failed
	Error    *string `db:"error" json:"error"`
	Code     int     `db:"code" json:"code"` // HTTP status or close code; 0 for none

	Reused      bool  `db:"reused" json:"reused"`
	DNSUs       int64 `db:"dns_us" json:"dns_us"` // microseconds
	ConnectUs   int64 `db:"connect_us" json:"connect_us"`
	TLSUs       int64 `db:"tls_us" json:"tls_us"`
	HandshakeUs int64 `db:"handshake_us" json:"handshake_us"`
	AckUs       int64 `db:"ack_us" json:"ack_us"`

	// Result is "confirmed", "failed", "retry" or "postpone" as recorded, or
	// "abandoned": a crash or a lost lock left it open and another took over.
	Result string `db:"result" json:"result"`
}

var (
	attemptColumns = columnsOf(Attempt{})
	selectAttempts = "SELECT " + strings.Join(attemptColumns, ", ") + " FROM attempts "

	insertAttempt = "INSERT INTO attempts (" + strings.Join(attemptColumns, ", ") + ") VALUES (" + placeholders(attemptColumns) + ")" + archivedAgain
)

// An attempt that was taken over and is confirmed after all was answered. When it
// started and was marked sent stays as it was written first.
const archivedAgain = `
	ON CONFLICT (action_id, attempt) DO UPDATE SET
		ended_at = excluded.ended_at, sent = excluded.sent, answered = excluded.answered,
		phase = excluded.phase, error = excluded.error, code = excluded.code, reused = excluded.reused,
		dns_us = excluded.dns_us, connect_us = excluded.connect_us, tls_us = excluded.tls_us,
		handshake_us = excluded.handshake_us, ack_us = excluded.ack_us, result = excluded.result`

func archive(ctx context.Context, tx *sqlx.Tx, attempt Attempt) error {
	_, err := tx.ExecContext(ctx, insertAttempt, valuesOf(attempt)...)
	return err
}

// abandon ends a claim that nobody ended, counting its attempt as one that may
// have arrived if it was marked sent. Without an open claim it does nothing.
func (a *Action) abandon(ctx context.Context, tx *sqlx.Tx, now time.Time) error {
	if a.ClaimedUntil == nil {
		return nil
	}
	left := a.openAttempt(now)
	left.Result = "abandoned"
	left.Error = text("abandoned by its delivery")
	left.Sent = SentNo
	if a.AttemptSentAt != nil {
		left.Sent = SentMaybe
	}
	a.Attempts++
	a.ClaimedUntil = nil
	return archive(ctx, tx, left)
}

// openAttempt is what the row knows of its open attempt, ended now.
func (a *Action) openAttempt(now time.Time) Attempt {
	started := now
	if a.AttemptStartedAt != nil {
		started = *a.AttemptStartedAt
	}
	return Attempt{
		ActionID: a.ActionID, Attempt: a.Attempt, ProviderID: a.ProviderID,
		Relay: a.AttemptRelay, StartedAt: started, SentAt: a.AttemptSentAt, EndedAt: now,
	}
}

func (s *Store) attemptsOf(ctx context.Context, actionID string) ([]Attempt, error) {
	attempts := []Attempt{}
	err := s.db.SelectContext(ctx, &attempts, selectAttempts+"WHERE action_id = $1 ORDER BY attempt", actionID)
	for i := range attempts {
		inUTC(&attempts[i])
	}
	return attempts, err
}

// History is what the ended attempts of an action leave behind.
type History struct {
	MaybeSent int // attempts that may have arrived, since the last replay or fresh start
	Rejected  int // attempts that the gateway's listener rejected, since then

	// Unanswered lists the relays ("namespace/path") at which an attempt was
	// marked sent, is not known to have had no effect, and was never answered:
	// the evidence that explains a later "exists". Since ever; a replay does not
	// erase it.
	Unanswered []string
}

// history reads the attempts of one action: a range of their primary key.
func history(ctx context.Context, tx *sqlx.Tx, a Action) (h History, err error) {
	var rows []struct {
		Relay      *string `db:"relay"`
		MaybeSent  int     `db:"maybe_sent"`
		Rejected   int     `db:"rejected"`
		Unanswered int     `db:"unanswered"`
	}
	err = tx.SelectContext(ctx, &rows, `SELECT relay,
			SUM(CASE WHEN attempt > $2 AND sent <> 'no' THEN 1 ELSE 0 END) AS maybe_sent,
			SUM(CASE WHEN attempt > $2 AND phase = 'rejected' THEN 1 ELSE 0 END) AS rejected,
			SUM(CASE WHEN sent_at IS NOT NULL AND sent <> 'no' AND NOT answered THEN 1 ELSE 0 END) AS unanswered
		FROM attempts WHERE action_id = $1 GROUP BY relay ORDER BY relay`, a.ActionID, a.CountedFrom)
	for _, row := range rows {
		h.MaybeSent += row.MaybeSent
		h.Rejected += row.Rejected
		if row.Unanswered > 0 && row.Relay != nil {
			h.Unanswered = append(h.Unanswered, *row.Relay)
		}
	}
	return h, err
}

// mayHaveArrived reports whether an ended attempt, ever, may have had an effect
// that is not known. An action that is not confirmed although an attempt of its
// was acknowledged was refused, and a refusal has none.
func mayHaveArrived(ctx context.Context, tx *sqlx.Tx, actionID string) (maybe bool, err error) {
	err = tx.GetContext(ctx, &maybe, "SELECT EXISTS (SELECT 1 FROM attempts WHERE action_id = $1 AND sent = 'maybe')", actionID)
	return maybe, err
}
