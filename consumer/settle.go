package consumer

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/store"
)

// maxDescription is in bytes; far longer ones break the settlement of a dead letter.
const maxDescription = 1024

// settler is what a message is settled through: the receiver it came on.
type settler interface {
	CompleteMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.CompleteMessageOptions) error
	AbandonMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.AbandonMessageOptions) error
	DeadLetterMessage(context.Context, *azservicebus.ReceivedMessage, *azservicebus.DeadLetterOptions) error
}

// settle does what was decided and recorded. It runs whatever became of the
// caller's context: the outcome is in SQL, and a message that is not settled
// now is delivered again, when SQL answers for it. The producer is told first.
func (d *delivery) settle(o outcome) {
	ctx, done := context.Background(), d.step("settle")
	if err := d.tell(o); err != nil {
		done(err)
		d.leave(ctx, fmt.Errorf("owe outcome: %w", err))
		return
	}
	err := d.settleAs(ctx, o)
	done(err)
	attributes := []any{
		"status", o.status, "settlement", o.settlement, "reason", o.reason, "phase", o.phase, "code", o.code,
		"gateway", d.gateway, "attempt", d.ref.Attempt, "detail", o.detail, "took_ms", d.consumer.now().Sub(d.began).Milliseconds(),
	}
	if err != nil {
		d.unsettled = true
		d.log.Info("settled by a later delivery", append(attributes, "error", err)...)
		return
	}
	d.consumer.heard.now()
	d.settled = &o
	d.log.Info("settled", attributes...)
}

func (d *delivery) settleAs(ctx context.Context, o outcome) error {
	switch o.settlement {
	case store.Complete:
		return d.complete(ctx)
	case store.Retry, store.Postpone:
		return d.again(ctx, o)
	case store.DeadLetter:
		return d.deadLetter(ctx, o.reason, o.detail)
	default:
		return fmt.Errorf("no settlement %q", o.settlement)
	}
}

func (d *delivery) complete(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, d.consumer.waits().SettleDeadline)
	defer cancel()
	return d.from.CompleteMessage(ctx, d.message, nil)
}

// again sends the copy that stands in for this message, and completes the
// message after. A crash between the two leaves both, which the fence in SQL
// tells apart; the other order could leave none.
func (d *delivery) again(ctx context.Context, o outcome) error {
	sending, cancel := context.WithTimeout(ctx, d.consumer.waits().SendDeadline)
	defer cancel()
	if err := d.consumer.sender.send(sending, d.consumer, d.consumer.Queue, copyOf(d.message, d.in, o)); err != nil {
		return fmt.Errorf("send copy: %w", err)
	}
	return d.complete(ctx)
}

func (d *delivery) deadLetter(ctx context.Context, reason Reason, description string) error {
	ctx, cancel := context.WithTimeout(ctx, d.consumer.waits().SettleDeadline)
	defer cancel()
	text, cut := string(reason), cutTo(description, maxDescription)
	return d.from.DeadLetterMessage(ctx, d.message, &azservicebus.DeadLetterOptions{Reason: &text, ErrorDescription: &cut})
}

// handBack gives a message back that was not begun, or certainly not sent, when
// the service stops. One of a session goes back when the session is closed, and
// no delivery is counted.
func (d *delivery) handBack() {
	if d.session == nil {
		d.abandon()
	}
}

// abandon gives the message back at once and counts a delivery. Only where
// nothing was sent and the next delivery is not expected to fail alike: ten
// deliveries pass in a moment.
func (d *delivery) abandon() {
	ctx, cancel := context.WithTimeout(context.Background(), d.consumer.waits().SettleDeadline)
	defer cancel()
	if err := d.from.AbandonMessage(ctx, d.message, nil); err != nil {
		d.log.Info("not abandoned, its lock will run out", "error", err)
	}
}

// cutTo shortens s to at most n bytes on a rune boundary.
func cutTo(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// sender sends to one queue on a client of its own, opened when first needed and
// again after the SDK gave one up.
type sender struct {
	mu     sync.Mutex // guards client and link
	client *azservicebus.Client
	link   *azservicebus.Sender
}

func (s *sender) send(ctx context.Context, c *Consumer, queue string, m *azservicebus.Message) error {
	link, err := s.open(c, queue)
	if err != nil {
		return err
	}
	began, operation := time.Now(), "send"
	if m.ScheduledEnqueueTime != nil {
		operation = "schedule"
	}
	err = link.SendMessage(ctx, m, nil)
	c.telemetry.operation(operation, queue, began, err)
	if ended(err) {
		s.drop(c, link)
	}
	return err
}

// ended reports whether the SDK gives up the client after err: it mends a lost
// connection by itself, but not these.
func ended(err error) bool {
	var failure *azservicebus.Error
	if !errors.As(err, &failure) {
		return false
	}
	switch failure.Code {
	case azservicebus.CodeClosed, azservicebus.CodeUnauthorizedAccess, azservicebus.CodeNotFound:
		return true
	}
	return false
}

func (s *sender) open(c *Consumer, queue string) (*azservicebus.Sender, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link != nil {
		return s.link, nil
	}
	client, err := c.Connect()
	if err != nil {
		return nil, err
	}
	link, err := client.NewSender(queue, nil)
	if err != nil {
		c.waits().close(client.Close)
		return nil, err
	}
	s.client, s.link = client, link
	return link, nil
}

// drop gives up the link that failed, unless another caller replaced it already.
func (s *sender) drop(c *Consumer, failed *azservicebus.Sender) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.link == failed {
		c.waits().close(s.client.Close)
		s.client, s.link = nil, nil
	}
}

func (s *sender) close(c *Consumer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.client != nil {
		c.waits().close(s.client.Close)
		s.client, s.link = nil, nil
	}
}
