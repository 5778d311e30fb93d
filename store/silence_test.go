package store_test

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/store"
	"github.com/worklist-relay/worklist-relay/store/storetest"
)

// A server that takes questions and says nothing, as in a failover, is not
// waited for: not for the answer to a statement, nor for a transaction to begin.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	server, address := startQuiet(t, storetest.URL(t, "postgres"))
	s := storetest.Open(t, address, store.WithWaits(func(w *store.Waits) { w.LateAnswer = 100 * time.Millisecond }))
	ask := func(ctx context.Context) (statement, transaction error) {
		var both sync.WaitGroup
		both.Go(func() { statement = s.Writable(ctx) })
		both.Go(func() { _, transaction = s.Claim(ctx, copyOf(message(action1, 1), 2)) }) // of a first message it would be one statement
		both.Wait()
		return statement, transaction
	}
	if err, also := ask(t.Context()); err != nil || also != nil {
		t.Fatal(err, also)
	}
	for _, why := range []string{"deadline", "end"} {
		server.quiet(true)
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		if why == "end" {
			ctx, cancel = context.WithCancel(t.Context())
			time.AfterFunc(100*time.Millisecond, cancel)
		}
		said := make(chan [2]error, 1)
		go func() {
			statement, transaction := ask(ctx)
			said <- [2]error{statement, transaction}
		}()
		for _, err := range suite.Receive(t, "an end of waiting for an answer", said) {
			if err == nil || why == "deadline" && !store.Unavailable(err) {
				t.Errorf("%s: %v, want an error that says it is unavailable", why, err)
			}
		}
		cancel()
		server.quiet(false)
		for range 8 { // as many as the pool may hold
			if err, also := ask(t.Context()); err != nil || also != nil {
				t.Errorf("%s: a connection was kept that had been given up: %v, %v", why, err, also)
			}
		}
	}
}

// A connection that died in silence keeps its own caller waiting, and nobody else.
func TestSilentConnectionKeepsOneWaiting(t *testing.T) {
	t.Parallel()
	server, address := startQuiet(t, storetest.URL(t, "postgres"))
	s := storetest.Open(t, address)
	server.quiet(true)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	said := make(chan error, 1)
	go func() {
		_, err := s.Claim(ctx, nth(1))
		said <- err
	}()
	await(t, func() bool { return server.silenced() == 1 })
	server.quiet(false)
	patient, stop := context.WithTimeout(t.Context(), 4*time.Minute)
	defer stop()
	if c, err := s.Claim(patient, nth(2)); err != nil || c.Verdict != store.Claimed {
		t.Error(c.Verdict, err)
	}
	cancel()
	if err := <-said; err == nil {
		t.Error("claimed without an answer")
	}
}

// quiet passes on what clients and a server say, but for what the server says
// while it is quiet: that is lost, with the connection.
type quiet struct {
	listener net.Listener
	running  sync.WaitGroup

	mu     sync.Mutex // guards what follows
	silent bool
	lost   int           // answers
	held   chan struct{} // answers wait until it is closed; nil: for nothing
	cut    int           // one in so many questions and answers is lost, and both ends hear of it; 0: none
	open   []net.Conn
}

// startQuiet starts one that stands before the database at url, and returns the
// URL that leads through it.
func startQuiet(t *testing.T, database string) (q *quiet, through string) {
	t.Helper()
	address, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	to := address.Host
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address.Host = listener.Addr().String()
	q = &quiet{listener: listener}
	q.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				client.Close()
				continue
			}
			q.keep(client, server)
			q.running.Go(func() { _, _ = io.Copy(cutter{server, q}, client); server.Close() })
			q.running.Go(func() { q.answer(client, server) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		q.mu.Lock()
		for _, conn := range q.open {
			conn.Close()
		}
		q.mu.Unlock()
		q.running.Wait()
	})
	return q, address.String()
}

func (q *quiet) keep(conns ...net.Conn) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open = append(q.open, conns...)
}

func (q *quiet) quiet(silent bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.silent = silent
}

// cutting loses one in so many questions and answers from now on, 0 none.
func (q *quiet) cutting(oneIn int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cut = oneIn
}

func (q *quiet) cuts() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.cut > 0 && rand.IntN(q.cut) == 0
}

// cutter is a server that some questions do not reach.
type cutter struct {
	net.Conn
	q *quiet
}

func (c cutter) Write(question []byte) (int, error) {
	if c.q.cuts() {
		return 0, io.ErrClosedPipe
	}
	return c.Conn.Write(question)
}

// hold keeps back what the server says until release.
func (q *quiet) hold() (release func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	held := make(chan struct{})
	q.held = held
	return func() { close(held) }
}

// silenced is how many connections said something while it was quiet.
func (q *quiet) silenced() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.lost
}

// answer passes on what the server says, until it says something while it is
// quiet. The client's connection stays open.
func (q *quiet) answer(client, server net.Conn) {
	buffer := make([]byte, 32<<10)
	for {
		n, err := server.Read(buffer)
		q.mu.Lock()
		silent, held := q.silent, q.held
		if silent {
			q.lost++
		}
		q.mu.Unlock()
		if held != nil {
			<-held
		}
		if silent {
			return
		}
		if q.cuts() {
			client.Close()
			return
		}
		if _, lost := client.Write(buffer[:n]); err != nil || lost != nil {
			client.Close()
			return
		}
	}
}
