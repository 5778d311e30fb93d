package consumer_test

import (
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// TestMain ignores one goroutine of the SDK: callers that need a link at the same time,
// after it was lost, each open it, and the SDK forgets what renews the claims of all
// but one. A client that was left open is known by its connection.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(suite.Tests(m), goleak.IgnoreAnyFunction(
		"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/internal.(*Namespace).startNegotiateClaimRenewer.func3"))
}

// situation is one thing that happens, and the test of its one right result.
type situation struct {
	name string // "NN_words": its number in the list of situations
	test func(t *testing.T, url string)
}

// TestSituations holds the consumer, end to end, against every situation that
// it may meet, on SQLite.
func TestSituations(t *testing.T) {
	t.Parallel()
	testSituations(t, "sqlite")
}

// TestSituationsPostgreSQL is the same on PostgreSQL.
func TestSituationsPostgreSQL(t *testing.T) {
	t.Parallel()
	testSituations(t, "postgres")
}

func testSituations(t *testing.T, dialect string) {
	for _, s := range slices.Concat(beforeSituations, connectSituations, sentSituations, brokerSituations, sessionSituations,
		isolationSituations, outageSituations, reconcileSituations, replaySituations, leakSituations) {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.test(t, storetest.URL(t, dialect))
		})
	}
}
