// Package relaytest is an Azure Relay that runs inside the process, and a
// [Gateway] that listens on it. Both speak the published wire protocol over real
// sockets, so that a sender under test cannot tell them from the service, and
// both can be told to misbehave.
//
// One rendezvous, in order:
//
//	listener  GET /$hc/hc-leeds?sb-hc-action=listen            101, the control channel
//	sender    GET /$hc/hc-leeds?sb-hc-action=connect           (no answer yet)
//	relay     {"accept":{"address":"ws://…&sb-hc-id=…", …}}    on the control channel
//	listener  GET <that address>                               101 to the listener and,
//	                                                           in the same step, to the sender
//	both      websocket frames, passed on as they are, until one side closes
//
// The listener may also dial the address with sb-hc-statusCode and
// sb-hc-statusDescription added: it is answered 410, and the sender gets that
// code and that text in place of its 101. If the listener does nothing the
// sender waits for [Config.RendezvousTimeout].
//
// The package knows nothing of the code it is used to test and must not be
// part of a production binary.
package relaytest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"time"
)

// Config says what a [Server] serves. The zero value is a relay without hybrid
// connections on a free port of 127.0.0.1.
type Config struct {
	// Addr is the TCP address to listen on. Empty: 127.0.0.1 and a free port.
	Addr string

	// TLS serves wss with a self-signed certificate for 127.0.0.1, ::1 and
	// localhost, made when the server starts. False: plain ws.
	TLS bool

	// HybridConnections exist from the start. [Server.Create] adds others.
	HybridConnections []HybridConnection

	// RendezvousTimeout is how long a sender's upgrade is held for a listener to
	// take it up. 0: 30 s, as the service does.
	RendezvousTimeout time.Duration

	// AcceptBearer judges every token that is not a shared access signature. It
	// sees the token without the word Bearer, may be called concurrently, and is
	// asked only where keys are configured. Nil: such tokens are refused there.
	AcceptBearer func(token string) bool

	// TokenGrace is how long after its token expired a control channel or a
	// sender's connection is closed with 1008. 0: at once. The service takes about
	// five minutes.
	TokenGrace time.Duration
}

// Server is an in-process Azure Relay namespace. Its methods may be called
// concurrently. It must be closed.
type Server struct {
	config   Config
	listener net.Listener
	http     *http.Server
	cert     *certificate // nil without TLS

	clock  clock
	linger time.Duration // lingerTime, or what a test makes of it

	conns connSet // every connection taken over from http
	done  chan struct{}
	stop  sync.Once
	wg    sync.WaitGroup // the accept loop, each connection, each request

	mu        sync.Mutex           // guards what follows, and every endpoint's fields
	endpoints map[string]*endpoint // by lower-case path
	pending   map[string]*pending  // by rendezvous id
}

// NewServer starts a relay and returns once it accepts connections.
func NewServer(config Config) (*Server, error) {
	if config.Addr == "" {
		config.Addr = "127.0.0.1:0"
	}
	if config.RendezvousTimeout == 0 {
		config.RendezvousTimeout = 30 * time.Second
	}
	s := &Server{
		config:    config,
		linger:    lingerTime,
		done:      make(chan struct{}),
		endpoints: map[string]*endpoint{},
		pending:   map[string]*pending{},
	}
	for _, hc := range config.HybridConnections {
		s.Create(hc)
	}
	var err error
	if s.listener, err = net.Listen("tcp", config.Addr); err != nil {
		return nil, fmt.Errorf("relaytest: %w", err)
	}
	accept := s.listener
	if config.TLS {
		if s.cert, err = newCertificate(); err != nil {
			s.listener.Close()
			return nil, fmt.Errorf("relaytest: certificate: %w", err)
		}
		accept = tls.NewListener(s.listener, s.cert.config())
	}
	s.http = &http.Server{
		Handler:   http.HandlerFunc(s.serve),
		ConnState: s.countConn,
		ErrorLog:  log.New(io.Discard, "", 0),
	}
	s.wg.Go(func() { s.http.Serve(accept) }) // always ends with ErrServerClosed
	return s, nil
}

// countConn counts a connection for as long as net/http owns it. Once it is
// hijacked its request, which is counted by then, owns it.
func (s *Server) countConn(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.wg.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.wg.Done()
	}
}

// Close ends every connection without a close frame and waits until nothing of
// the server runs any more. It may be called more than once.
func (s *Server) Close() error {
	var err error
	s.stop.Do(func() {
		close(s.done)
		err = s.http.Close()
		s.conns.closeAll()
	})
	s.wg.Wait()
	return err
}

// Addr returns host:port of the server: what a sender calls the namespace.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// TLS reports whether the server speaks wss rather than ws.
func (s *Server) TLS() bool { return s.cert != nil }

// CertificatePEM returns the server's certificate, PEM encoded; nil without TLS.
func (s *Server) CertificatePEM() []byte {
	if s.cert == nil {
		return nil
	}
	return s.cert.pem
}

// CertPool returns a pool with the server's certificate alone; nil without TLS.
func (s *Server) CertPool() *x509.CertPool {
	if s.cert == nil {
		return nil
	}
	return s.cert.pool
}

func (s *Server) scheme() string {
	if s.TLS() {
		return "wss"
	}
	return "ws"
}

// connSet closes a changing set of connections together. The zero value is
// ready; it may be used concurrently.
type connSet struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed bool
}

// add reports false, and closes the connection, when the set is closed already.
func (c *connSet) add(conn net.Conn) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		conn.Close()
		return false
	}
	if c.open == nil {
		c.open = map[net.Conn]struct{}{}
	}
	c.open[conn] = struct{}{}
	return true
}

// end closes one connection and forgets it.
func (c *connSet) end(conn net.Conn) {
	conn.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, conn)
}

func (c *connSet) closeAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for conn := range c.open {
		conn.Close()
	}
}

// pause waits for d and reports whether ctx outlived it.
func pause(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
