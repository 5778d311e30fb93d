package consumer

import "github.com/worklist-relay/worklist-relay/store"

// Reconciliation is what Reconcile found. Every dead letter that was looked at
// is counted in one of the six fields that follow.
type Reconciliation struct {
	DryRun   bool `json:"dry_run"` // nothing was changed; MarkedFailed would be
	LookedAt int  `json:"looked_at"`

	Own          int            `json:"own"`           // dead-lettered by this service, with its row
	MarkedFailed Listed[Marked] `json:"marked_failed"` // by the broker: the action is failed now
	EndedBefore  int            `json:"ended_before"`  // by the broker: the action had ended already
	StillAlive   int            `json:"still_alive"`   // by the broker: another message of the action is expected
	OfNoAction   int            `json:"of_no_action"`  // by the broker: no action's, or not its last word
	Unreadable   Listed[int64]  `json:"unreadable"`    // sequence numbers

	// Stranded lists actions that should have moved long ago. Nothing is guessed
	// of them and nothing changed: the producer's resend takes them up again.
	Stranded Listed[store.Action] `json:"stranded"`

	Counts        *QueueCounts `json:"counts"`         // nil: not known
	CountsUnknown string       `json:"counts_unknown"` // why not; "" also where nobody asked
}

// Marked is an action that failed because the broker dead-lettered its message.
type Marked struct {
	ActionID       string `json:"action_id"`
	ProviderID     string `json:"provider_id"`
	Reason         string `json:"reason"` // the broker's
	SequenceNumber int64  `json:"sequence_number"`
}

// Found reports whether there is anything that somebody should know.
func (f Reconciliation) Found() bool {
	return f.MarkedFailed.Count+f.Unreadable.Count+f.Stranded.Count > 0
}

// attributes are the log line of what was found.
func (f Reconciliation) attributes(queue string) []any {
	attributes := []any{
		"queue", queue, "marked_failed", f.MarkedFailed.Count, "unreadable", f.Unreadable.Count, "stranded", f.Stranded.Count,
	}
	if f.Counts != nil {
		attributes = append(attributes, "active", f.Counts.Active, "scheduled", f.Counts.Scheduled, "dead_lettered", f.Counts.DeadLettered)
	}
	return attributes
}

// QueueCounts is how many messages a queue holds.
type QueueCounts struct {
	Active       int64 `json:"active"` // those that are locked included
	Scheduled    int64 `json:"scheduled"`
	DeadLettered int64 `json:"dead_lettered"`
}

// mostListed bounds every list of a Reconciliation, however much is found.
const mostListed = 100

// Listed counts all of something and holds the first hundred.
type Listed[T any] struct {
	Count int `json:"count"`
	First []T `json:"first"`
}

func (l *Listed[T]) add(one T) {
	l.Count++
	if len(l.First) < mostListed {
		l.First = append(l.First, one)
	}
}
