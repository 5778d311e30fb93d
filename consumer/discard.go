package consumer

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/store"
)

// Discard says which dead letters are to be removed for good.
type Discard struct {
	Filter DeadLetterFilter
	By     store.By // both fields are required
}

// DiscardReport is what a discard did. Every dead letter that was selected is
// in exactly one of Discarded, Skipped and NotReached.
type DiscardReport struct {
	Discarded   int           `json:"discarded"`
	Skipped     int           `json:"skipped"`
	NotReached  int           `json:"not_reached"` // locked by somebody else for now, gone meanwhile, or not begun
	Skips       []DiscardSkip `json:"skips"`       // the first hundred
	Interrupted bool          `json:"interrupted"`
}

// DiscardSkip is a dead letter that was left where it is.
type DiscardSkip struct {
	Letter DeadLetter `json:"letter"` // without Body and Properties
	Why    string     `json:"why"`    // one sentence that says what to do
}

const (
	whyBegun = "its replay was begun and not ended, so that it is the only message of its action: replay it, or withdraw the action first"
	whyAlive = "its action still waits, and another message of it is expected (next try %s): withdraw the action first, or try again later"
)

// Discard removes dead letters for good, each with an audit entry before. What
// SQL says of their actions stays; where the broker had dead-lettered one on
// its own and SQL does not know yet, the action fails first, with the broker's
// reason. The last message of an action that is still open is left.
//
// When ctx ends, it stops between two dead letters, and the report says so; that
// is no error. On an error the report is of what was done until then.
func (d *DeadLetters) Discard(ctx context.Context, how Discard) (DiscardReport, error) {
	discarding := discarding{DeadLetters: d, by: how.By, written: make(map[int64]bool), report: DiscardReport{Skips: []DiscardSkip{}}}
	if err := checkBy("discard", how.By); err != nil {
		return discarding.report, err
	}
	wanted, careful := make(map[int64]bool), false
	err := d.scan(ctx, func(l *letter) error {
		careful = careful || l.Unreadable
		switch selected := how.Filter.Selects(l.DeadLetter); {
		case selected && l.Unreadable:
			discarding.skip(l, whyUnreadable)
		case selected:
			wanted[l.SequenceNumber] = true
		}
		return nil
	})
	if err != nil {
		return discarding.report, err
	}
	selected := len(wanted) + discarding.report.Skipped
	err = d.remove(ctx, wanted, careful, discarding.settle)
	report := &discarding.report
	report.Discarded = selected - report.Skipped - len(wanted)
	report.NotReached = len(wanted)
	if report.Interrupted = ctx.Err() != nil; report.Interrupted {
		err = nil
	}
	return *report, err
}

// discarding is one discard. It belongs to one goroutine.
type discarding struct {
	*DeadLetters
	by      store.By
	written map[int64]bool // in the audit, in case completing has to be tried again
	report  DiscardReport
}

func (p *discarding) skip(l *letter, why string) {
	p.report.Skipped++
	if len(p.report.Skips) < mostListed {
		told := l.DeadLetter
		told.Body, told.Properties = nil, nil
		p.report.Skips = append(p.report.Skips, DiscardSkip{told, why})
	}
}

func (p *discarding) settle(l *letter) (complete bool, err error) {
	if p.written[l.SequenceNumber] {
		return true, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.waits().StoreLimit)
	defer cancel()
	why, err := p.needed(ctx, l)
	if err != nil {
		return false, err
	}
	if why != "" {
		p.skip(l, why)
		return false, nil
	}
	entry := store.AuditEntry{
		Who: p.by.Who, Verb: "discard", ProviderID: l.ProviderID, Why: p.by.Why,
		Detail: fmt.Sprintf("dead letter %d, %s", l.SequenceNumber, l.Reason),
	}
	if l.ActionID != "" {
		entry.ActionID = &l.ActionID
	}
	if err := p.Store.Audit(ctx, entry); err != nil {
		return false, err
	}
	p.written[l.SequenceNumber] = true
	return true, nil
}

// needed is why the letter must stay, as its action is not at its end; "" where
// it may go. What the broker ended has its end in SQL then.
func (p *discarding) needed(ctx context.Context, l *letter) (why string, err error) {
	row := l.Action
	switch {
	case l.ActionID == "", l.foreign, row == nil && l.own():
		return "", nil
	case row == nil:
	case row.Status == store.Confirmed, row.Status == store.Failed, l.leftover(false, p.now()):
		return "", nil
	case value(row.ReplayedSequence) == l.SequenceNumber:
		return whyBegun, nil
	}
	ending, err := p.end(ctx, l)
	if err == nil && ending == store.StillAlive {
		why = fmt.Sprintf(whyAlive, row.NextTry().Format(time.RFC3339))
	}
	return why, err
}

// Remove completes the dead letters with these sequence numbers, and tells SQL
// nothing: for what SQL was told of before. It returns how many it removed; the
// others were locked by somebody else, cannot be read, or are gone.
func (d *DeadLetters) Remove(ctx context.Context, sequences []int64) (removed int, err error) {
	if err := d.check(); err != nil || len(sequences) == 0 {
		return 0, err
	}
	wanted := make(map[int64]bool, len(sequences))
	for _, sequence := range sequences {
		wanted[sequence] = true
	}
	careful, err := d.unreadableUpTo(ctx, slices.Max(sequences))
	if err != nil {
		return 0, err
	}
	all := len(wanted)
	err = d.remove(ctx, wanted, careful, func(*letter) (bool, error) { return true, nil })
	return all - len(wanted), err
}

// remove is a sweep without copies.
func (d *DeadLetters) remove(ctx context.Context, wanted map[int64]bool, careful bool, settle func(*letter) (bool, error)) error {
	relays, err := d.relays(ctx)
	if err != nil {
		return err
	}
	s := &sweep{dead: d, relays: relays, wanted: wanted, careful: careful, settle: settle, unsettled: func(*letter) {}}
	return s.run(ctx)
}

// unreadableUpTo reports whether a dead letter up to a sequence number, or so
// soon after it that it may be received with it, cannot be read.
func (d *DeadLetters) unreadableUpTo(ctx context.Context, most int64) (found bool, err error) {
	letters, err := openPeeker(d.waits(), d.Connect, d.Queue)
	if err != nil {
		return false, d.failed(err)
	}
	defer letters.close()
	after := 0
	read := func(page []*azservicebus.ReceivedMessage) error {
		for _, m := range page {
			if value(m.SequenceNumber) > most {
				after++
			}
		}
		if after >= peekPage {
			return ErrStop
		}
		return nil
	}
	unreadable := func(int64) error {
		found = true
		return ErrStop
	}
	if err := letters.each(ctx, read, unreadable); err != nil && !errors.Is(err, ErrStop) {
		return false, d.failed(err)
	}
	return found, nil
}
