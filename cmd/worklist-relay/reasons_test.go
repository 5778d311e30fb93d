package main

import (
	"testing"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// Every reason that this service dead-letters with tells an operator what helps.
func TestReasonsHelp(t *testing.T) {
	t.Parallel()
	for _, reason := range consumer.Reasons() {
		if !isSentence(helps[reason]) {
			t.Errorf("reason %s is helped with %q", reason, helps[reason])
		}
	}
}
