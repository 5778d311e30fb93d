package servicebustest

import (
	"fmt"
	"regexp"
	"time"
)

// Queue tells a queue what to be. Zero values are the defaults of Service Bus.
type Queue struct {
	// Name is 1 to 260 letters, digits, dots, hyphens, underscores and slashes, and begins and ends with a letter or digit.
	// Clients may write it in any case.
	Name string

	// LockDuration is how long a received message stays locked, 0 for 1 minute, at most 5 minutes.
	LockDuration time.Duration

	// MaxDeliveryCount is how many deliveries may fail before a message is dead-lettered, 0 for 10, at most 2000.
	MaxDeliveryCount int

	// RequiresSession makes a session queue: every message belongs to a session, messages without a session id and receivers
	// without a session are refused. Its dead-letter queue knows no sessions.
	RequiresSession bool

	// RequiresDuplicateDetection swallows a message whose message id was sent within the window.
	RequiresDuplicateDetection bool

	// DuplicateDetectionWindow is how long a message id is remembered, 0 for 10 minutes.
	DuplicateDetectionWindow time.Duration

	// DefaultTTL is the longest and the default time to live, 0 for no end.
	DefaultTTL time.Duration

	// DeadLetteringOnExpiration dead-letters what expires; without it, expired messages vanish.
	DeadLetteringOnExpiration bool

	// MaxMessageBytes bounds an encoded message or batch, 0 for 256 KiB as in the Standard tier.
	MaxMessageBytes int
}

const (
	defaultLockDuration     = time.Minute
	maxLockDuration         = 5 * time.Minute
	defaultMaxDeliveryCount = 10
	mostMaxDeliveryCount    = 2000
	defaultDuplicateWindow  = 10 * time.Minute
	defaultMaxMessageBytes  = 256 << 10
)

var queueName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._/-]{0,258}[A-Za-z0-9])?$`)

// withDefaults fills in the defaults and checks the limits. Its error names the queue and the setting.
func (q Queue) withDefaults() (Queue, error) {
	q.LockDuration = orDefault(q.LockDuration, defaultLockDuration)
	q.MaxDeliveryCount = orDefault(q.MaxDeliveryCount, defaultMaxDeliveryCount)
	q.DuplicateDetectionWindow = orDefault(q.DuplicateDetectionWindow, defaultDuplicateWindow)
	q.MaxMessageBytes = orDefault(q.MaxMessageBytes, defaultMaxMessageBytes)
	var fault string
	switch {
	case !queueName.MatchString(q.Name):
		return q, fmt.Errorf("queue %q: not a name of a queue", q.Name)
	case q.LockDuration < 0 || q.LockDuration > maxLockDuration:
		fault = fmt.Sprintf("LockDuration %s: must be above 0 and at most %s", q.LockDuration, maxLockDuration)
	case q.MaxDeliveryCount < 0 || q.MaxDeliveryCount > mostMaxDeliveryCount:
		fault = fmt.Sprintf("MaxDeliveryCount %d: must be 1 to %d", q.MaxDeliveryCount, mostMaxDeliveryCount)
	case q.DuplicateDetectionWindow < 0:
		fault = fmt.Sprintf("DuplicateDetectionWindow %s: must be above 0", q.DuplicateDetectionWindow)
	case q.DefaultTTL < 0:
		fault = fmt.Sprintf("DefaultTTL %s: must not be negative", q.DefaultTTL)
	case q.MaxMessageBytes < 0:
		fault = fmt.Sprintf("MaxMessageBytes %d: must be above 0", q.MaxMessageBytes)
	default:
		return q, nil
	}
	return q, fmt.Errorf("queue %s: %s", q.Name, fault)
}

func orDefault[T comparable](v, otherwise T) T {
	var zero T
	if v == zero {
		return otherwise
	}
	return v
}
