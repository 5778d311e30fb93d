// Package servicebustest is an Azure Service Bus namespace in the process: queues that real clients reach over AMQP 1.0, with the
// locks, delivery counts, dead-letter queues, conditions and faults that a consumer has to live with. It keeps everything in memory
// and is meant for tests and for development on one machine.
//
// A client connects with the connection string of the server:
//
//	server, err := servicebustest.NewServer(servicebustest.Config{Queues: []servicebustest.Queue{{Name: "worklist"}}})
//	...
//	defer server.Close()
//	client, err := azservicebus.NewClientFromConnectionString(server.ConnectionString(), nil)
//
// A queue with RequiresSession delivers its messages session by session: in order, to one receiver at a time, under one lock. The
// next session to be accepted is the one that has waited for the longest. Server.Sessions tells about them.
//
// Faults are asked for: Server.DropConnections, ExpireLocks, Throttle and the others.
package servicebustest

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// Config tells a Server what to be. The zero value is a server without queues on a free port of 127.0.0.1.
type Config struct {
	// Addr is where AMQP is served, "" for 127.0.0.1 and a free port. It should be a loopback address.
	Addr string

	// HTTPAddr is where GET /health and the Atom documents of the administration client are served, "" for nowhere.
	HTTPAddr string

	// TLS serves amqps and https, with a self-signed certificate for 127.0.0.1, ::1 and localhost that is made when the server starts.
	TLS bool

	Queues []Queue

	// KeyName and Key are the shared access key. If Key is set, a link needs a token for its entity that this key signed, or that
	// VerifyJWT takes; if both are unset, anybody may do anything and any token is accepted.
	KeyName, Key string

	// VerifyJWT judges every token of type jwt, and every such token of an administration client: it returns when the token
	// expires, or why it is refused, which the client is told. audience is the URL of what the token is presented for, as the client
	// spells it. Calls may overlap. Nil: such tokens are refused where there is a key. Set without a key: no other tokens are taken.
	VerifyJWT func(token, audience string) (expires time.Time, err error)

	// IdleTimeout is how long a connection may be silent before it is closed, 0 for 4 minutes.
	IdleTimeout time.Duration
}

// Server is a namespace that runs. All methods may be called at any time from any goroutine.
type Server struct {
	config  Config
	queues  map[string]*queue // by lower-case name, with the dead-letter queues
	created time.Time
	addr    string // of AMQP
	clock   clock
	faults  faults
	cert    *certificate // nil without TLS
	http    *http.Server // nil without HTTPAddr
	httpLn  net.Listener
	stop    chan struct{} // closed by Close
	running sync.WaitGroup

	mu sync.Mutex
	// guards all below
	listener net.Listener // nil while away
	conns    map[*conn]struct{}
	closed   bool
}

const defaultIdleTimeout = 4 * time.Minute

// NewServer starts a server: when it returns, clients can connect. Its error names the address or the queue at fault.
func NewServer(config Config) (*Server, error) {
	if config.Addr == "" {
		config.Addr = "127.0.0.1:0"
	}
	if config.IdleTimeout == 0 {
		config.IdleTimeout = defaultIdleTimeout
	}
	s := &Server{
		config: config, queues: make(map[string]*queue), created: time.Now().UTC(), stop: make(chan struct{}),
		conns: make(map[*conn]struct{}),
	}
	for _, settings := range config.Queues {
		if err := s.addQueue(settings); err != nil {
			return nil, err
		}
	}
	if err := s.makeCertificate(); err != nil {
		return nil, err
	}
	listener, err := net.Listen("tcp", config.Addr)
	if err != nil {
		return nil, fmt.Errorf("service bus: %w", err)
	}
	s.listener, s.addr = listener, listener.Addr().String()
	if err := s.listenHTTP(); err != nil {
		listener.Close()
		return nil, err
	}
	for _, q := range s.queues {
		s.running.Go(func() { q.run(s.stop) })
	}
	s.running.Go(func() { s.accept(listener) })
	return s, nil
}

func (s *Server) addQueue(settings Queue) error {
	settings, err := settings.withDefaults()
	if err != nil {
		return err
	}
	q := newQueue(settings, &s.clock)
	if s.queues[strings.ToLower(q.name)] != nil {
		return fmt.Errorf("queue %s: configured twice", q.name)
	}
	s.queues[strings.ToLower(q.name)] = q
	s.queues[strings.ToLower(q.dead.name)] = q.dead
	return nil
}

// accept serves connections until the listener is closed.
func (s *Server) accept(listener net.Listener) {
	for {
		nc, err := listener.Accept()
		if err != nil {
			return
		}
		c := newConn(s, nc)
		if !s.register(c, listener) {
			nc.Close()
			continue
		}
		s.running.Go(func() {
			c.serve()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

// register notes a connection, so that it can be dropped. It refuses one that came from a listener that is closed by now.
func (s *Server) register(c *conn, from net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.listener != from {
		return false
	}
	s.conns[c] = struct{}{}
	return true
}

// Close stops listening, cuts the connections and waits until nothing of the server runs any more. A second call does nothing.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.stop)
	err := s.hangUp()
	s.mu.Unlock()
	err = errors.Join(err, s.closeHTTP())
	s.running.Wait()
	return err
}

// hangUp closes the listener and cuts the connections. The caller holds s.mu.
func (s *Server) hangUp() error {
	var err error
	if s.listener != nil {
		err = s.listener.Close()
		s.listener = nil
	}
	for c := range s.conns {
		c.cut()
	}
	return err
}

// Addr returns the host and port of AMQP. It stays the same when the server goes away and comes back.
func (s *Server) Addr() string { return s.addr }

// HTTPAddr returns the host and port of HTTP, "" if there is none.
func (s *Server) HTTPAddr() string {
	if s.httpLn == nil {
		return ""
	}
	return s.httpLn.Addr().String()
}

// Without a key any token is accepted; clients still want something to sign it with.
const (
	syntheticKeyName = "RootManageSharedAccessKey"
	syntheticKey     = "SYNTHETIC-KEY-FOR-LOCAL-TESTS="
)

// ConnectionString returns what an SDK needs to connect, UseDevelopmentEmulator=true included unless there is TLS: without it clients
// insist on TLS. It holds the configured key, or one that is visibly synthetic.
func (s *Server) ConnectionString() string {
	name, key := s.config.KeyName, s.config.Key
	if key == "" {
		name, key = syntheticKeyName, syntheticKey
	}
	text := fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=%s;SharedAccessKey=%s", s.addr, name, key)
	if s.cert == nil {
		text += ";UseDevelopmentEmulator=true"
	}
	return text
}

// queue returns a queue or dead-letter queue by its name in any case, nil if there is none.
func (s *Server) queue(name string) *queue { return s.queues[strings.ToLower(name)] }

// mainQueues returns the queues that are not dead-letter queues, in name order.
func (s *Server) mainQueues() []*queue {
	var main []*queue
	for _, q := range s.queues {
		if q.dead != nil {
			main = append(main, q)
		}
	}
	slices.SortFunc(main, func(a, b *queue) int { return strings.Compare(a.name, b.name) })
	return main
}

// connections returns the connections of this moment.
func (s *Server) connections() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}
