package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// asClaimed is the message as SQL is asked for it.
func (d *delivery) asClaimed() store.Delivery {
	c := d.consumer
	return store.Delivery{
		ActionID: d.in.actionID, ActionType: d.in.actionType,
		ProviderID: d.in.providerID, SettingID: d.in.settingID,
		AccessionNumber: d.in.accession, BodySHA256: d.in.digest, Create: d.in.create,
		SequenceNumber: d.in.standsFor, OriginalSequence: d.in.original, CopiedFrom: d.in.copiedFrom,
		EnqueuedAt: d.in.enqueued, ExpiresAt: d.limit(), Lease: c.claimLease(),
	}
}

// limit is when an action received now for the first time is given up: a create
// with its clinic day, an update some time after its receipt.
func (d *delivery) limit() time.Time {
	c := d.consumer
	if d.in.create {
		return d.clinicDay().AddDate(0, 0, 1).UTC()
	}
	return c.now().Add(c.Retry.updateLimit())
}

// clinicDay is the midnight that begins the scheduled day at the clinic.
func (d *delivery) clinicDay() time.Time { return d.in.clinicDay(d.consumer.clinic()) }

// clinicDay is the midnight at the clinic that begins a create's scheduled day.
func (in incoming) clinicDay(clinic *time.Location) time.Time {
	day, err := time.ParseInLocation("20060102", in.scheduled, clinic)
	if err != nil {
		panic("validated date does not parse: " + err.Error())
	}
	return day
}

// unclaimed is how a message ends that SQL gave no attempt for. Nothing is
// recorded: the row belongs to another attempt, another message, or is final.
func (d *delivery) unclaimed(claim store.Claim) outcome {
	row := claim.Action
	switch claim.Verdict {
	case store.OtherProvider:
		return refused(ReasonActionConflict, "the action id is in use")
	case store.OtherContent:
		return refused(ReasonActionConflict, "the action id was used for other content")
	case store.AlreadyConfirmed:
		return outcome{sent: relay.SentYes}.confirmed()
	case store.AlreadyFailed:
		if reason := value(row.Reason); reason == store.Withdrawn || reason == store.Resolved {
			return outcome{status: row.Status, settlement: store.Complete} // a person ended it: nothing is left to look at
		}
		return refused(Reason(value(row.Reason)), value(row.LastError))
	case store.Repeat:
		return repeated(row)
	default: // Busy, Waiting
		least := d.consumer.now().Add(d.consumer.Retry.postponement(d.in.postponed))
		if claim.Until.After(least) || claim.Verdict == store.Busy {
			least = claim.Until
		}
		o := postponed(least, "", "another attempt has the action", row.Status == store.Sent)
		o.unrecorded = true
		return o
	}
}

// repeated is the settlement that was decided for this very message before,
// and failed: it is done again and nothing else.
func repeated(row store.Action) outcome {
	return outcome{
		status: row.Status, settlement: value(row.Settlement),
		reason: Reason(value(row.SettlementReason)), detail: value(row.SettlementDescription),
		phase: relay.Phase(value(row.LastPhase)), due: value(row.NextRetryAt),
	}
}

// before is all that can end or postpone a claimed action without a try at the
// gateway: no relay, no key, too late, too early, or another action in the way.
func (d *delivery) before(ctx context.Context, claim store.Claim) (route, *outcome, error) {
	c := d.consumer
	now := c.now()
	arrived := arrived(claim.History)
	r, err := c.route(ctx, d.in.providerID, d.in.settingID)
	d.gateway = r.name()
	var o outcome
	switch {
	case errors.Is(err, store.ErrNoRelay):
		o = refused(ReasonNoRelay, "no relay for this provider and setting")
	case errors.Is(err, relay.ErrHostNotAllowed):
		o = refused(ReasonNoRelay, err.Error())
	case err != nil && !errors.Is(err, ErrNoKey):
		return r, nil, fmt.Errorf("relay of the provider: %w", err)
	case reached(d.expiry(claim), now):
		o = expired(claim)
	case errors.Is(err, ErrNoKey):
		if c.told.now(d.gateway, now) {
			d.log.Error("actions wait for a key", "gateway", d.gateway, "error", err)
		}
		o = postponed(now.Add(c.Retry.postponement(d.in.postponed)), relay.PhaseAuth, err.Error(), arrived)
	case claim.Earlier != nil:
		o = postponed(afterNextTry(*claim.Earlier, now).Add(c.waits().AfterEarlier), "", "an earlier action for this accession number is not resolved", arrived)
	case claim.Holder != nil:
		o = accessionHeld()
	case d.tooEarly(now):
		o = postponed(d.release(), "", "held until its clinic day", arrived)
	default:
		gateway := c.gateways.at(ctx, r)
		stop := d.shut(gateway, now, arrived)
		if stop == nil {
			d.tried = gateway
		}
		return r, stop, nil
	}
	return r, &o, nil
}

// shut postpones where nothing may be sent to the gateway at present; nil: it may.
func (d *delivery) shut(g *gateway, now time.Time, arrived bool) *outcome {
	var o outcome
	switch {
	case g.heldBack():
		o = postponed(d.whileHeld(now), "", "the gateway is held back by an operator", arrived)
	case g.open():
		g.awaitProbe()
		o = postponed(d.afterProbe(g, now), g.phase(), "the gateway cannot be reached and is being probed", arrived)
	default:
		return nil
	}
	return &o
}

// afterProbe is when a message comes again whose gateway's breaker is open.
func (d *delivery) afterProbe(g *gateway, now time.Time) time.Time {
	if d.session != nil && d.session.emptying {
		return d.session.postponedUntil(now)
	}
	return g.probeAfterNext()
}

// whileHeld is when a message comes again whose gateway is held back.
func (d *delivery) whileHeld(now time.Time) time.Time {
	if d.session != nil && d.session.emptying {
		return d.session.postponedUntil(now)
	}
	return now.Add(d.consumer.Retry.postponement(d.in.postponed))
}

// tooEarly reports whether a create is to be held back until its clinic day.
func (d *delivery) tooEarly(now time.Time) bool {
	return d.consumer.ReleaseAt != 0 && d.in.create && now.Before(d.release())
}

// release is the time of day on the clinic's clocks, also on a day on which
// they change.
func (d *delivery) release() time.Time {
	day := d.clinicDay()
	minutes := int(d.consumer.ReleaseAt / time.Minute)
	return time.Date(day.Year(), day.Month(), day.Day(), 0, minutes, 0, 0, day.Location())
}

// expiry is the moment from which no further try is made; zero is never.
func (d *delivery) expiry(claim store.Claim) time.Time {
	limit := value(claim.Action.ExpiresAt)
	if limit.IsZero() || !d.in.expires.IsZero() && d.in.expires.Before(limit) {
		return d.in.expires
	}
	return limit
}

// trial is what is known before the gateway is tried.
func (d *delivery) trial(claim store.Claim) trial {
	return trial{
		create: d.in.create, expires: d.expiry(claim), random: chance(),
		retries: claim.Action.RetryCount, history: claim.History, relay: d.gateway,
	}
}

func reached(moment, now time.Time) bool {
	return !moment.IsZero() && !now.Before(moment)
}

func expired(claim store.Claim) outcome {
	why := "its clinic day or its time limit is past"
	if len(claim.History.Unanswered) > 0 {
		why += "; an attempt was sent and never answered, so it may have arrived"
	}
	return refused(ReasonExpired, why)
}

func accessionHeld() outcome {
	return refused(ReasonAccessionConflict, "another create of this provider holds the accession number")
}

// afterNextTry is when an earlier action may have ended.
func afterNextTry(earlier store.Action, now time.Time) time.Time {
	if earlier.ClaimedUntil == nil && earlier.NextTry().After(now) {
		return earlier.NextTry()
	}
	return now
}

// value is what p points to, or zero.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
