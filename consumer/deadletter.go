package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// DeadLetters is the dead-letter queue of a queue, for operators. Set the
// fields, then call its methods, in any number of processes at once.
type DeadLetters struct {
	Connect func() (*azservicebus.Client, error) // called for each connection, of which a method has at most two at a time; required
	Queue   string                               // required
	Store   *store.Store                         // migrated; required
	Clinic  *time.Location                       // whose midnight ends the clinic day; nil: UTC
	Now     func() time.Time                     // nil: time.Now

	pace
}

// DeadLetter is one message of the dead-letter queue, as far as it can be read,
// with what SQL knows of its action. Times are UTC.
type DeadLetter struct {
	SequenceNumber  int64   `json:"sequence_number"`
	ActionID        string  `json:"action_id"` // canonical lower-case UUID; "" like the next ones where it cannot be read
	ActionType      string  `json:"action_type"`
	ProviderID      string  `json:"provider_id"`
	SettingID       *string `json:"setting_id"` // nil: the provider's default
	AccessionNumber string  `json:"accession_number"`

	Reason      string `json:"reason"`      // of the dead letter, cut; "DeadLettered" where it gives none
	Description string `json:"description"` // likewise; "" where there is none

	// Gateway is the hybrid connection ("namespace/path", lower case) at which
	// the action was tried last, else Route. Route is where its provider and
	// setting lead now; "": nowhere.
	Gateway string `json:"relay"`
	Route   string `json:"route"`
	Phase   string `json:"phase"` // of the action's latest failure; "": none is known

	EnqueuedAt     time.Time `json:"enqueued_at,omitzero"`      // of the action's first message
	DeadLetteredAt time.Time `json:"dead_lettered_at,omitzero"` // when the action failed by SQL, else EnqueuedAt

	Replays    int    `json:"replays"`    // how often it was replayed before it came here again
	Fault      string `json:"fault"`      // why it is no valid action; names fields, never values; "": it is
	Unreadable bool   `json:"unreadable"` // the SDK cannot read it: nothing but its sequence number is known
	Bytes      int    `json:"bytes"`      // of the body

	Action *store.Action `json:"action"` // its row; nil: there is none, or it is another provider's

	Body       []byte         `json:"-"` // holds a participant's details
	Properties map[string]any `json:"-"` // application properties; those of the producer may be anything
}

// ErrStop, returned by the function that Each calls, ends it without an error.
var ErrStop = errors.New("stop")

// Each calls visit with every dead letter that f selects, in the order of the
// queue, oldest first. It locks nothing. Its memory does not grow with the
// queue: it holds one page of at most 250, for which it asks SQL once. It ends
// with the queue, with ctx, or with the first error of visit.
func (d *DeadLetters) Each(ctx context.Context, f DeadLetterFilter, visit func(DeadLetter) error) error {
	err := d.scan(ctx, func(l *letter) error {
		if !f.Selects(l.DeadLetter) {
			return nil
		}
		return visit(l.DeadLetter)
	})
	if errors.Is(err, ErrStop) {
		return nil
	}
	return err
}

// scan is Each for all of them, as they are at hand.
func (d *DeadLetters) scan(ctx context.Context, visit func(*letter) error) error {
	if err := d.check(); err != nil {
		return err
	}
	relays, err := d.relays(ctx)
	if err != nil {
		return err
	}
	letters, err := openPeeker(d.waits(), d.Connect, d.Queue)
	if err != nil {
		return d.failed(err)
	}
	defer letters.close()
	var stopped error // visit's own error is not of the queue
	read := func(page []*azservicebus.ReceivedMessage) error {
		read, err := d.read(ctx, page, relays)
		if err != nil {
			return err
		}
		for i := range read {
			if stopped = visit(&read[i]); stopped != nil {
				return stopped
			}
		}
		return nil
	}
	unreadable := func(sequence int64) error {
		stopped = visit(&letter{DeadLetter: DeadLetter{SequenceNumber: sequence, Unreadable: true}})
		return stopped
	}
	err = letters.each(ctx, read, unreadable)
	if err == nil || stopped != nil {
		return stopped
	}
	return d.failed(err)
}

func (d *DeadLetters) check() error {
	if d.Connect == nil || d.Queue == "" || d.Store == nil {
		return errors.New("dead letters: Connect, Queue and Store are required")
	}
	return nil
}

func (d *DeadLetters) failed(err error) error {
	return fmt.Errorf("dead letters of queue %s: %w", d.Queue, err)
}

func (d *DeadLetters) now() time.Time {
	if d.Now == nil {
		return time.Now().UTC()
	}
	return d.Now().UTC()
}

// letter is a dead letter at hand.
type letter struct {
	DeadLetter
	in      incoming
	message *azservicebus.ReceivedMessage // nil where it is unreadable
	foreign bool                          // its action id is another provider's
}

// read makes letters of a page of messages, with one look into SQL for all.
func (d *DeadLetters) read(ctx context.Context, page []*azservicebus.ReceivedMessage, relays relaysByRoute) ([]letter, error) {
	letters := make([]letter, len(page))
	var ids []string
	for i, m := range page {
		letters[i] = readLetter(m)
		if id := letters[i].ActionID; id != "" {
			ids = append(ids, id)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, d.waits().StoreLimit)
	defer cancel()
	rows, err := d.Store.ActionsByID(ctx, ids)
	if err != nil {
		return nil, err
	}
	for i := range letters {
		letters[i].complete(rows, relays)
	}
	return letters, nil
}

func readLetter(m *azservicebus.ReceivedMessage) letter {
	in, err := decodeAny(m)
	l := letter{in: in, message: m, DeadLetter: DeadLetter{
		SequenceNumber: value(m.SequenceNumber), ActionID: in.actionID, ActionType: in.actionType,
		ProviderID: in.providerID, SettingID: in.settingID, AccessionNumber: in.accession,
		Reason: reasonOf(m), Description: descriptionOf(m), EnqueuedAt: in.enqueued, DeadLetteredAt: in.enqueued,
		Replays: int(longProperty(m, propertyReplays, 0)),
		Bytes:   len(m.Body), Body: m.Body, Properties: m.ApplicationProperties,
	}}
	if err != nil {
		l.Fault = err.Error()
	}
	return l
}

// complete adds what SQL knows.
func (l *letter) complete(rows map[string]store.Action, relays relaysByRoute) {
	if l.ProviderID != "" {
		l.Route = relays[routeKey{l.ProviderID, value(l.SettingID)}]
	}
	l.Gateway = l.Route
	row, ok := rows[l.ActionID]
	if !ok {
		return
	}
	if l.foreign = row.ProviderID != "" && row.ProviderID != l.ProviderID; l.foreign {
		return
	}
	l.Action, l.Phase = &row, value(row.LastPhase)
	l.Gateway = cmp.Or(strings.ToLower(value(row.Relay)), l.Gateway)
	if row.FailedAt != nil {
		l.DeadLetteredAt = *row.FailedAt
	}
}

// relaysByRoute are the hybrid connections ("namespace/path", lower case) of all relays.
type relaysByRoute map[routeKey]string

func (d *DeadLetters) relays(ctx context.Context) (relaysByRoute, error) {
	ctx, cancel := context.WithTimeout(ctx, d.waits().StoreLimit)
	defer cancel()
	rows, err := d.Store.Relays(ctx, "")
	if err != nil {
		return nil, err
	}
	relays := make(relaysByRoute, len(rows))
	for _, row := range rows {
		r := route{hybridConnection: relay.HybridConnection{Namespace: row.Namespace, Path: row.HybridConnection}}
		relays[routeKey{row.ProviderID, value(row.SettingID)}] = r.name()
	}
	return relays, nil
}

const (
	withoutReason = "DeadLettered" // stands in for the reason of a dead letter that has none
	maxReason     = 128            // bytes of a reason that somebody else gave
)

func reasonOf(m *azservicebus.ReceivedMessage) string {
	return cutTo(cmp.Or(value(m.DeadLetterReason), withoutReason), maxReason)
}

func descriptionOf(m *azservicebus.ReceivedMessage) string {
	return cutTo(value(m.DeadLetterErrorDescription), maxDescription)
}

// decodeAny is decode for a message that may be of any making: what makes it
// panic ends nothing else. An invalid one still says which action it was for.
func decodeAny(m *azservicebus.ReceivedMessage) (in incoming, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("decoding panicked with a %T", p)
		}
	}()
	return decode(m)
}

func isInvalid(err error) bool {
	_, invalid := errors.AsType[*InvalidError](err)
	return invalid
}
