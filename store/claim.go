package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jmoiron/sqlx"
)

// grace is how long past its next try an action counts as alive: as long, its
// own scheduled copy is expected, and actions behind it wait.
const grace = 10 * time.Minute

// Delivery is one message at hand, with the action it carries.
type Delivery struct {
	ActionID        string // canonical lower-case UUID
	ActionType      string
	Create          bool // the action makes a worklist item
	ProviderID      string
	SettingID       *string // nil: the provider's default
	AccessionNumber string
	BodySHA256      string // of the canonical content

	SequenceNumber   int64     // this message's
	OriginalSequence int64     // of the first message of this action
	CopiedFrom       int64     // of the message that this one is a scheduled copy of; 0: not a copy
	EnqueuedAt       time.Time // of the first message
	ExpiresAt        time.Time // zero: never

	Lease time.Duration // how long the claim holds without a further write; about the lock
}

// Verdict is what a delivery may do.
type Verdict int

// The verdicts, in the order in which they are considered.
const (
	Claimed          Verdict = iota + 1 // it may act, under the attempt number given
	OtherProvider                       // the action belongs to another provider
	OtherContent                        // the action was first seen with other content
	AlreadyConfirmed                    // done: complete the message
	Repeat                              // this very message was decided and not settled: settle as the row says
	AlreadyFailed                       // given up: the row has the reason
	Busy                                // another delivery is at work
	Waiting                             // a scheduled copy of another message is expected
)

var verdicts = [...]string{"none", "claimed", "other provider", "other content", "already confirmed", "repeat", "already failed", "busy", "waiting"}

// String names the verdict for logs.
func (v Verdict) String() string {
	if v < 0 || int(v) >= len(verdicts) {
		return fmt.Sprintf("verdict %d", int(v))
	}
	return verdicts[v]
}

// Claim is the answer to a delivery.
type Claim struct {
	Verdict Verdict
	Action  Action    // the row as it now stands; zero for OtherProvider
	Attempt int       // when Claimed: the number that later writes must name
	Until   time.Time // Busy: the lease's end, which is ahead. Waiting: when the copy is due, which may be past
	History History   // when Claimed: what ended attempts left behind

	// Earlier, when Claimed, is an unfinished action of the same provider and
	// accession number that was enqueued before this one and is alive; of
	// several the first. See [Action.NextTry].
	Earlier *Action

	// Holder, when a create is Claimed, is another create of the provider that
	// holds the accession number.
	Holder *Action
}

// Ref names the attempt that a write belongs to.
func (c Claim) Ref() Ref {
	return Ref{ProviderID: c.Action.ProviderID, ActionID: c.Action.ActionID, Attempt: c.Attempt}
}

// insertClaimed makes the claimed row of an action never seen before, unless another
// action stands in its way. It is the row of firstRow, with what is not said NULL.
var insertClaimed = writing("text text boolean text text text text bigint timestamptz timestamptz timestamptz timestamptz",
	`INSERT INTO actions
		(action_id, action_type, creates, provider_id, setting_id, accession_number, body_sha256, sequence_number, enqueued_at, expires_at,
		received_at, updated_at, attempt_started_at, claimed_until, status, attempt,
		duplicate, holds_accession, attempts, retry_count, postpone_count, counted_from)
	SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $11, $11, $12, 'pending', 1, FALSE, FALSE, 0, 0, 0, 0
	{FROM each} WHERE NOT EXISTS (SELECT 1 FROM actions WHERE provider_id = $4 AND accession_number = $6
		AND (status IN ('pending', 'sent') AND sequence_number < $8 OR holds_accession AND $3))
	ON CONFLICT (action_id) DO NOTHING`)

// Claim decides what a delivery may do and, where it may act, gives it an
// attempt number and a lease. Of several deliveries of an action at once,
// exactly one is Claimed. The first sight of an action makes its row. A claim
// whose lease ran out is taken over, and its attempt kept as evidence.
//
// Earlier and Holder are what was committed when Claim was called. Of two claims
// for one accession number at the same time neither need see the other: whose
// order counts must claim one after the other, and of two creates [Store.MarkSent]
// lets one pass.
func (s *Store) Claim(ctx context.Context, d Delivery) (c Claim, err error) {
	if err := d.check(); err != nil {
		return Claim{}, fmt.Errorf("claim %q: %w", d.ActionID, err)
	}
	now := s.now()
	c, err = s.claimFirst(ctx, d, now)
	if err == nil && c.Verdict == 0 {
		c, err = s.claimAny(ctx, d, now)
	}
	if err != nil {
		return Claim{}, fmt.Errorf("claim %s: %w", d.ActionID, err)
	}
	return c, nil
}

// claimFirst answers the usual delivery in one statement: of an action never seen
// before, where nothing stands in its way. Of any other its verdict is zero, and
// nothing was written. So there is no claim whose look around is yet to come, and
// could fail: the two are one statement here and one transaction in claimAny.
func (s *Store) claimFirst(ctx context.Context, d Delivery, now time.Time) (Claim, error) {
	if d.CopiedFrom != 0 { // its action has a row by now
		return Claim{}, nil
	}
	row := d.firstRow(now)
	n, err := s.gather(ctx, &s.claims, insertClaimed,
		row.ActionID, row.ActionType, row.Creates, row.ProviderID, row.SettingID, row.AccessionNumber, row.BodySHA256,
		row.SequenceNumber, row.EnqueuedAt, row.ExpiresAt, now, row.ClaimedUntil)
	if err != nil || n == 0 {
		return Claim{}, err
	}
	return Claim{Verdict: Claimed, Action: row, Attempt: row.Attempt}, nil
}

// claimAny judges a delivery, whatever is known of its action.
func (s *Store) claimAny(ctx context.Context, d Delivery, now time.Time) (c Claim, err error) {
	err = s.share(ctx, func(ctx context.Context, tx *sqlx.Tx) error {
		row := d.firstRow(now)
		inserted, err := insert(ctx, tx, row)
		if err != nil {
			return err
		}
		if inserted {
			c = Claim{Verdict: Claimed, Action: row, Attempt: row.Attempt}
		} else if c, err = s.reclaim(ctx, tx, d, now); err != nil {
			return err
		}
		if c.Verdict == Claimed {
			return c.lookAround(ctx, tx, d, now)
		}
		return nil
	})
	return c, err
}

func (d Delivery) check() error {
	setting := ""
	if d.SettingID != nil {
		setting = *d.SettingID
	}
	switch {
	case d.ActionID == "" || d.ProviderID == "":
		return errors.New("a delivery needs an action id and a provider")
	case d.Lease <= 0:
		return errors.New("a claim needs a lease")
	case !storable(d.ActionID + d.ActionType + d.ProviderID + setting + d.AccessionNumber + d.BodySHA256):
		return errors.New("a field is not storable text")
	}
	return nil
}

// firstRow is the row of an action never seen before, claimed by this delivery.
func (d Delivery) firstRow(now time.Time) Action {
	row := Action{ActionID: d.ActionID, Status: Pending}
	row.begin(d, now)
	row.claim(d, now)
	return row
}

// begin starts the action's life with this delivery. What attempts there were
// stay, but no longer count.
func (a *Action) begin(d Delivery, now time.Time) {
	*a = Action{
		ActionID: d.ActionID, Status: Pending,
		SequenceNumber: d.OriginalSequence, EnqueuedAt: micro(d.EnqueuedAt), ReceivedAt: now,
		Attempt: a.Attempt, CountedFrom: a.Attempt,
	}
}

// claim opens the next attempt. What was settled before stays: it says
// which message is the heir, and a released claim must find it again.
func (a *Action) claim(d Delivery, now time.Time) {
	a.ActionType, a.Creates, a.ProviderID, a.SettingID = d.ActionType, d.Create, d.ProviderID, d.SettingID
	a.AccessionNumber, a.BodySHA256 = d.AccessionNumber, &d.BodySHA256
	if a.ExpiresAt == nil {
		a.ExpiresAt = instant(d.ExpiresAt)
	}
	a.Attempt++
	a.ClaimedUntil = instant(now.Add(d.Lease))
	a.AttemptStartedAt, a.AttemptSentAt, a.AttemptRelay = &now, nil, nil
	a.UpdatedAt = now
}
