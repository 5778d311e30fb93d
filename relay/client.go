// Package relay sends one action to one gateway over an Azure Relay hybrid connection and reads its ack.
//
// The conversation, all of it over one websocket to the relay, which passes frames on untouched:
//
//	sender                            relay                              gateway
//	  | GET /$hc/{path}?sb-hc-action=connect&sb-hc-id={guid}                |
//	  | ServiceBusAuthorization: {token}                                    |
//	  |-------------------------------->|  {"accept":{"address":...}}       |
//	  |                                 |---------------------------------->|
//	  |                                 |                GET {address}      |
//	  |     101 Switching Protocols     |<----------------------------------|
//	  |<--------------------------------|---------------------------------->|   a dial that succeeds proves a listener
//	  | {"action_type":...,"parameters":...}                                |
//	  |-------------------------------------------------------------------->|   one frame, one action
//	  |                            {"status":"created","action_id":...}     |
//	  |<--------------------------------------------------------------------|   one frame, its ack
//	  |                            Close 1000 (most gateways), or nothing   |
//	  |<--------------------------------------------------------------------|
//	  | Close 1000, at once: a gateway that is not answered stalls for 10 s |
//	  |-------------------------------------------------------------------->|
//
// Most acks do not say which action they answer, so they are matched by connection: one exchange at a time per hybrid connection, and a
// connection on which an answer is owed is never used again. A gateway that leaves the connection open gets its next action over the
// same one; one that closes it is dialled anew. Which kind it is shows in a short watch after the first ack of each connection.
//
// Dials go straight to the relay: no proxy is used, whatever the environment says.
package relay

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gorilla/websocket"
)

// A Client holds at most one connection to each hybrid connection. The zero Client is ready; its fields must not change after the first
// use. It is safe for concurrent use, and must be closed.
type Client struct {
	// ConnectTimeout bounds name resolution and TCP together; 0 means 10 s.
	ConnectTimeout time.Duration
	// TLSTimeout bounds the TLS handshake; 0 means 10 s.
	TLSTimeout time.Duration
	// HandshakeTimeout bounds the upgrade, which the relay answers only when the gateway took the call; 0 means 40 s, since the
	// relay itself gives up after 30 s.
	HandshakeTimeout time.Duration
	// AckTimeout bounds the wait for an ack; 0 means 35 s, since a gateway may wait 30 s for its own database. Writing the action may
	// take as long, but never more than 10 s.
	AckTimeout time.Duration
	// IdleTimeout is how long a connection is kept unused; 0 means 5 s, less than 0 that none is kept. While it is open a gateway
	// may be unable to serve anybody else.
	IdleTimeout time.Duration
	// WatchTime is how long after its first ack a new connection is watched before it is written to again, so that a Close on
	// its way is seen first; 0 means 250 ms, less than 0 not at all.
	WatchTime time.Duration
	// AllowHosts names hosts besides those below servicebus.windows.net that may be dialled: an exact host, or "*.suffix". Ports
	// do not count.
	AllowHosts []string
	// PlainHosts names loopback hosts, with or without a port, that are dialled without TLS. It allows them too.
	PlainHosts []string
	// RootCAs are whom the relay's certificate must come from; nil means the system's.
	RootCAs *x509.CertPool

	pace
	once     sync.Once
	sessions tls.ClientSessionCache
	buffers  sync.Pool // of gorilla/websocket, for frames being written
	closing  context.Context
	stop     context.CancelFunc

	mu      sync.Mutex // guards what follows
	closed  bool
	lines   map[string]*line
	sockets sync.WaitGroup // Add happens only while closed is false
}

// line is what is kept of one hybrid connection. Without a socket it has neither goroutine nor timer.
type line struct {
	turn  chan struct{} // holds one element while nobody uses the line; waiters are served in order
	token Token         // with its source, belongs to whoever holds the turn
	from  TokenSource
	sock  atomic.Pointer[socket] // nil once it is gone
}

// Connect returns the connection to hc: it waits until no other exchange holds it, in order of arrival, then takes the open one if that is
// alive, or dials. A connection that was dialled with another source of tokens is not taken. No tokens (nil) means that none is sent.
//
// The error is always an [*Error] with Sent == SentNo. If ctx ended it wraps ctx's error, and Phase says where; empty while waiting.
// A token that the relay refuses is dropped, and the dial repeated once with a fresh one.
func (c *Client) Connect(ctx context.Context, hc HybridConnection, tokens TokenSource) (*Conn, error) {
	if err := c.Allowed(hc.Namespace); err != nil {
		return nil, &Error{Phase: PhaseEndpoint, Sent: SentNo, HybridConnection: hc, Detail: err.Error(), Err: err}
	}
	if err := hc.checkPath(); err != nil {
		return nil, &Error{Phase: PhaseEndpoint, Sent: SentNo, HybridConnection: hc, Detail: err.Error()}
	}
	ctx, done := c.bound(ctx)
	defer done()
	conn := &Conn{client: c, hc: hc, tokens: tokens, line: c.line(hc)}
	if err := conn.line.take(ctx); err != nil {
		return nil, failed(ctx, hc, "", "", err)
	}
	if conn.sock = conn.line.ready(ctx, tokens); conn.sock != nil {
		conn.timings.Reused = true
		if ctx.Err() == nil {
			return conn, nil
		}
		conn.Release()
		return nil, failed(ctx, hc, "", "", nil)
	}
	if err := conn.dial(ctx); err != nil {
		conn.line.give()
		return nil, err
	}
	return conn, nil
}

// bound makes ctx end with the client too.
func (c *Client) bound(ctx context.Context) (context.Context, func()) {
	c.init()
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.closing, func() { cancel(ErrClosed) })
	if c.closing.Err() != nil {
		cancel(ErrClosed)
	}
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// reason is why a bound context ended; nil if it has not. A network deadline taken from it may pass a moment before it ends by itself.
func reason(ctx context.Context) error {
	if context.Cause(ctx) == ErrClosed {
		return ErrClosed
	}
	if deadline, ok := ctx.Deadline(); ok && ctx.Err() == nil && !time.Now().Before(deadline) {
		return context.DeadlineExceeded
	}
	return ctx.Err()
}

func (c *Client) init() {
	c.once.Do(func() {
		c.sessions = tls.NewLRUClientSessionCache(0)
		c.closing, c.stop = context.WithCancel(context.Background())
		c.lines = make(map[string]*line)
	})
}

func (c *Client) line(hc HybridConnection) *line {
	c.mu.Lock()
	defer c.mu.Unlock()
	name := hc.String()
	l := c.lines[name]
	if l == nil {
		l = &line{turn: make(chan struct{}, 1)}
		l.give()
		c.lines[name] = l
	}
	return l
}

// take waits for the turn. A channel hands its elements to receivers in the order in which they came.
func (l *line) take(ctx context.Context) error {
	select {
	case <-l.turn:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *line) give() { l.turn <- struct{}{} }

// ready takes the line's socket if it is one of this source's and still open after the rest of its watch; nil if there is none. A socket
// that cannot be taken is gone when ready returns, so that a gateway never sees two of them. The caller has the turn.
func (l *line) ready(ctx context.Context, tokens TokenSource) *socket {
	s := l.sock.Load()
	if s == nil {
		return nil
	}
	if s.tokens != tokens {
		s.shut(websocket.CloseNormalClosure, errSpent)
	}
	if s.hold() && s.watch(ctx) {
		return s
	}
	<-s.gone
	return nil
}

// CloseIdle closes the connection to hc if it is open and unused, and returns when it is closed, which takes a second at most.
func (c *Client) CloseIdle(hc HybridConnection) {
	c.init()
	l := c.line(hc)
	select {
	case <-l.turn:
	default:
		return
	}
	defer l.give()
	if s := l.sock.Load(); s != nil {
		s.shut(websocket.CloseNormalClosure, errIdle)
		<-s.gone
	}
}

// Close ends what is under way, closes every connection with a Close frame, and returns when all are closed, which takes a few seconds at
// most. Exchanges that wait for an ack end with an [*Error] that wraps [ErrClosed]. The error is always nil.
func (c *Client) Close() error {
	c.init()
	c.stop()
	c.mu.Lock()
	c.closed = true
	var shutting sync.WaitGroup
	for _, l := range c.lines {
		if s := l.sock.Load(); s != nil {
			shutting.Go(func() { s.shut(websocket.CloseGoingAway, ErrClosed) })
		}
	}
	c.mu.Unlock()
	shutting.Wait()
	c.sockets.Wait()
	return nil
}
