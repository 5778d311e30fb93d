package main_test

import (
	"bytes"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// proxy stands between a process and a server, and can hold what one says to
// the other: the place in their conversation at which the process is killed.
type proxy struct {
	listener net.Listener
	to       string
	holding  atomic.Bool // something is held
	running  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	rule  rule       // nil: everything passes
	links map[*link]bool
	free  chan struct{} // closed when what is held is let go
}

// rule looks at bytes before they are passed on, and may hold them, or the
// answer to them, by the fields of the link that they are on and of others.
// Calls do not overlap.
type rule func(l *link, others map[*link]bool, fromClient bool, b []byte)

// link is one connection through a proxy. Its proxy's mu guards the fields.
type link struct {
	client, server net.Conn
	holdClient     bool            // what the client says, from these bytes on
	holdServer     bool            // what the server says
	wait           <-chan struct{} // what is passed on next, if not nil, waits for it
	seen           int             // a rule's own note
}

func startProxy(t *testing.T, to string) *proxy {
	t.Helper()
	return startProxyAt(t, "127.0.0.1:0", to)
}

func startProxyAt(t *testing.T, addr, to string) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{listener: listener, to: to, links: map[*link]bool{}, free: make(chan struct{})}
	p.running.Go(p.accept)
	t.Cleanup(func() {
		listener.Close()
		p.letGo()
		p.running.Wait()
	})
	return p
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) holdBy(r rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = r
}

// letGo drops what is held, cuts every connection, and holds nothing any more.
func (p *proxy) letGo() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rule = nil
	close(p.free)
	p.free = make(chan struct{})
	p.holding.Store(false)
	for l := range p.links {
		l.client.Close()
		l.server.Close()
	}
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.DialTimeout("tcp", p.to, 10*time.Second)
		if err != nil {
			client.Close()
			continue
		}
		l := &link{client: client, server: server}
		p.mu.Lock()
		p.links[l] = true
		p.mu.Unlock()
		p.running.Go(func() {
			var back sync.WaitGroup
			back.Go(func() { p.pass(l, false, server, client) })
			p.pass(l, true, client, server)
			back.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			delete(p.links, l)
		})
	}
}

// pass copies one direction until either side ends or it was held.
func (p *proxy) pass(l *link, fromClient bool, from, to net.Conn) {
	defer from.Close()
	defer to.Close()
	buffer := make([]byte, 64<<10)
	for {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		free, wait := p.held(l, fromClient, buffer[:n])
		select {
		case <-wait:
		case <-free:
			return
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// held returns what to wait for before b is dropped, and before it is passed on.
func (p *proxy) held(l *link, fromClient bool, b []byte) (free, wait <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.rule != nil {
		p.rule(l, p.links, fromClient, b)
	}
	if fromClient && l.holdClient || !fromClient && l.holdServer {
		p.holding.Store(true)
		return p.free, nil
	}
	if wait, l.wait = l.wait, nil; wait == nil {
		wait = atOnce
	}
	return p.free, wait
}

// atOnce is closed.
var atOnce = func() chan struct{} {
	c := make(chan struct{})
	close(c)
	return c
}()

// answerTo holds the answer to the first request that holds marker.
func answerTo(marker string) rule {
	return func(l *link, _ map[*link]bool, fromClient bool, b []byte) {
		l.holdServer = l.holdServer || fromClient && bytes.Contains(b, []byte(marker))
	}
}

// request holds the first request that holds marker, and what follows it.
func request(marker string) rule {
	return func(l *link, _ map[*link]bool, fromClient bool, b []byte) {
		l.holdClient = l.holdClient || fromClient && bytes.Contains(b, []byte(marker))
	}
}

// afterFirst holds all that a client says after its first bytes.
func afterFirst(l *link, _ map[*link]bool, fromClient bool, _ []byte) {
	if fromClient {
		l.seen++
		l.holdClient = l.seen > 1
	}
}

// acksWait lets what holds a gateway's ack pass when open is closed.
func acksWait(open <-chan struct{}) rule {
	return func(l *link, _ map[*link]bool, fromClient bool, b []byte) {
		if !fromClient && bytes.Contains(b, []byte(`"status"`)) {
			l.wait = open
		}
	}
}

// everything holds all that clients say.
func everything(l *link, _ map[*link]bool, fromClient bool, _ []byte) {
	l.holdClient = l.holdClient || fromClient
}

// othersFrom passes what holds marker on, and holds what clients say on every
// other connection from then on.
func othersFrom(marker string) rule {
	return func(l *link, all map[*link]bool, fromClient bool, b []byte) {
		if !fromClient || !bytes.Contains(b, []byte(marker)) {
			return
		}
		for other := range all {
			other.holdClient = other != l
		}
	}
}
