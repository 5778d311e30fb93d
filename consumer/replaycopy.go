package consumer

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/store"
)

func addressOf(provider string, setting *string) map[string]any {
	address := map[string]any{propertyProviderID: provider}
	if setting != nil {
		address[propertySettingID] = *setting
	}
	return address
}

// replayOf makes the message that a letter is replayed as: delivered at once,
// first tried like a message that is new, and without an end. Its MessageID is
// the same when one letter is copied twice after a crash, so that duplicate
// detection swallows the second, and another once an attempt was made since.
func replayOf(l *letter, j judgement) *azservicebus.Message {
	properties := cloneProperties(l.Properties)
	for _, stale := range []string{
		"DeadLetterReason", "DeadLetterErrorDescription",
		propertySettingID, propertyOriginalExpiry, propertyPostponements, propertyCopiedFrom, propertyStandsFor,
	} {
		delete(properties, stale)
	}
	maps.Copy(properties, j.address)
	properties[propertyReplays] = int64(l.Replays + 1)
	properties[propertyOriginalSequence] = l.in.original
	if !l.in.enqueued.IsZero() {
		properties[propertyOriginalEnqueued] = l.in.enqueued
	}
	attempt := 0
	if j.row != nil {
		attempt = j.row.Attempt
	}
	copied := copyWith(l.message, fmt.Sprintf("%s:%d:replay:%d", j.content.actionID, l.SequenceNumber, attempt), properties)
	copied.Body = j.body
	if value(l.message.SessionID) == "" || l.ProviderID == "" {
		session := SessionID(j.content.providerID, j.content.settingID)
		copied.SessionID = &session
	}
	return copied
}

// reopen readies SQL for the copy, which must not be sent before; why is the
// sentence where SQL refuses.
func (p *replaying) reopen(l *letter, j judgement) (why string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), p.waits().StoreLimit)
	defer cancel()
	entry := store.AuditEntry{
		Who: p.how.By.Who, Verb: "replay", ProviderID: j.content.providerID, ActionID: &j.content.actionID,
		Why: p.how.By.Why, Detail: fmt.Sprintf("dead letter %d", l.SequenceNumber),
	}
	if j.forced {
		entry.Detail += ", confirmed already"
		return "", p.Store.Audit(ctx, entry)
	}
	again := store.Replay{
		ProviderID: j.content.providerID, ActionID: j.content.actionID,
		BodySHA256: j.content.digest, Mended: j.mended, DeadLetter: l.SequenceNumber,
	}
	err = p.Store.Reopen(ctx, again, p.how.By)
	if errors.Is(err, store.ErrNoAction) && !errors.Is(err, store.ErrOtherProvider) {
		if l.own() || l.Fault != "" {
			return "", p.Store.Audit(ctx, entry) // the copy makes the row
		}
		// Nobody had told SQL of it yet. With a row, a replay that is cut short is known for one.
		if _, err = p.end(ctx, l); err == nil {
			err = p.Store.Reopen(ctx, again, p.how.By)
		}
	}
	if why = whyNot(err); why != "" {
		return why, nil
	}
	return "", err
}

// own reports whether this service dead-lettered it, not the broker or a person.
func (l *letter) own() bool { return slices.Contains(Reasons(), Reason(l.Reason)) }

// end fails the action of a letter that the broker dead-lettered on its own, if
// nothing else will move it any more.
func (d *DeadLetters) end(ctx context.Context, l *letter) (store.Ending, error) {
	return d.Store.DeadLettered(ctx, asLost(l.message, l.in), brokersAccount)
}

// copySender sends copies on a client of its own, opened when first needed and
// again after the SDK gave one up: a fatal error on a link ends its client.
type copySender struct {
	dead   *DeadLetters
	client *azservicebus.Client
	link   *azservicebus.Sender
}

func (s *copySender) send(m *azservicebus.Message) error {
	if s.link == nil {
		client, err := s.dead.Connect()
		if err != nil {
			return err
		}
		link, err := client.NewSender(s.dead.Queue, nil)
		if err != nil {
			s.dead.waits().close(client.Close)
			return err
		}
		s.client, s.link = client, link
	}
	ctx, cancel := context.WithTimeout(context.Background(), s.dead.waits().SendDeadline)
	defer cancel()
	err := s.link.SendMessage(ctx, m, nil)
	if ended(err) {
		s.close()
	}
	return err
}

func (s *copySender) close() {
	if s.client != nil {
		s.dead.waits().close(s.client.Close)
		s.client, s.link = nil, nil
	}
}
