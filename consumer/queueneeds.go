package consumer

import (
	"cmp"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// QueueNeeds is what this program needs of the queue that actions come from.
type QueueNeeds struct {
	Sessions bool        // as [Consumer.Sessions]
	Retry    RetryPolicy // zero: the defaults
}

// QueueProperties are those of a queue that matter, as its management address or
// a deployment states them. Zero durations are without end.
type QueueProperties struct {
	RequiresSession      bool
	DuplicateDetection   bool
	DeadLetterOnExpiry   bool
	LockDuration         time.Duration
	MaxDeliveryCount     int
	DefaultTTL           time.Duration
	AutoDeleteOnIdle     time.Duration
	Partitioned          bool
	ForwardTo            string // "": nowhere
	ForwardDeadLettersTo string // "": nowhere
	Status               string // "Active", or ""
}

// QueueFault is one property of a queue that does not suit the program.
type QueueFault struct {
	Property string // as Azure's resource model names it: lockDuration
	Found    string
	Needed   string
	Harm     string // what would come of it; a sentence
	Mend     string // a sentence
	Warning  bool   // the program works, but not as well as it might
}

func (f QueueFault) Error() string {
	return fmt.Sprintf("%s is %s, needed: %s. %s %s", f.Property, f.Found, f.Needed, f.Harm, f.Mend)
}

const (
	// leastLock is a lock that is never lost by waiting for its own renewal. The
	// renewal begins when at least a quarter is left (it waits for half of what is
	// left, and work may begin with half), and that quarter has to hold a renewal
	// (renewSession), a settlement (settleDeadline) and lockMargin: 26 s in all,
	// and the rest is for clocks that are a second apart.
	leastLock = 30 * time.Second

	// mostLock is the most that Service Bus takes, which carefulTime relies on.
	mostLock = 5 * time.Minute

	// spareDeliveries are those that the ends of processes may cost one action: a
	// roll-out, and a node that is taken away.
	spareDeliveries = 2

	// mostBlocked is how long one message that nothing can be done about may keep its
	// gateway from others: each of its deliveries is left to its lock.
	mostBlocked = time.Hour

	// longestDay is a clinic day on which the clocks go back.
	longestDay = 25 * time.Hour
)

// Faults compares a queue with the needs; none: it suits. The order is fixed.
func (n QueueNeeds) Faults(p QueueProperties) []QueueFault {
	var faults []QueueFault
	add := func(bad bool, f QueueFault) {
		if bad {
			faults = append(faults, f)
		}
	}
	add(p.Status != "" && p.Status != "Active", QueueFault{
		Property: "status", Found: p.Status, Needed: "Active",
		Harm: "Nothing can be sent, or nothing received.", Mend: "Enable the queue in the portal.",
	})
	add(p.RequiresSession != n.Sessions, n.SessionFault())
	add(p.DuplicateDetection, QueueFault{
		Property: "requiresDuplicateDetection", Found: "true", Needed: "false",
		Harm: "An action that is sent again is swallowed, and its sender told that it was sent.",
		Mend: "Make the queue anew without: it cannot be changed.",
	})
	add(!p.DeadLetterOnExpiry, QueueFault{
		Property: "deadLetteringOnMessageExpiration", Found: "false", Needed: "true",
		Harm: "An action whose time to live ends vanishes, and nobody is told.",
		Mend: "Set it to true; the queue can stay.",
	})
	faults = append(faults, lockFaults(p.LockDuration)...)
	faults = append(faults, n.deliveryFaults(p)...)
	least := n.leastTTL()
	add(p.DefaultTTL != 0 && p.DefaultTTL < least, QueueFault{
		Property: "defaultMessageTimeToLive", Found: brief(p.DefaultTTL), Needed: "at least " + brief(least), Warning: true,
		Harm: "The broker dead-letters what would still be tried, and what is sent days ahead of its clinic day.",
		Mend: fmt.Sprintf("Set it to %s, or to the longest time that actions are sent ahead.", brief(max(least, 14*24*time.Hour))),
	})
	add(p.AutoDeleteOnIdle != 0, QueueFault{
		Property: "autoDeleteOnIdle", Found: brief(p.AutoDeleteOnIdle), Needed: "never",
		Harm: "The queue is deleted with all its dead letters when nobody uses it for so long.",
		Mend: "Take the setting away.",
	})
	add(p.ForwardTo != "", QueueFault{
		Property: "forwardTo", Found: p.ForwardTo, Needed: "nothing",
		Harm: "Actions go on to another queue and never come here.",
		Mend: "Take the setting away, or name the other queue in SERVICEBUS_QUEUE.",
	})
	add(p.ForwardDeadLettersTo != "", QueueFault{
		Property: "forwardDeadLetteredMessagesTo", Found: p.ForwardDeadLettersTo, Needed: "nothing",
		Harm: "Dead letters leave the queue: `dlq` and reconciling do not find them.",
		Mend: "Take the setting away.",
	})
	add(p.Partitioned, QueueFault{
		Property: "enablePartitioning", Found: "true", Needed: "false", Warning: true,
		Harm: "Dead letters have no common order, so that `dlq` may not list all of them.",
		Mend: "Make the queue anew without: it cannot be changed.",
	})
	return faults
}

// SessionFault is the fault of a queue that requires sessions where the program
// does not use them, or the other way round. The broker tells it to receivers too.
func (n QueueNeeds) SessionFault() QueueFault {
	return QueueFault{
		Property: "requiresSession", Found: strconv.FormatBool(!n.Sessions), Needed: strconv.FormatBool(n.Sessions),
		Harm: "The queue and this program do not agree whether it requires sessions: nothing is received.",
		Mend: fmt.Sprintf("Set SERVICEBUS_SESSIONS=%t, or make the queue anew: it cannot be changed.", !n.Sessions),
	}
}

func lockFaults(lock time.Duration) []QueueFault {
	f := QueueFault{Property: "lockDuration", Found: brief(lock), Needed: brief(leastLock) + " to " + brief(mostLock), Mend: "Set it to 1 minute."}
	switch {
	case lock == 0, lock > mostLock:
		f.Found = cmp.Or(f.Found, "without end")
		f.Harm = "Service Bus takes no longer one, and what a replica held that was killed would wait for so long."
	case lock < leastLock:
		f.Harm = "Locks run out while work goes on and are taken by others: each action costs several deliveries."
	default:
		return nil
	}
	return []QueueFault{f}
}

// deliveryFaults compare the maximum of deliveries with what the program itself
// gives up after. A retry is a new message and spends none. What does are tries
// that kill the process, panics, and processes that end; where the broker gives up
// first, it does so with no word to SQL or the producer.
func (n QueueNeeds) deliveryFaults(p QueueProperties) []QueueFault {
	least := n.Retry.mostArrived() + mostPanics + spareDeliveries
	f := QueueFault{Property: "maxDeliveryCount", Found: strconv.Itoa(p.MaxDeliveryCount), Needed: fmt.Sprintf("at least %d", least)}
	switch {
	case p.MaxDeliveryCount < least:
		f.Harm = "The broker gives up on actions that this program would still try, or end with a reason."
		f.Mend = fmt.Sprintf("Set it to %d.", least)
	case time.Duration(p.MaxDeliveryCount)*p.LockDuration > mostBlocked && p.MaxDeliveryCount > least:
		f.Needed, f.Warning = fmt.Sprintf("%d to %d", least, max(least, int(mostBlocked/p.LockDuration))), true
		f.Harm = fmt.Sprintf("A message that cannot be read keeps its gateway waiting for %s, a lock for each delivery.", brief(time.Duration(p.MaxDeliveryCount)*p.LockDuration))
		f.Mend = fmt.Sprintf("Set it to %d.", least)
	default:
		return nil
	}
	return []QueueFault{f}
}

// leastTTL is the longest that an action is tried after it was enqueued on its
// clinic day, and one more wait. Copies for later carry the end of the first
// message's time to live with them.
func (n QueueNeeds) leastTTL() time.Duration {
	longest := (&Consumer{}).postponeSession() * 16 / 15
	for _, list := range [][]time.Duration{n.Retry.Delays, n.Retry.Postponements} {
		for _, d := range list {
			longest = max(longest, d+time.Duration(jitterShare*float64(d)))
		}
	}
	return max(n.Retry.updateLimit(), longestDay) + longest.Round(time.Minute)
}

// brief is a duration with as many units as it needs: "1m", "25h16m".
func brief(d time.Duration) string {
	switch {
	case d == 0:
		return ""
	case d >= 48*time.Hour && d%(24*time.Hour) == 0:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	s := strings.TrimSuffix(d.String(), "m0s")
	if s != d.String() {
		s += "m"
	}
	if short := strings.TrimSuffix(s, "h0m"); short != s {
		s = short + "h"
	}
	return s
}

var isoDuration = regexp.MustCompile(`^P(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?)?$`)

// QueueDuration reads a duration as queues have it: ISO 8601 of weeks, days,
// hours, minutes and seconds, such as PT1M. What is longer than 292 years, as the
// service writes "for ever", is 0.
func QueueDuration(text string) (time.Duration, error) {
	parts := isoDuration.FindStringSubmatch(text)
	if parts == nil || strings.Join(parts[1:], "") == "" || strings.HasSuffix(text, "T") {
		return 0, fmt.Errorf("%q is no ISO 8601 duration such as PT1M", text)
	}
	total := 0.0
	for i, unit := range []time.Duration{7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second} {
		if parts[i+1] == "" {
			continue
		}
		n, err := strconv.ParseFloat(parts[i+1], 64)
		if err != nil {
			return 0, fmt.Errorf("%q is no ISO 8601 duration such as PT1M", text)
		}
		total += n * float64(unit)
	}
	if total >= math.MaxInt64 {
		return 0, nil
	}
	return time.Duration(math.Round(total)), nil
}
