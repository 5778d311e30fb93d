package store

import (
	"context"
	"time"

	"github.com/jmoiron/sqlx"
)

// endClaim is settle and the end of the claim for the row that has the open
// attempt $3. What it is given is an empty row that was settled: there NULL and
// zero are what the outcome says nothing of, and the row keeps.
const endClaim = `UPDATE actions SET
		status = $4, duplicate = $5, updated_at = $6, claimed_until = NULL, next_retry_at = $7,
		reason = $8, confirmed_at = $9, failed_at = $10, relay = COALESCE($11, relay),
		last_phase = CASE WHEN $4 <> 'confirmed' THEN COALESCE($12, last_phase) END,
		last_error = CASE WHEN $4 <> 'confirmed' THEN COALESCE($13, last_error) END,
		attempts = attempts + $14, retry_count = retry_count + $15,
		postpone_count = CASE WHEN $15 > 0 THEN 0 ELSE postpone_count + $16 END,
		settlement = $17, settlement_reason = $18, settlement_description = $19, settlement_sequence = $20,
		holds_accession = holds_accession AND ($21 OR EXISTS (SELECT 1 FROM attempts WHERE attempts.action_id = $1 AND sent = 'maybe'))
	{FROM each} WHERE action_id = $1 AND provider_id = $2 AND attempt = $3 AND claimed_until IS NOT NULL`

var endOwn = forOne(endClaim)

// archiveEnded keeps the attempt that endClaim ended, as it stood in its row.
const (
	archiveEnded = `INSERT INTO attempts (action_id, attempt, provider_id, relay, started_at, sent_at, ended_at,
		sent, answered, phase, error, code, reused, dns_us, connect_us, tls_us, handshake_us, ack_us, result)
	SELECT action_id, attempt, provider_id, COALESCE($11, attempt_relay), COALESCE(attempt_started_at, $6), attempt_sent_at, $6,
		$22, $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33
	FROM `
	archiveFromRow = archiveEnded + "actions WHERE action_id = $1" + archivedAgain
)

// endAndArchive is both at once, where a WITH may write.
var endAndArchive = writing("text text bigint text boolean timestamptz timestamptz text timestamptz timestamptz text text text "+
	"bigint bigint bigint text text text bigint boolean "+
	"text boolean text text bigint boolean bigint bigint bigint bigint bigint text",
	"WITH ended AS ("+endClaim+" RETURNING action_id, attempt, provider_id, attempt_relay, attempt_started_at, attempt_sent_at) "+
		archiveEnded+"ended {, each WHERE action_id = $1}"+archivedAgain)

// end closes the claim of o's attempt with its outcome, without reading the row
// first. It reports false, and changes nothing, where the attempt is not the
// row's own any more.
func (s *Store) end(ctx context.Context, o Outcome, now time.Time) (own bool, err error) {
	// What may have arrived is evidence, whether or not it counts as a try.
	archived := o.Spent || o.Sent != SentNo
	update, all := o.ending(archived, now)
	var n int64
	switch {
	case !archived:
		n, err = s.put(ctx, endOwn, update...)
	case s.dialect.withWrites:
		n, err = s.gather(ctx, &s.ends, endAndArchive, all...)
	default:
		err = s.share(ctx, func(ctx context.Context, tx *sqlx.Tx) (err error) {
			if n, err = affected(tx.ExecContext(ctx, endOwn, update...)); err != nil || n == 0 {
				return err
			}
			_, err = tx.ExecContext(ctx, archiveFromRow, all...)
			return err
		})
	}
	return n > 0, err
}

// ending lists what endClaim is given, and that with what archiveEnded is.
func (o Outcome) ending(archived bool, now time.Time) (update, all []any) {
	var a Action
	a.settle(o, now)
	if archived {
		a.Attempts = 1
	}
	t := a.ended(o, now)
	all = []any{
		o.ActionID, o.ProviderID, o.Attempt,
		a.Status, a.Duplicate, now, a.NextRetryAt,
		a.Reason, a.ConfirmedAt, a.FailedAt, a.Relay,
		a.LastPhase, a.LastError,
		a.Attempts, a.RetryCount, a.PostponeCount,
		a.Settlement, a.SettlementReason, a.SettlementDescription, a.SettlementSequence,
		o.Status == Confirmed || o.Sent == SentMaybe,

		t.Sent, t.Answered, t.Phase, t.Error, t.Code, t.Reused, t.DNSUs, t.ConnectUs, t.TLSUs, t.HandshakeUs, t.AckUs, t.Result,
	}
	return all[:21], all
}
