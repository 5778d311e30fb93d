package consumer

import (
	"context"
	"errors"

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

// Discard removes dead letters for good, each with an audit entry before.
func (d *DeadLetters) Discard(ctx context.Context, how Discard) (DiscardReport, error) {
	return DiscardReport{}, errors.ErrUnsupported
}

// Remove completes the dead letters with these sequence numbers.
func (d *DeadLetters) Remove(ctx context.Context, sequences []int64) (removed int, err error) {
	return 0, errors.ErrUnsupported
}
