package servicebustest

import (
	"slices"
	"time"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// writeTimeout bounds one write to a peer that does not read.
const writeTimeout = 30 * time.Second

// chunk is a stretch of frames that is to be written at a time or later.
type chunk struct {
	bytes []byte
	at    time.Time
}

// write sends what is in c.out, all of it at once, and delivers messages to links that are due, until the connection ends.
func (c *conn) write() {
	defer c.stopWriting()
	timer := time.NewTimer(0)
	defer timer.Stop()
	var held []chunk // to be written, in order; more than one only under Server.Delay
	var spare []byte
	last := c.server.clock.now()
	for {
		now := c.server.clock.now()
		bytes, wait, ending := c.collect(spare, now, last)
		spare = bytes // what was spare is c.out now
		if len(bytes) > 0 {
			held, last = append(held, chunk{bytes: bytes, at: c.answerAt(now)}), now
			spare = nil // until it is flushed
		}
		switch {
		case len(held) > 0 && !held[0].at.After(now):
			if !c.flush(held[0].bytes) {
				return
			}
			spare = held[0].bytes
			held = slices.Delete(held, 0, 1)
			continue // more may have come meanwhile
		case len(held) > 0:
			wait = min(wait, held[0].at.Sub(now))
		case ending:
			return
		}
		timer.Reset(wait)
		select {
		case <-c.kick:
		case <-timer.C:
		case <-c.server.stop:
			return // what is held is for nobody any more
		}
	}
}

// collect takes what is to be written, with the messages of the links that are due, or a heartbeat if it is time for one.
// It returns when to look again at the latest.
func (c *conn) collect(spare []byte, now, last time.Time) (bytes []byte, wait time.Duration, ending bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wait = time.Hour
	if pause := c.server.faults.throttled.left(now); pause > 0 {
		wait = pause // the links that are due wait for its end
	}
	if !c.ending {
		c.pump(now)
	}
	if c.peerIdle > 0 {
		beat := last.Add(c.peerIdle)
		if len(c.out) == 0 && !beat.After(now) {
			c.out = amqp.AppendHeartbeat(c.out)
		}
		wait = min(wait, max(beat.Sub(now), 0))
	}
	bytes, c.out = c.out, spare[:0]
	c.written.Broadcast()
	return bytes, wait, c.ending
}

// pump delivers messages to the links that are due for some. Links of queues stay due while the server throttles.
func (c *conn) pump(now time.Time) {
	throttled := c.server.faults.throttled.is(now)
	for _, l := range c.takeDue() {
		if throttled && l.serves() {
			c.stayDue(l)
			continue
		}
		l.pump(now)
	}
}

// answerAt tells when bytes that are ready now may leave.
func (c *conn) answerAt(now time.Time) time.Time {
	if !c.server.faults.delayed.is(now) {
		return now
	}
	return now.Add(time.Duration(c.server.faults.delay.Load()))
}

func (c *conn) flush(bytes []byte) bool {
	if err := c.net.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return false
	}
	_, err := c.net.Write(bytes)
	return err == nil
}

// stopWriting cuts the connection, and has a reader that waits for out to shrink go on.
func (c *conn) stopWriting() {
	c.net.Close()
	c.mu.Lock()
	c.ending = true
	c.written.Broadcast()
	c.mu.Unlock()
}
