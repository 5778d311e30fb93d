package consumer

import (
	"slices"
	"sync"
	"testing"
)

// Whatever the scheduler does, turns come in the order in which they were
// taken, and only those of one accession number wait for each other.
func TestTurns(t *testing.T) {
	t.Parallel()
	var turns turns
	var running sync.WaitGroup
	var mu sync.Mutex
	var order []int
	_, _, hold := turns.take("leeds", "A")
	for i := range 100 {
		before, _, pass := turns.take("leeds", "A")
		running.Go(func() {
			defer pass()
			<-before
			mu.Lock()
			defer mu.Unlock()
			order = append(order, i)
		})
	}
	for _, other := range []turnKey{{"leeds", "B"}, {"hull", "A"}, {"leeds", ""}, {"leeds", ""}} {
		before, _, pass := turns.take(other.provider, other.accession)
		<-before // at once, although the first has not passed
		defer pass()
	}
	mu.Lock()
	if len(order) != 0 {
		t.Errorf("%d did not wait for the first", len(order))
	}
	mu.Unlock()
	hold()
	hold()
	running.Wait()
	if len(order) != 100 || !slices.IsSorted(order) {
		t.Errorf("order is %v", order)
	}
	if _, ok := turns.last[turnKey{"leeds", "A"}]; ok {
		t.Error("an accession number that nobody waits for is still kept")
	}
}

// A message is claimed when it has passed, however it ended.
func TestTurnsTellWhoClaimed(t *testing.T) {
	t.Parallel()
	var turns turns
	for _, accession := range []string{"A", ""} {
		_, claimed, pass := turns.take("leeds", accession)
		select {
		case <-claimed:
			t.Error("claimed before it passed")
		default:
		}
		pass()
		<-claimed
	}
}
