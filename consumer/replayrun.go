package consumer

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// Replay sends dead letters again: SQL is readied and the audit written, then
// the copy is sent, then the dead letter completed. The first of each route go
// ahead, and the rest of the route follows when its gateway has confirmed them;
// what goes over one route keeps its order.
//
// It may be ended at any moment, and started again: nothing is lost then, and at
// most one copy is doubled, which SQL answers. When ctx ends, it stops between
// two dead letters, and the report says so; that is no error. On an error the
// report is of what was done until then.
func (d *DeadLetters) Replay(ctx context.Context, r Replay) (ReplayReport, error) {
	if err := checkBy("replay", r.By); err != nil {
		return ReplayReport{}, err
	}
	p, err := d.newReplay(ctx, r)
	if err != nil {
		return ReplayReport{}, err
	}
	defer p.sender.close()
	p.report.Unused, p.report.Routes, p.report.Refusals = p.plan.Unused, []RouteReport{}, []ReplayItem{}
	for i := range p.plan.Items {
		if p.plan.Items[i].Verdict == ReplayRefused {
			p.refuse(&p.plan.Items[i])
		}
	}
	err = p.run(ctx)
	cutShort := err != nil
	if p.report.Interrupted = ctx.Err() != nil; p.report.Interrupted {
		cutShort, err = true, nil // it was to stop
	}
	return p.finish(cutShort), err
}

// run sends what may be sent, watches the canaries that are out, and again,
// until nothing is left of either.
func (p *replaying) run(ctx context.Context) error {
	batch := p.leftovers()
	for ctx.Err() == nil {
		for _, r := range p.routes {
			batch = append(batch, r.due(p.how.Canary)...)
		}
		if len(batch) > 0 {
			if err := p.sweep(ctx, batch); err != nil {
				return err
			}
			batch = nil
			continue
		}
		if !p.awaiting() {
			break
		}
		if err := p.watch(ctx); err != nil {
			return err
		}
	}
	if len(p.sent) > 0 && ctx.Err() == nil {
		return p.sweep(ctx, nil) // completing may succeed now
	}
	return nil
}

func (p *replaying) leftovers() (sequences []int64) {
	for i := range p.plan.Items {
		if p.plan.Items[i].Verdict == ReplayLeftover {
			sequences = append(sequences, p.plan.Items[i].Letter.SequenceNumber)
		}
	}
	return sequences
}

// sweep sends and completes the letters of a batch, and those that are only to
// be completed. What it does not reach is not tried again.
func (p *replaying) sweep(ctx context.Context, batch []int64) error {
	if err := p.refresh(ctx); err != nil {
		return err
	}
	wanted := make(map[int64]bool, len(batch)+len(p.sent))
	for _, sequence := range batch {
		wanted[sequence] = true
	}
	for sequence := range p.sent {
		wanted[sequence] = true
	}
	s := &sweep{dead: p.DeadLetters, relays: p.relays, wanted: wanted, careful: p.careful, settle: p.settle, unsettled: p.unsettled}
	if p.how.Rate > 0 {
		s.interval = time.Duration(float64(time.Second) / p.how.Rate)
	}
	err := s.run(ctx)
	p.careful = s.careful
	if err != nil || ctx.Err() != nil {
		return err
	}
	for sequence := range wanted {
		if item := p.items[sequence]; !p.sent[sequence] {
			p.report.NotReached++
			if r := p.routeOf(item); r != nil {
				r.missed++
			}
		}
	}
	for _, r := range p.routes {
		r.stopIfMissed()
	}
	return nil
}

// settle sees one letter through up to its completion.
func (p *replaying) settle(l *letter) (complete bool, err error) {
	if p.sent[l.SequenceNumber] {
		delete(p.sent, l.SequenceNumber)
		return true, nil
	}
	defer p.tell()
	item := p.items[l.SequenceNumber]
	j, err := p.judge(context.Background(), l)
	if err != nil {
		return false, err
	}
	if j.verdict == ReplaySend && (item.Verdict != ReplaySend || item.Letter.Route != j.route) {
		j = refusal(whyChanged)
	}
	if j.verdict == ReplaySend {
		if j.why, err = p.reopen(l, j); err != nil {
			return false, err
		}
		if j.why != "" {
			j.verdict = ReplayRefused
		}
	}
	switch item.Verdict, item.Why = j.verdict, j.why; j.verdict {
	case ReplayRefused:
		p.refuse(item)
		return false, nil
	case ReplayLeftover:
		p.report.Leftover++
		return true, nil
	}
	if err := p.sender.send(replayOf(l, j)); err != nil {
		return false, fmt.Errorf("send a copy of dead letter %d: %w", l.SequenceNumber, err)
	}
	p.report.Sent++
	r := p.routeOf(item)
	if r.Sent++; item.Canary {
		r.out = append(r.out, canary{actionID: j.content.actionID})
	}
	return true, nil
}

func (p *replaying) unsettled(l *letter) { p.sent[l.SequenceNumber] = true }

func (p *replaying) refuse(item *ReplayItem) {
	p.report.Refused++
	if len(p.report.Refusals) < mostListed {
		p.report.Refusals = append(p.report.Refusals, *item)
	}
}

func (p *replaying) routeOf(item *ReplayItem) *replayRoute {
	i := slices.IndexFunc(p.routes, func(r *replayRoute) bool { return r.Route == item.Letter.Route })
	if item.Verdict == ReplayLeftover || i < 0 {
		return nil
	}
	return p.routes[i]
}

// finish adds up the report.
func (p *replaying) finish(cutShort bool) ReplayReport {
	p.report.Uncompleted = len(p.sent)
	p.report.NotSent = len(p.plan.Items) - p.report.Sent - p.report.Refused - p.report.Leftover - p.report.NotReached
	for _, r := range p.routes {
		switch left := r.Selected - r.Sent; {
		case left == 0 || r.Why != "":
		case cutShort:
			r.Why = "stopped before the rest"
		default:
			r.Why = fmt.Sprintf("%d changed since the replay began: see what was refused", left)
		}
		p.report.Routes = append(p.report.Routes, r.RouteReport)
	}
	return p.report
}

// tell tells how far it is.
func (p *replaying) tell() {
	if p.how.Progress == nil {
		return
	}
	progress := ReplayProgress{
		Of: p.plan.Send + p.plan.Leftover, Sent: p.report.Sent, Leftover: p.report.Leftover,
		Refused: p.report.Refused, Cleared: p.report.Confirmed,
	}
	for _, r := range p.routes {
		progress.Waiting += len(r.out)
	}
	p.how.Progress(progress)
}
