package consumer_test

import (
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/worklist-relay/worklist-relay/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// situation is one thing that happens, and the test of its one right result.
type situation struct {
	name string // "NN_words": its number in the list of situations
	test func(t *testing.T, url string)
}

// TestSituations holds the consumer, end to end, against every situation that
// it may meet, on SQLite.
func TestSituations(t *testing.T) { testSituations(t, "sqlite") }

// TestSituationsPostgreSQL is the same on PostgreSQL.
func TestSituationsPostgreSQL(t *testing.T) { testSituations(t, "postgres") }

func testSituations(t *testing.T, dialect string) {
	for _, list := range [][]situation{
		beforeSituations,
		sentSituations,
		brokerSituations,
		reconcileSituations,
	} {
		for _, s := range list {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				s.test(t, storetest.URL(t, dialect))
			})
		}
	}
}

// noDetails fails if any of the participant's details is in text.
func noDetails(t *testing.T, where, text string) {
	t.Helper()
	for _, detail := range []string{"SYNTHETIC", "CANARY", "9990000018", "19700101"} {
		if strings.Contains(text, detail) {
			t.Errorf("%s holds a participant's detail: %s", where, text)
		}
	}
}
