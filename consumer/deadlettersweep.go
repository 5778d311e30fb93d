package consumer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
)

const (
	sweepPage = 32   // dead letters in hand at once
	mostHeld  = 2000 // messages held on one link; past 5000 the service delivers no more on it
)

// sweep settles certain messages of the dead-letter queue. None can be received
// by its sequence number: the sweep receives what stands before it, and holds
// that until the end, when it gives it back.
type sweep struct {
	dead   *DeadLetters
	relays relaysByRoute
	wanted map[int64]bool // sequence numbers; those that were settled are taken off

	// settle does what is to be done with a letter before it is completed. false
	// leaves it in the queue, an error ends the sweep. It is not cut short.
	settle func(*letter) (complete bool, err error)

	// unsettled is told of a letter whose completion failed, or may have. It is
	// settled again where it is met again.
	unsettled func(*letter)

	careful  bool          // receive one at a time: what comes in one call with an unreadable one is lost until its lock runs out
	interval time.Duration // between two letters, at least; 0: none

	next time.Time // when the next letter may be settled
	page int       // letters in hand at once: they are settled before their locks run out
}

// pass is one way through the queue, on a connection of its own.
type pass struct {
	*sweep
	client *azservicebus.Client
	links  []*deadLink // the last one receives
	most   int         // to be asked for next
}

// run passes through the queue until every wanted letter was met, or a pass met
// none: others have the rest locked, or it is gone. What is still wanted then
// was not reached.
func (s *sweep) run(ctx context.Context) error {
	s.page = sweepPage
	if s.interval > time.Second/sweepPage {
		s.page = max(1, int(time.Second/s.interval))
	}
	failures := 0 // in a row
	for len(s.wanted) > 0 && ctx.Err() == nil {
		met, completed, err := s.pass(ctx)
		if err == errLate {
			err = nil
		}
		if failures++; completed {
			failures = 0
		}
		switch {
		case errors.Is(err, errNotCompleted) && failures < 2:
			continue // on a new connection
		case err != nil && ctx.Err() == nil:
			return err
		case met == 0:
			return nil
		}
	}
	return nil
}

var (
	// errNotCompleted ends a pass whose connection does not settle messages.
	errNotCompleted = errors.New("a dead letter was not completed")

	// errLate ends a pass that was too slow for its locks: in the next one, what
	// it did not come to is the first again.
	errLate = errors.New("locks ran out before their messages were dealt with")
)

// pass returns how many letters it met, and whether it completed any.
func (s *sweep) pass(ctx context.Context) (met int, completed bool, err error) {
	p, err := s.open(ctx)
	if err != nil {
		return 0, false, err
	}
	defer p.close()
	for len(s.wanted) > 0 && ctx.Err() == nil {
		pause(ctx, time.Until(s.next)) // not with a lock that runs down
		messages, err := p.receive(ctx)
		if err != nil || len(messages) == 0 {
			return met, completed, err
		}
		before := len(s.wanted)
		n, err := p.handle(ctx, messages)
		met, completed = met+before-len(s.wanted), completed || n > 0
		if err != nil {
			return met, completed, err
		}
	}
	return met, completed, nil
}

func (s *sweep) open(ctx context.Context) (*pass, error) {
	client, err := s.dead.Connect()
	if err != nil {
		return nil, s.dead.failed(err)
	}
	p := &pass{sweep: s, client: client, most: s.page}
	if err := p.attach(ctx); err != nil {
		s.dead.waits().close(client.Close)
		return nil, s.dead.failed(err)
	}
	return p, nil
}

// attach opens one more link, and waits for it: only then does silence mean
// that nothing is there.
func (p *pass) attach(ctx context.Context) error {
	receiver, err := deadLetterReceiver(p.client, p.dead.Queue)
	if err != nil {
		return err
	}
	p.links = append(p.links, &deadLink{waits: p.dead.waits(), receiver: receiver})
	_, _, err = (&peeker{p.dead.waits(), p.client, receiver}).peek(ctx, 1, 1)
	return err
}

// receive returns the next messages; none where nothing comes any more.
func (p *pass) receive(ctx context.Context) ([]*azservicebus.ReceivedMessage, error) {
	link := p.links[len(p.links)-1]
	if len(link.held) >= mostHeld {
		if ranOut(p.links[0].held[0]) {
			return nil, errLate // what is held comes again and again
		}
		if err := p.attach(ctx); err != nil {
			return nil, p.dead.failed(err)
		}
		link = p.links[len(p.links)-1]
	}
	for {
		if p.careful {
			p.most = 1
		}
		messages, readable, err := link.receive(ctx, p.most, p.dead.waits().SweepQuiet)
		switch {
		case err != nil:
			return nil, p.dead.failed(err)
		case readable:
			return messages, nil
		}
		p.careful = true // it stays locked, so it does not come again for now
	}
}

// handle settles those of the messages that are wanted, in their order, and
// holds the others. It returns how many it completed.
func (p *pass) handle(ctx context.Context, messages []*azservicebus.ReceivedMessage) (completed int, err error) {
	link := p.links[len(p.links)-1]
	if tooLate(messageLock{link.receiver, messages[0]}) {
		return 0, p.dead.failed(errors.New("a lock ran out before work began: is this machine's clock right?"))
	}
	var mine []*azservicebus.ReceivedMessage
	for _, m := range messages {
		if p.wanted[value(m.SequenceNumber)] {
			mine = append(mine, m)
		} else {
			link.hold(m)
		}
	}
	if len(mine) == 0 {
		p.most = min(2*p.most, peekPage)
		return 0, nil
	}
	p.most = p.page
	letters, err := p.dead.read(ctx, mine, p.relays)
	for i, m := range mine {
		if err == nil && !p.inTime(ctx, link, m) {
			err = errLate
		}
		if err != nil {
			link.hold(m)
			continue
		}
		var done bool
		if done, err = p.see(link, &letters[i]); done {
			completed++
		}
	}
	return completed, err
}

// inTime waits for the letter's turn, and reports whether it may begin.
func (p *pass) inTime(ctx context.Context, link *deadLink, m *azservicebus.ReceivedMessage) bool {
	pause(ctx, time.Until(p.sweep.next))
	p.sweep.next = time.Now().Add(p.interval)
	if ctx.Err() != nil {
		return false
	}
	late := tooLate(messageLock{link.receiver, m})
	if late {
		p.page = max(1, p.page/2)
	}
	return !late
}

// see settles one letter that is wanted, and reports whether it was completed.
func (p *pass) see(link *deadLink, l *letter) (completed bool, err error) {
	complete, err := p.settle(l)
	if err != nil {
		link.hold(l.message)
		return false, err
	}
	delete(p.wanted, l.SequenceNumber)
	if !complete {
		link.hold(l.message)
		return false, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), p.dead.waits().SettleDeadline)
	defer cancel()
	if err := link.receiver.CompleteMessage(ctx, l.message, nil); err != nil {
		p.wanted[l.SequenceNumber] = true
		p.unsettled(l)
		return false, fmt.Errorf("%w: %w", errNotCompleted, err)
	}
	return true, nil
}

// close gives back what is held and closes the connection.
func (p *pass) close() {
	for _, link := range p.links {
		link.abandon(link.held)
		link.drain()
	}
	p.dead.waits().close(p.client.Close)
}
