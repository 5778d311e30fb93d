package consumer_test

import (
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
		sessionSituations,
		outageSituations,
		reconcileSituations,
		leakSituations,
	} {
		for _, s := range list {
			t.Run(s.name, func(t *testing.T) {
				t.Parallel()
				s.test(t, storetest.URL(t, dialect))
			})
		}
	}
}
