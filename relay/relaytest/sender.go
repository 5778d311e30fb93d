package relaytest

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
)

// pending is a sender whose 101 is held until a listener takes it up. It is
// removed from Server.pending by whoever may decide what becomes of it.
type pending struct {
	ep      *endpoint
	offered []string  // the sender's subprotocols
	expires time.Time // of its token
	answer  chan answer
}

// answer is what a listener made of a pending sender: its own side of the
// rendezvous, or the refusal to pass on.
type answer struct {
	listener *leg
	joined   chan *rendezvous // gets the rendezvous, or is closed if there is none
	refusal  *refusal
}

// connect is a sender's dial. Its 101 goes out only when a listener has dialled
// the accept address.
func (s *Server) connect(w http.ResponseWriter, r *http.Request, ep *endpoint) {
	stall, no := s.fault(ep)
	if stall {
		s.stall(w)
		return
	}
	hc, _ := s.look(ep)
	p := &pending{ep: ep, offered: websocket.Subprotocols(r), answer: make(chan answer, 1)}
	if no == nil {
		p.expires, no = s.authorize(hc, tokenOf(r), r.Host, rightSend)
	}
	if no == nil && !isUpgrade(r) {
		no = refuseUpgrade
	}
	if no != nil {
		s.refuse(w, r, no)
		return
	}
	id := uuid.NewString()
	s.mu.Lock()
	s.pending[id] = p
	s.mu.Unlock()
	if !s.announce(ep, id, r) {
		s.take(id)
		s.refuse(w, r, refuseNoListener)
		return
	}
	a, ok := s.await(id, p, r)
	switch {
	case !ok:
		s.refuse(w, r, refuseNotAccepted)
	case a.refusal != nil:
		s.refuse(w, r, a.refusal)
	default:
		s.join(w, r, p, a)
	}
}

// await reports false when nobody took the sender up in time, or there is no
// longer a sender, or a server.
func (s *Server) await(id string, p *pending, r *http.Request) (answer, bool) {
	timer := time.NewTimer(s.config.RendezvousTimeout)
	defer timer.Stop()
	select {
	case a := <-p.answer:
		return a, true
	case <-timer.C:
	case <-r.Context().Done():
	case <-s.done:
	}
	if s.take(id) == nil {
		return <-p.answer, true // a listener was quicker, and will answer
	}
	return answer{}, false
}

// take removes a pending sender; nil if it is unknown, used or expired.
func (s *Server) take(id string) *pending {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.pending[id]
	delete(s.pending, id)
	return p
}

// join sends both 101s, the listener's first, and passes frames until the end.
func (s *Server) join(w http.ResponseWriter, r *http.Request, p *pending, a answer) {
	defer close(a.joined)
	conn, br, ok := s.hijack(w)
	if !ok {
		return
	}
	defer s.conns.end(conn)
	defer s.clock.forget(conn)
	sender := &leg{conn: conn, br: br, key: r.Header.Get("Sec-WebSocket-Key"), offered: p.offered}
	sender.protocol, a.listener.protocol = selectProtocols(p.offered, a.listener.offered)
	if !p.expires.IsZero() {
		s.clock.deadline(conn, s.deadline(p.expires))
	}
	// Locked until both 101s are out: no other frame may come before them.
	sender.mu.Lock()
	a.listener.mu.Lock()
	rv := s.open(p.ep, sender, a.listener)
	if a.listener.switchProtocols() != nil || sender.switchProtocols() != nil {
		rv.cut()
	}
	a.listener.mu.Unlock()
	sender.mu.Unlock()
	a.joined <- rv
	rv.pump(sender, a.listener)
	<-a.listener.done
}

// open counts a rendezvous until it leaves.
func (s *Server) open(ep *endpoint, sender, listener *leg) *rendezvous {
	r := &rendezvous{server: s, sender: sender, listener: listener}
	r.leave = sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(ep.rendezvous, r)
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	ep.rendezvous[r] = struct{}{}
	ep.stats.Rendezvous++
	ep.stats.MaxOpen = max(ep.stats.MaxOpen, len(ep.rendezvous))
	return r
}

// accept is a listener's dial of an accept address, to take a sender up or to
// reject it. The id is the credential, and good once.
func (s *Server) accept(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	_, rejecting := query["sb-hc-statusCode"]
	p := (*pending)(nil)
	if rejecting || isUpgrade(r) {
		p = s.take(query.Get("sb-hc-id"))
	}
	if p == nil {
		s.refuse(w, r, refuseUsed)
		return
	}
	if rejecting {
		p.answer <- answer{refusal: rejection(query.Get("sb-hc-statusCode"), query.Get("sb-hc-statusDescription"))}
		s.refuse(w, r, answerRejected)
		return
	}
	conn, br, ok := s.hijack(w)
	if !ok {
		p.answer <- answer{refusal: refuseNotAccepted}
		return
	}
	defer s.conns.end(conn)
	listener := &leg{
		conn: conn, br: br, key: r.Header.Get("Sec-WebSocket-Key"),
		offered: websocket.Subprotocols(r), done: make(chan struct{}),
	}
	defer close(listener.done)
	joined := make(chan *rendezvous, 1)
	p.answer <- answer{listener: listener, joined: joined}
	if rv := <-joined; rv != nil {
		rv.pump(listener, rv.sender)
	}
}

// rejection is the status line a rejecting listener asks for.
func rejection(code, text string) *refusal {
	n, err := strconv.Atoi(code)
	if err != nil || n < 400 || n > 599 {
		n = http.StatusBadRequest
	}
	return &refusal{code: n, phrase: text, own: true}
}

// isUpgrade checks what RFC 6455 section 4.2.1 asks of a client.
func isUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && websocket.IsWebSocketUpgrade(r) &&
		r.Header.Get("Sec-WebSocket-Version") == "13" && r.Header.Get("Sec-WebSocket-Key") != ""
}

// selectProtocols picks a subprotocol for each side that offered any: the
// sender's first that the listener offers too, else each side's own first. A
// client that offered some and is given none gives up.
func selectProtocols(sender, listener []string) (forSender, forListener string) {
	first := func(offered []string) string {
		if len(offered) == 0 {
			return ""
		}
		return offered[0]
	}
	for _, p := range sender {
		for _, q := range listener {
			if strings.EqualFold(p, q) {
				return p, q
			}
		}
	}
	return first(sender), first(listener)
}

// stall holds a connection until the other side leaves or the server closes.
func (s *Server) stall(w http.ResponseWriter) {
	if conn, _, ok := s.hijack(w); ok {
		io.Copy(io.Discard, conn)
		s.conns.end(conn)
	}
}

// hijack takes a connection over from net/http. The caller ends it.
func (s *Server) hijack(w http.ResponseWriter) (net.Conn, *bufio.Reader, bool) {
	conn, buffered, err := http.NewResponseController(w).Hijack()
	if err != nil || !s.conns.add(conn) {
		return nil, nil, false
	}
	return conn, buffered.Reader, true
}
