package consumer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/store"
)

const (
	owedPage  = 100 // outcomes read at once
	owedPages = 100 // pages in a row, then there is a pause
)

// outcomeBody is the message that tells an action's end: what the README
// promises to producers. It holds nothing of a participant, nor the accession
// number, which is one's in all but name.
type outcomeBody struct {
	SchemaVersion int          `json:"schema_version"`
	ActionID      string       `json:"action_id"`
	ActionType    string       `json:"action_type"`
	ProviderID    string       `json:"provider_id"`
	SettingID     *string      `json:"setting_id"`
	Status        store.Status `json:"status"`
	Reason        *string      `json:"reason"`
	Phase         *string      `json:"phase"`
	Attempts      int          `json:"attempts"`
	Duplicate     bool         `json:"duplicate"`
	EnqueuedAt    time.Time    `json:"enqueued_at"`
	SentAt        *time.Time   `json:"sent_at"`
	ConfirmedAt   *time.Time   `json:"confirmed_at"`
	FailedAt      *time.Time   `json:"failed_at"`
}

const propertyTraceparent = "traceparent" // string, W3C Trace Context; the producer's

// outcomeMessage tells o. Its MessageID is the same whenever the same end is
// told, so that a queue with duplicate detection takes it once.
func outcomeMessage(o store.WorklistOutcome, traceparent string) (*azservicebus.Message, error) {
	body, err := json.Marshal(outcomeBody{
		SchemaVersion: 1, ActionID: o.ActionID, ActionType: o.ActionType, ProviderID: o.ProviderID, SettingID: o.SettingID,
		Status: o.Status, Reason: o.Reason, Phase: o.LastPhase, Attempts: o.Attempts, Duplicate: o.Duplicate,
		EnqueuedAt: o.EnqueuedAt, SentAt: o.SentAt, ConfirmedAt: o.ConfirmedAt, FailedAt: o.FailedAt,
	})
	if err != nil {
		return nil, fmt.Errorf("outcome of %s: %w", o.ActionID, err)
	}
	ended := value(o.ConfirmedAt)
	if o.Status == store.Failed {
		ended = value(o.FailedAt)
	}
	id := o.ActionID + ":" + string(o.Status) + ":" + strconv.FormatInt(ended.UnixMicro(), 10)
	session, contentType := SessionID(o.ProviderID, o.SettingID), "application/json"
	properties := map[string]any{propertyProviderID: o.ProviderID, "status": string(o.Status)}
	if traceparent != "" {
		properties[propertyTraceparent] = traceparent
	}
	return &azservicebus.Message{MessageID: &id, SessionID: &session, ContentType: &contentType, ApplicationProperties: properties, Body: body}, nil
}

// traceparentForm is all that a traceparent may be: whatever else a producer
// puts there is not passed on.
var traceparentForm = regexp.MustCompile(`^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$`)

func (d *delivery) traceparent() string {
	if text, ok := d.message.ApplicationProperties[propertyTraceparent].(string); ok && traceparentForm.MatchString(text) {
		return text
	}
	return ""
}

// tell tells the producer how the action ended, if it did, or notes that this is
// owed. It comes after the record and before the settlement: a crash in between
// tells it twice, never not at all. An error says that neither could be done, since
// the database is away; then the next delivery does it.
//
// What is told is read from SQL, as is what cannot be told yet: the row may be
// another's, or may say otherwise by now.
func (d *delivery) tell(o outcome) error {
	c := d.consumer
	ends := o.status == store.Confirmed || o.status == store.Failed
	if c.OutcomeQueue == "" || !ends || o.reason == ReasonActionConflict || d.in.actionID == "" || d.in.providerID == "" {
		return nil
	}
	lock := holdLock(context.Background(), d.lock, d.log)
	defer lock.release()
	if c.outcomes.resting(c.now()) {
		return d.owe()
	}
	var row store.WorklistOutcome
	err := d.offer(c.waits().TellLimit, func(ctx context.Context) (err error) {
		row, err = c.Store.WorklistOutcome(ctx, d.in.providerID, d.in.actionID)
		return err
	})
	switch {
	case errors.Is(err, store.ErrNoAction):
		return nil // the row is another provider's, or there is none
	case err != nil:
		return d.owe()
	case !row.Ended():
		return nil
	}
	if c.outcomes.tell(context.Background(), c, row, d.traceparent()) != nil {
		return d.owe()
	}
	return nil
}

// owe notes that the outcome is to be told later. Only a database that is away
// is an error: whatever else is wrong must not keep an action's message.
func (d *delivery) owe() error {
	err := d.offer(d.consumer.waits().TellLimit, func(ctx context.Context) error {
		return d.consumer.Store.OweOutcome(ctx, d.in.providerID, d.in.actionID)
	})
	if store.Unavailable(err) {
		return err
	}
	if err != nil {
		d.log.Error("the producer is not told of this action's end", "error", err)
	}
	return nil
}

// teller sends outcomes, on a client of its own.
type teller struct {
	link sender

	mu      sync.Mutex // guards what follows
	failing bool       // the last one could not be sent
	rest    time.Time  // until then deliveries do not try
}

func (t *teller) resting(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return now.Before(t.rest)
}

// tell sends one outcome within tellLimit, and logs where telling begins to fail
// and where it works again.
func (t *teller) tell(ctx context.Context, c *Consumer, o store.WorklistOutcome, traceparent string) error {
	m, err := outcomeMessage(o, traceparent)
	if err != nil {
		return err
	}
	sending, cancel := context.WithTimeout(ctx, c.waits().TellLimit)
	defer cancel()
	err = t.link.send(sending, c, c.OutcomeQueue, m)
	if ctx.Err() != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case err != nil && !t.failing:
		c.log().Warn("outcomes cannot be told, and are owed to their producers", "queue", c.OutcomeQueue, "error", err)
	case err == nil && t.failing:
		c.log().Info("outcomes are told again", "queue", c.OutcomeQueue)
	}
	t.failing, t.rest = err != nil, time.Time{}
	if err != nil {
		t.rest = c.now().Add(c.waits().TellRest)
	}
	return err
}

// startTelling tells what is owed, now and at each interval, until stop is
// called, which waits for it.
func (c *Consumer) startTelling(ctx context.Context) (stop func()) {
	if c.OutcomeQueue == "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() {
		defer c.telling.ended()
		for ctx.Err() == nil {
			_ = c.tellOwed(ctx) // logged where it matters, and tried again
			every := orDefault(c.TellOwed, time.Minute)
			c.telling.promise(c.now().Add(every + c.stuckAfter()))
			pause(ctx, every)
		}
	})
	return func() {
		cancel()
		running.Wait()
	}
}

// tellOwed tells all outcomes that are owed, page by page, up to the first that
// cannot be told.
func (c *Consumer) tellOwed(ctx context.Context) error {
	for range owedPages {
		c.telling.promise(c.now().Add(c.stuckAfter()))
		reading, cancel := context.WithTimeout(ctx, c.waits().StoreLimit)
		owed, err := c.Store.OutcomesOwed(reading, owedPage)
		cancel()
		if err != nil {
			return err
		}
		for _, o := range owed {
			if err := c.tellOne(ctx, o); err != nil {
				return err
			}
		}
		if len(owed) < owedPage {
			break
		}
	}
	return nil
}

func (c *Consumer) tellOne(ctx context.Context, o store.WorklistOutcome) error {
	// One whose message named no provider is nobody's to be told.
	if o.ProviderID != "" && o.Ended() {
		if err := c.outcomes.tell(ctx, c, o, ""); err != nil {
			return err
		}
	}
	writing, cancel := context.WithTimeout(ctx, c.waits().StoreLimit)
	defer cancel()
	return c.Store.OutcomeTold(writing, o)
}
