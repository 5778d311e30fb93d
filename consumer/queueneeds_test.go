package consumer_test

import (
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// suited is a queue that nothing is wrong with.
func suited() consumer.QueueProperties {
	return consumer.QueueProperties{
		RequiresSession: true, DeadLetterOnExpiry: true, LockDuration: time.Minute, MaxDeliveryCount: 10,
		DefaultTTL: 14 * 24 * time.Hour, Status: "Active",
	}
}

func TestQueueNeeds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*consumer.QueueNeeds, *consumer.QueueProperties)
		want   string // property and what was found, and whether it is a warning; "": it suits
	}{
		"suits":               {func(*consumer.QueueNeeds, *consumer.QueueProperties) {}, ""},
		"no sessions":         {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.RequiresSession = false }, "requiresSession false"},
		"plain, and sessions": {func(n *consumer.QueueNeeds, _ *consumer.QueueProperties) { n.Sessions = false }, "requiresSession true"},
		"plain": {func(n *consumer.QueueNeeds, p *consumer.QueueProperties) {
			n.Sessions, p.RequiresSession = false, false
		}, ""},
		"duplicate detection":     {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.DuplicateDetection = true }, "requiresDuplicateDetection true"},
		"expires without a trace": {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.DeadLetterOnExpiry = false }, "deadLetteringOnMessageExpiration false"},
		"shortest lock":           {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.LockDuration = 30 * time.Second }, ""},
		"longest lock":            {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.LockDuration = 5 * time.Minute }, ""},
		"lock too short":          {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.LockDuration = 29 * time.Second }, "lockDuration 29s"},
		"lock too long":           {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.LockDuration = 301 * time.Second }, "lockDuration 5m1s"},
		"lock without end":        {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.LockDuration = 0 }, "lockDuration without end"},
		"too few deliveries":      {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.MaxDeliveryCount = 9 }, "maxDeliveryCount 9"},
		"more attempts, the same": {func(n *consumer.QueueNeeds, _ *consumer.QueueProperties) { n.Retry.MostArrived = 6 }, "maxDeliveryCount 10"},
		"fewer attempts": {func(n *consumer.QueueNeeds, p *consumer.QueueProperties) {
			n.Retry.MostArrived, p.MaxDeliveryCount = 3, 8
		}, ""},
		"an hour of deliveries": {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.MaxDeliveryCount = 60 }, ""},
		"too many deliveries":   {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.MaxDeliveryCount = 61 }, "maxDeliveryCount 61 warning"},
		"lives for ever":        {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.DefaultTTL = 0 }, ""},
		"lives a day":           {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.DefaultTTL = 24 * time.Hour }, "defaultMessageTimeToLive 24h warning"},
		"lives long enough": {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) {
			p.DefaultTTL = 25*time.Hour + 16*time.Minute
		}, ""},
		"updates are tried for longer": {func(n *consumer.QueueNeeds, _ *consumer.QueueProperties) { n.Retry.UpdateLimit = 14 * 24 * time.Hour }, "defaultMessageTimeToLive 14 days warning"},
		"retries are far apart": {func(n *consumer.QueueNeeds, p *consumer.QueueProperties) {
			n.Retry.Delays, p.DefaultTTL = []time.Duration{5 * time.Hour}, 30*time.Hour
		}, "defaultMessageTimeToLive 30h warning"},
		"deletes itself":        {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.AutoDeleteOnIdle = time.Hour }, "autoDeleteOnIdle 1h"},
		"forwards":              {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.ForwardTo = "other" }, "forwardTo other"},
		"forwards dead letters": {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.ForwardDeadLettersTo = "other" }, "forwardDeadLetteredMessagesTo other"},
		"partitioned":           {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.Partitioned = true }, "enablePartitioning true warning"},
		"disabled":              {func(_ *consumer.QueueNeeds, p *consumer.QueueProperties) { p.Status = "ReceiveDisabled" }, "status ReceiveDisabled"},
	} {
		t.Run(name, func(t *testing.T) {
			needs, queue := consumer.QueueNeeds{Sessions: true}, suited()
			c.change(&needs, &queue)
			var got []string
			for _, f := range needs.Faults(queue) {
				line := f.Property + " " + f.Found
				if f.Warning {
					line += " warning"
				}
				got = append(got, line)
				if f.Needed == "" || !strings.HasSuffix(f.Harm, ".") || !strings.HasSuffix(f.Mend, ".") {
					t.Errorf("a fault does not say what is needed, what comes of it or what mends it: %+v", f)
				}
			}
			if strings.Join(got, ", ") != c.want {
				t.Errorf("faults %q, want %q", got, c.want)
			}
		})
	}
}

func TestQueueDuration(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"PT1M": time.Minute, "PT30S": 30 * time.Second, "P14D": 14 * 24 * time.Hour, "P1DT2H3M4.5S": 26*time.Hour + 3*time.Minute + 4500*time.Millisecond,
		"P1W": 7 * 24 * time.Hour, "P10675199DT2H48M5.4775807S": 0, "PT0S": 0,
	} {
		if got, err := consumer.QueueDuration(text); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", text, got, err, want)
		}
	}
	for _, text := range []string{"", "P", "PT", "1m", "P1Y", "PT-1M", "pt1m"} {
		if got, err := consumer.QueueDuration(text); err == nil {
			t.Errorf("%q was read as %s", text, got)
		}
	}
}
