package consumer

import (
	"log/slog"
	"time"
)

func (c *Consumer) concurrency() int {
	if c.Concurrency == 0 {
		return 16
	}
	return c.Concurrency
}

func (c *Consumer) now() time.Time {
	if c.Now == nil {
		return time.Now().UTC()
	}
	return c.Now().UTC()
}

func (c *Consumer) log() *slog.Logger {
	if c.Log == nil {
		return slog.Default()
	}
	return c.Log
}

func (c *Consumer) clinic() *time.Location {
	if c.Clinic == nil {
		return time.UTC
	}
	return c.Clinic
}

func (c *Consumer) claimLease() time.Duration {
	if c.ClaimLease == 0 {
		return 90 * time.Second
	}
	return c.ClaimLease
}

// sentLease is how long a claim holds once its frame is on the way: a dial more,
// where a reused connection had ended, and the ack.
func (c *Consumer) sentLease() time.Duration {
	return c.claimLease() + orDefault(c.Relay.AckTimeout, 35*time.Second)
}

func (c *Consumer) keepSession() time.Duration { return orDefault(c.KeepSession, 10*time.Minute) }

func (c *Consumer) postponeSession() time.Duration {
	return orDefault(c.PostponeSession, 15*time.Minute)
}

func (c *Consumer) watchdog() time.Duration { return orDefault(c.Watchdog, 10*time.Minute) }

// orDefault is d, or what zero stands for.
func orDefault(d, otherwise time.Duration) time.Duration {
	if d == 0 {
		return otherwise
	}
	return d
}
