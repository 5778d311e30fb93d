package consumer

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/worklist-relay/worklist-relay/store"
)

// replayRoute is what a replay sends over one hybrid connection.
type replayRoute struct {
	RouteReport
	items     []routeItem // not begun yet, in the order of the queue
	canaries  int         // planned
	out       []canary    // sent, and not confirmed yet
	confirmed int         // canaries
	missed    int         // letters that were not reached
}

type routeItem struct {
	*ReplayItem
	forced bool // SQL answers its copy, which proves nothing of the gateway: it is no canary
}

// canary is a copy that goes before the others of its route.
type canary struct {
	actionID string
	until    time.Time // when it must be confirmed; zero before the first look at it
}

func (r *replayRoute) add(item *ReplayItem, forced bool, canaries int) {
	r.Selected++
	r.items = append(r.items, routeItem{item, forced})
	if !forced && r.canaries < canaries {
		item.Canary = true
		r.canaries++
	}
}

// due takes out what is to be sent next: canaries, as many as are missing, and
// everything once they are confirmed, or there is nothing to prove.
func (r *replayRoute) due(canaries int) (sequences []int64) {
	if r.State == RouteStopped {
		return nil
	}
	missing := canaries - r.confirmed - len(r.out)
	r.items = slices.DeleteFunc(r.items, func(item routeItem) bool {
		if r.State == RouteCleared || item.forced || missing <= 0 {
			return false
		}
		item.Canary = true // also where one that was planned had to be refused
		missing--
		sequences = append(sequences, item.Letter.SequenceNumber)
		return true
	})
	if len(sequences) > 0 || len(r.out) > 0 {
		return sequences
	}
	r.State = RouteCleared
	for _, item := range r.items {
		sequences = append(sequences, item.Letter.SequenceNumber)
	}
	r.items = nil
	return sequences
}

// stopIfMissed ends a route none of whose canaries could be sent, or that has
// nothing more to send.
func (r *replayRoute) stopIfMissed() {
	switch {
	case r.missed == 0 || r.State == RouteStopped:
	case r.State == RouteWaiting && len(r.out)+r.confirmed == 0:
		r.stop("what was to be sent ahead is locked by somebody else for now, or gone: try again in a few minutes")
	default:
		r.Why = fmt.Sprintf("%d not reached: locked by somebody else for now, or gone", r.missed)
	}
}

func (r *replayRoute) stop(why string) { r.State, r.Why, r.out = RouteStopped, why, nil }

// awaiting reports whether canaries are out.
func (p *replaying) awaiting() bool {
	return slices.ContainsFunc(p.routes, func(r *replayRoute) bool { return len(r.out) > 0 })
}

// watch looks at the canaries that are out until a route is cleared that has
// more to send (and a moment longer, for others to go with it), or none is out,
// or ctx ends.
func (p *replaying) watch(ctx context.Context) error {
	var cleared, away time.Time // when a route was first cleared; when the database last answered
	for away = time.Now(); p.awaiting() && ctx.Err() == nil; pause(ctx, p.waits().CanaryPoll) {
		err := p.look(ctx)
		switch {
		case err == nil:
			away = time.Now()
		case ctx.Err() == nil && (!store.Unavailable(err) || time.Since(away) > p.waits().RecordLimit):
			return fmt.Errorf("look at what was sent ahead: %w", err)
		}
		p.tell()
		ready := slices.ContainsFunc(p.routes, func(r *replayRoute) bool {
			return r.State != RouteStopped && len(r.out) == 0 && len(r.items) > 0
		})
		if ready && cleared.IsZero() {
			cleared = time.Now()
		}
		if ready && time.Since(cleared) >= p.waits().GatherRoutes {
			return nil
		}
	}
	return nil
}

// look asks SQL for all canaries at once.
func (p *replaying) look(ctx context.Context) error {
	asking, cancel := context.WithTimeout(ctx, p.waits().StoreLimit)
	defer cancel()
	var ids []string
	for _, r := range p.routes {
		for _, c := range r.out {
			ids = append(ids, c.actionID)
		}
	}
	rows, err := p.Store.ActionsByID(asking, ids)
	if err != nil {
		return err
	}
	now := p.now()
	for _, r := range p.routes {
		before := r.confirmed
		why := r.look(rows, now, p.how.CanaryWait)
		p.report.Confirmed += r.confirmed - before
		if why != "" {
			r.stop(why + p.healthOf(asking, r.Route))
		}
	}
	return nil
}

// look takes off the canaries that are confirmed. It returns why the route is
// to be stopped; "" for no reason.
func (r *replayRoute) look(rows map[string]store.Action, now time.Time, wait time.Duration) (why string) {
	out := r.out
	r.out = nil
	for _, c := range out {
		if c.until.IsZero() {
			c.until = now.Add(wait)
		}
		row := rows[c.actionID] // zero where the copy was not received yet
		comesLate := row.ClaimedUntil == nil && value(row.NextRetryAt).After(c.until)
		switch {
		case row.Status == store.Confirmed:
			r.confirmed++
			continue
		case row.Status == store.Failed:
			why = fmt.Sprintf("%s, which was sent ahead, failed: %s%s", c.actionID, value(row.Reason), lastly(row))
		case comesLate || !now.Before(c.until):
			why = fmt.Sprintf("%s, which was sent ahead, is not confirmed within %s: %s%s", c.actionID, wait, standing(row), lastly(row))
		}
		r.out = append(r.out, c)
	}
	return why
}

// standing is how an open action fares since its copy was sent.
func standing(row store.Action) string {
	switch {
	case row.Attempt == row.CountedFrom:
		return "nobody received it yet"
	case row.NextRetryAt != nil:
		return fmt.Sprintf("it is %s, next try %s", row.Status, row.NextRetryAt.Format(time.RFC3339))
	}
	return "it is " + string(row.Status)
}

func lastly(row store.Action) string {
	if row.LastPhase == nil || row.Attempt == row.CountedFrom { // it is of before
		return ""
	}
	return ", last phase " + *row.LastPhase
}

// healthOf is what SQL knows of the gateway that explains why nothing arrives.
func (p *replaying) healthOf(ctx context.Context, gateway string) string {
	h, err := p.Store.Health(ctx, gateway)
	switch {
	case err != nil:
		return ""
	case h.HeldAt != nil:
		return fmt.Sprintf("; the gateway is held back by %s (%s)", value(h.HeldBy), value(h.HeldWhy))
	case h.OpenedAt != nil:
		return fmt.Sprintf("; the gateway cannot be reached since %s", h.OpenedAt.Format(time.RFC3339))
	}
	return ""
}
