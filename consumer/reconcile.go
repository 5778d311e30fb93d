package consumer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/worklist-relay/worklist-relay/store"
)

// Reconciler holds the queue against SQL: it finds what the broker dead-lettered
// on its own, of which nobody is told, and what is stranded. Set the fields,
// then call Reconcile or Run. Several processes may reconcile one queue at once.
type Reconciler struct {
	Connect func() (*azservicebus.Client, error) // called for each Reconcile; required
	Queue   string                               // required
	Store   *store.Store                         // migrated; required

	// Counts asks how many messages the queue holds. nil: not known.
	Counts func(context.Context) (QueueCounts, error)

	StrandedAfter time.Duration    // past its next try, from when an action counts as stranded; 0: 15 min
	DryRun        bool             // change nothing
	Log           *slog.Logger     // nil: slog.Default
	Now           func() time.Time // nil: time.Now

	Metrics metric.MeterProvider // nil: nothing is measured

	pace
	measures reconcileMeasures
	turning  pulse
}

// brokersAccount signs what is done for a dead letter of the broker's.
var brokersAccount = store.By{Who: "worklist-relay", Why: "the broker dead-lettered its message"}

// Reconcile looks through the whole dead-letter queue and the open actions
// once. Its memory does not grow with either. On an error it returns what it
// found until then.
func (r *Reconciler) Reconcile(ctx context.Context) (Reconciliation, error) {
	found := Reconciliation{DryRun: r.DryRun}
	found.MarkedFailed.First, found.Unreadable.First, found.Stranded.First = []Marked{}, []int64{}, []store.Action{}
	if r.Connect == nil || r.Queue == "" || r.Store == nil {
		return found, errors.New("reconciler: Connect, Queue and Store are required")
	}
	if err := r.measures.start(r.Metrics); err != nil {
		return found, fmt.Errorf("reconciler: metrics: %w", err)
	}
	letters, err := openPeeker(r.waits(), r.Connect, r.Queue)
	if err != nil {
		return found, fmt.Errorf("dead letters of queue %s: %w", r.Queue, err)
	}
	defer letters.close()
	look := func(page []*azservicebus.ReceivedMessage) error {
		r.turned(0)
		for _, m := range page {
			if err := r.look(ctx, m, &found); err != nil {
				return err
			}
		}
		return nil
	}
	unreadable := func(sequence int64) error {
		found.LookedAt++
		found.Unreadable.add(sequence)
		return nil
	}
	if err := letters.each(ctx, look, unreadable); err != nil {
		return found, fmt.Errorf("dead letters of queue %s: %w", r.Queue, err)
	}
	if err := r.findStranded(ctx, &found); err != nil {
		return found, err
	}
	r.measures.stranded.Record(ctx, int64(found.Stranded.Count))
	r.measures.deadLetters.Record(ctx, int64(found.LookedAt)) // needs no right to count
	if r.Counts != nil {
		counts, err := r.Counts(ctx)
		if err != nil {
			found.CountsUnknown = err.Error()
		} else {
			found.Counts = &counts
		}
	}
	return found, nil
}

// look takes account of one dead letter.
func (r *Reconciler) look(ctx context.Context, m *azservicebus.ReceivedMessage, found *Reconciliation) error {
	found.LookedAt++
	reason := value(m.DeadLetterReason)
	if slices.Contains(Reasons(), Reason(reason)) {
		found.Own++
		return nil
	}
	in, err := decodeAny(m)
	if err != nil && !isInvalid(err) {
		found.Unreadable.add(value(m.SequenceNumber))
		return nil
	}
	if in.actionID == "" {
		found.OfNoAction++
		return nil
	}
	lost := asLost(m, in)
	asking, cancel := context.WithTimeout(ctx, r.waits().StoreLimit)
	defer cancel()
	ending := store.Ending(0)
	if r.DryRun {
		ending, err = r.Store.WouldEnd(asking, lost)
	} else {
		ending, err = r.Store.DeadLettered(asking, lost, brokersAccount)
	}
	if err != nil {
		return err
	}
	switch ending {
	case store.MarkedFailed:
		if !r.DryRun {
			r.measures.reconciled.Add(ctx, 1, metric.WithAttributes(attribute.String("reason", reasonLabel(Reason(lost.Reason)))))
		}
		found.MarkedFailed.add(Marked{ActionID: in.actionID, ProviderID: in.providerID, Reason: lost.Reason, SequenceNumber: in.sequence})
	case store.EndedBefore:
		found.EndedBefore++
	case store.StillAlive:
		found.StillAlive++
	default:
		found.OfNoAction++
	}
	return nil
}

// asLost is the dead letter as SQL is asked about it.
func asLost(m *azservicebus.ReceivedMessage, in incoming) store.Lost {
	return store.Lost{BodySHA256: in.digest, DeadLetter: in.sequence, Invalid: store.Invalid{
		ActionID: in.actionID, ActionType: in.actionType,
		ProviderID: in.providerID, SettingID: in.settingID, AccessionNumber: in.accession,
		Reason: reasonOf(m), Description: descriptionOf(m),
		SequenceNumber: in.original, EnqueuedAt: in.enqueued,
	}}
}

// findStranded lists the actions that should have moved long ago.
func (r *Reconciler) findStranded(ctx context.Context, found *Reconciliation) error {
	asking, cancel := context.WithTimeout(ctx, r.waits().StoreLimit)
	defer cancel()
	filter := store.ActionFilter{Overdue: r.now().Add(-r.strandedAfter()), Limit: mostListed}
	count, err := r.Store.CountActions(asking, filter)
	if err != nil {
		return err
	}
	actions, err := r.Store.Actions(asking, filter)
	if err != nil {
		return err
	}
	if r.DryRun {
		// What would have failed by now would not be stranded.
		all := len(actions)
		actions = slices.DeleteFunc(actions, func(a store.Action) bool {
			return slices.ContainsFunc(found.MarkedFailed.First, func(m Marked) bool { return m.ActionID == a.ActionID })
		})
		count -= all - len(actions)
	}
	found.Stranded.Count, found.Stranded.First = max(count, len(actions)), actions
	return nil
}

// Run reconciles at each interval until ctx ends, the first time after one of
// them: when a service starts, its queue has yet to move. It outlives every
// outage, and logs a line when something was found or could not be looked at.
func (r *Reconciler) Run(ctx context.Context, every time.Duration) {
	defer r.turning.ended()
	for {
		r.turned(every)
		pause(ctx, every)
		if ctx.Err() != nil {
			return
		}
		r.turned(0)
		found, err := r.Reconcile(ctx)
		if found.Found() { // also by a look that was cut short
			r.log().Warn("reconciled: an operator should look", found.attributes(r.Queue)...)
		}
		if err != nil && ctx.Err() == nil {
			r.log().Warn("not reconciled, trying again", "queue", r.Queue, "error", err, "in", every.String())
		}
	}
}

// reconcileStuck is far beyond what one page of the dead-letter queue takes.
const reconcileStuck = 10 * time.Minute

func (r *Reconciler) turned(wait time.Duration) {
	r.turning.promise(r.now().Add(wait + reconcileStuck))
}

// Alive reports whether Run still turns, as [Consumer.Alive] does.
func (r *Reconciler) Alive() error { return r.turning.check("reconciling", r.now()) }

func (r *Reconciler) strandedAfter() time.Duration {
	if r.StrandedAfter == 0 {
		return 15 * time.Minute
	}
	return r.StrandedAfter
}

func (r *Reconciler) now() time.Time {
	if r.Now == nil {
		return time.Now().UTC()
	}
	return r.Now().UTC()
}

func (r *Reconciler) log() *slog.Logger {
	if r.Log == nil {
		return slog.Default()
	}
	return r.Log
}
