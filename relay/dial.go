package relay

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
)

// writeBuffer is the largest action that is one websocket frame; a larger one is a message of several, RFC 6455 section 5.4.
const writeBuffer = 32 << 10

// dial gives c a new socket. A token that is refused is dropped, and a fresh one tried once: the relay may judge expiry by another clock.
func (c *Conn) dial(ctx context.Context) *Error {
	err := c.dialOnce(ctx)
	if refusedToken(err) && c.tokens != nil {
		c.line.token = Token{}
		err = c.dialOnce(ctx)
	}
	if refusedToken(err) {
		c.line.token = Token{}
	}
	if err != nil {
		err.Timings = c.timings
	}
	return err
}

func refusedToken(err *Error) bool { return err != nil && err.Phase == PhaseAuth && err.Code != 0 }

// dialOnce goes through the phases of one dial.
func (c *Conn) dialOnce(ctx context.Context) *Error {
	c.timings = Timings{}
	if err := c.line.refresh(ctx, c.hc, c.tokens); err != nil {
		return err
	}
	conn, err := c.client.connect(ctx, c.hc, &c.timings)
	if err != nil {
		return err
	}
	if !c.client.Plain(c.hc.Namespace) {
		if conn, err = c.client.secure(ctx, c.hc, conn, &c.timings); err != nil {
			return err
		}
	}
	ws, err := c.client.upgrade(ctx, c.hc, conn, c.line.token.text(), &c.timings)
	if err != nil {
		return err
	}
	s := c.client.serve(c.line, ws, c.tokens)
	if s == nil {
		return failed(ctx, c.hc, PhaseHandshake, ErrClosed.Error(), ErrClosed)
	}
	c.sock = s
	return nil
}

// refresh makes sure that the line has a token of this source with some life left.
func (l *line) refresh(ctx context.Context, hc HybridConnection, tokens TokenSource) *Error {
	if l.from != tokens {
		l.token, l.from = Token{}, tokens
	}
	if tokens == nil || l.token.text() != "" && time.Until(l.token.Expires) > tokenMargin {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, tokenTimeout)
	defer cancel()
	token, err := tokens.Token(limited, hc.Audience())
	if err != nil {
		l.token = Token{}
		return failed(ctx, hc, PhaseAuth, "no token: "+cutText(opaquePattern.ReplaceAllString(err.Error(), redacted)), err)
	}
	l.token = token
	return nil
}

// connect resolves the host and opens a TCP connection, racing its addresses as [net.Dialer] does.
func (c *Client) connect(ctx context.Context, hc HybridConnection, t *Timings) (net.Conn, *Error) {
	address, port := hc.Namespace, "443"
	if c.Plain(hc.Namespace) {
		port = "80"
	}
	if _, _, err := net.SplitHostPort(address); err != nil {
		host, _ := hostOf(address)
		address = net.JoinHostPort(host, port)
	}
	begun := time.Now()
	limited, cancel := context.WithTimeout(ctx, or(c.ConnectTimeout, 10*time.Second))
	defer cancel()
	resolved := begun
	var dialled atomic.Bool // addresses are raced, so traced from several goroutines
	limited = httptrace.WithClientTrace(limited, &httptrace.ClientTrace{
		DNSDone:      func(httptrace.DNSDoneInfo) { resolved = time.Now() },
		ConnectStart: func(string, string) { dialled.Store(true) },
	})
	var dialer net.Dialer
	if c.Plain(hc.Namespace) {
		dialer.Control = onlyLoopback
	}
	conn, err := dialer.DialContext(limited, "tcp", address)
	if err != nil && !dialled.Load() {
		t.DNS = time.Since(begun)
		return nil, failed(ctx, hc, PhaseDNS, err.Error(), err)
	}
	t.DNS, t.Connect = resolved.Sub(begun), time.Since(resolved)
	if err != nil {
		return nil, failed(ctx, hc, PhaseConnect, err.Error(), err)
	}
	return conn, nil
}

// onlyLoopback keeps a name that is dialled without TLS from resolving to somewhere else.
func onlyLoopback(_, address string, _ syscall.RawConn) error {
	if addr, err := netip.ParseAddrPort(address); err != nil || !addr.Addr().IsLoopback() {
		return ErrHostNotAllowed
	}
	return nil
}

// secure puts TLS on conn, and closes it on failure.
func (c *Client) secure(ctx context.Context, hc HybridConnection, conn net.Conn, t *Timings) (net.Conn, *Error) {
	host, _ := hostOf(hc.Namespace)
	limit := or(c.TLSTimeout, 10*time.Second)
	begun := time.Now()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	secured := tls.Client(conn, &tls.Config{
		ServerName:         host,
		RootCAs:            c.RootCAs,
		MinVersion:         tls.VersionTLS12,
		ClientSessionCache: c.sessions,
	})
	err := secured.HandshakeContext(limited)
	t.TLS = time.Since(begun)
	if err != nil {
		_ = conn.Close()
		detail := err.Error()
		if errors.Is(err, context.DeadlineExceeded) {
			detail = fmt.Sprintf("no TLS session in %v", limit)
		}
		return nil, failed(ctx, hc, PhaseTLS, detail, err)
	}
	return secured, nil
}

// upgrade makes a websocket of conn, and closes it on failure. Redirects are answers like any other.
func (c *Client) upgrade(ctx context.Context, hc HybridConnection, conn net.Conn, token string, t *Timings) (*websocket.Conn, *Error) {
	begun := time.Now()
	limit := or(c.HandshakeTimeout, 40*time.Second)
	_ = conn.SetDeadline(begun.Add(limit))
	// gorilla/websocket does not look at a context while it reads the answer.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	given := func(context.Context, string, string) (net.Conn, error) { return conn, nil }
	dialer := websocket.Dialer{
		NetDialContext: given, NetDialTLSContext: given,
		WriteBufferSize: writeBuffer, WriteBufferPool: &c.buffers,
	}
	header := http.Header{}
	if token != "" {
		header.Set(tokenHeader, token)
	}
	ws, response, err := dialer.DialContext(context.Background(), hc.SenderURL(uuid.NewString()).String(), header)
	t.Handshake = time.Since(begun)
	if stop() && err == nil {
		return ws, nil
	}
	_ = conn.Close()
	if response != nil && ctx.Err() == nil {
		phase, detail := refusal(response.StatusCode, response.Status)
		return nil, &Error{Phase: phase, Sent: SentNo, Code: response.StatusCode, HybridConnection: hc, Detail: detail}
	}
	var detail string
	var slow net.Error
	switch {
	case errors.As(err, &slow) && slow.Timeout():
		detail = fmt.Sprintf("no answer to the upgrade in %v", limit)
	case err != nil:
		detail = "upgrade: " + cutText(opaquePattern.ReplaceAllString(err.Error(), redacted))
	}
	return nil, failed(ctx, hc, PhaseHandshake, detail, err)
}

// serve makes ws the line's socket, held by the caller; nil if the client was closed meanwhile.
func (c *Client) serve(l *line, ws *websocket.Conn, tokens TokenSource) *socket {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = ws.Close()
		return nil
	}
	ws.SetReadLimit(maxAck)
	s := newSocket(ws, c.waits(), tokens)
	l.sock.Store(s)
	c.sockets.Go(func() { s.run(func() { l.sock.CompareAndSwap(s, nil) }) })
	return s
}

// failed is the error of a step before anything was sent. A context that has ended is the reason for whatever else went wrong; a limit
// of our own, or of a source of tokens, must not look like that.
func failed(ctx context.Context, hc HybridConnection, phase Phase, detail string, err error) *Error {
	if why := reason(ctx); why != nil {
		err, detail = why, "waiting for another exchange: "+why.Error()
		if phase != "" {
			detail = string(phase) + ": " + why.Error()
		}
	} else if err == context.Canceled || err == context.DeadlineExceeded {
		err = nil
	}
	return &Error{Phase: phase, Sent: SentNo, HybridConnection: hc, Detail: cutText(detail), Err: err}
}

// or is d, or its default.
func or(d, fallback time.Duration) time.Duration {
	if d == 0 {
		return fallback
	}
	return d
}
