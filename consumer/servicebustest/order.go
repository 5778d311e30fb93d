package servicebustest

import (
	"cmp"
	"slices"
)

// bySequence is a heap (container/heap) of active messages; the lowest sequence number is delivered first.
type bySequence []*message

func (h bySequence) Len() int           { return len(h) }
func (h bySequence) Less(i, j int) bool { return h[i].sequence < h[j].sequence }
func (h bySequence) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].readyIndex, h[j].readyIndex = i, j
}

// Push is heap.Interface's: call heap.Push.
func (h *bySequence) Push(x any) {
	m := x.(*message)
	m.readyIndex = len(*h)
	*h = append(*h, m)
}

// Pop is heap.Interface's: call heap.Pop.
func (h *bySequence) Pop() any {
	last := len(*h) - 1
	m := (*h)[last]
	(*h)[last] = nil
	*h = (*h)[:last]
	m.readyIndex = -1
	return m
}

// ledger holds all messages of a queue in the order of their sequence numbers. Adding at the end and removing cost O(log n)
// together; adding in between, which only dead-lettering out of order does, moves the entries behind it.
type ledger struct {
	entries []ledgerEntry // those before first are gone
	first   int
	gone    int // entries without a message, those before first included
}

type ledgerEntry struct {
	sequence int64
	m        *message // nil: removed
}

func (l *ledger) len() int { return len(l.entries) - l.gone }

// at returns the index of the first entry whose sequence number is not below sequence.
func (l *ledger) at(sequence int64) int {
	i, _ := slices.BinarySearchFunc(l.entries[l.first:], sequence, func(e ledgerEntry, s int64) int { return cmp.Compare(e.sequence, s) })
	return l.first + i
}

func (l *ledger) add(m *message) {
	entry := ledgerEntry{sequence: m.sequence, m: m}
	if n := len(l.entries); n == 0 || l.entries[n-1].sequence < m.sequence {
		l.entries = append(l.entries, entry)
		return
	}
	l.entries = slices.Insert(l.entries, l.at(m.sequence), entry)
}

func (l *ledger) find(sequence int64) *message {
	if i := l.at(sequence); i < len(l.entries) && l.entries[i].sequence == sequence {
		return l.entries[i].m
	}
	return nil
}

func (l *ledger) remove(m *message) {
	l.entries[l.at(m.sequence)].m = nil
	l.gone++
	for l.first < len(l.entries) && l.entries[l.first].m == nil {
		l.first++
	}
	if l.gone > 64 && l.gone > len(l.entries)/2 {
		live := make([]ledgerEntry, 0, l.len())
		l.from(0, func(m *message) bool {
			live = append(live, ledgerEntry{sequence: m.sequence, m: m})
			return true
		})
		*l = ledger{entries: live}
	}
}

// from calls visit for each message from sequence on, in order, until it returns false.
func (l *ledger) from(sequence int64, visit func(*message) bool) {
	for _, e := range l.entries[l.at(sequence):] {
		if e.m != nil && !visit(e.m) {
			return
		}
	}
}
