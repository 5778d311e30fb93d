package consumer

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

// peekPage is how many dead letters are held at once, as many as the broker sends;
// with large bodies it sends fewer.
const peekPage = 250

// peeker looks through a dead-letter queue without locking anything.
type peeker struct {
	waits    *waits
	client   *azservicebus.Client
	receiver *azservicebus.Receiver
}

// openPeeker opens the dead-letter queue of a queue on a client of its own.
// Close it after.
func openPeeker(w *waits, connect func() (*azservicebus.Client, error), queue string) (*peeker, error) {
	client, err := connect()
	if err != nil {
		return nil, err
	}
	receiver, err := deadLetterReceiver(client, queue)
	if err != nil {
		w.close(client.Close)
		return nil, err
	}
	return &peeker{w, client, receiver}, nil
}

func deadLetterReceiver(client *azservicebus.Client, queue string) (*azservicebus.Receiver, error) {
	return client.NewReceiverForQueue(queue, &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter})
}

func (p *peeker) close() { p.waits.close(p.client.Close) }

// each calls read with page after page of dead letters in the order of the
// queue, and unreadable with the sequence number of each that the SDK cannot
// read, in its place. It ends with the queue, with ctx, or with the first error
// of either.
//
// Of unreadable ones side by side only the last is told. Where two stand in a
// wide gap between sequence numbers, those between them may go unread: once the
// one that is told has been removed, the rest comes to light.
func (p *peeker) each(ctx context.Context, read func([]*azservicebus.ReceivedMessage) error, unreadable func(int64) error) error {
	from, most := int64(1), peekPage
	for {
		page, ok, err := p.peek(ctx, from, most)
		switch {
		case err != nil:
			return err
		case !ok && most > 1:
			most /= 2 // until what stands before the unreadable one is read
			continue
		case !ok:
			at, err := p.unreadableFrom(ctx, from)
			if err == nil {
				err = unreadable(at)
			}
			if err != nil || at == math.MaxInt64 {
				return err
			}
			from, most = at+1, peekPage
			continue
		case len(page) == 0:
			return nil
		}
		if err := read(page); err != nil {
			return err
		}
		last := page[len(page)-1].SequenceNumber
		if last == nil || *last < from {
			return errors.New("the broker sent dead letters without an order")
		}
		from, most = *last+1, min(2*most, peekPage)
	}
}

// unreadableFrom finds the sequence number of the unreadable dead letter that
// is the first at or after from. Peeking panics from anywhere up to it and not
// behind it, which is all that can be known.
func (p *peeker) unreadableFrom(ctx context.Context, from int64) (int64, error) {
	panics, reads := from, int64(math.MaxInt64) // it is at or after panics, and before reads
	for step := int64(1); step > 0 && step < math.MaxInt64-from; step = wider(step) {
		_, ok, err := p.peek(ctx, from+step, 1)
		if err != nil {
			return 0, err
		}
		if ok {
			reads = from + step
			break
		}
		panics = from + step
	}
	for reads-panics > 1 {
		middle := panics + (reads-panics)/2
		_, ok, err := p.peek(ctx, middle, 1)
		switch {
		case err != nil:
			return 0, err
		case ok:
			reads = middle
		default:
			panics = middle
		}
	}
	return panics, nil
}

// wider goes number by number at first, where nothing is missed, and leaps
// from there: a partitioned queue's numbers are 2^48 apart.
func wider(step int64) int64 {
	if step < 32 {
		return step + 1
	}
	return 2 * step
}

// peek reads at most n dead letters from a sequence number on. ok is false
// when one of them cannot be read: the SDK panics on a reason or a description
// that is not a string.
func (p *peeker) peek(ctx context.Context, from int64, n int) (page []*azservicebus.ReceivedMessage, ok bool, err error) {
	defer func() {
		if recover() != nil {
			page, ok, err = nil, false, nil
		}
	}()
	asking, cancel := context.WithTimeout(ctx, p.waits.PeekDeadline)
	defer cancel()
	page, err = p.receiver.PeekMessages(asking, n, &azservicebus.PeekMessagesOptions{FromSequenceNumber: &from})
	if err != nil && asking.Err() != nil && ctx.Err() == nil {
		err = fmt.Errorf("the broker did not answer within %s", p.waits.PeekDeadline)
	}
	return page, true, err
}
