package relaytest

import (
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// maxListeners is the service's limit of listeners to one hybrid connection.
const maxListeners = 25

// Close codes of RFC 6455 section 7.4.1, as the service uses them.
const (
	closeGoingAway     = 1001 // the hybrid connection is gone
	closeProtocolError = 1002
	closePolicy        = 1008 // the token has expired, or a new one is no good
	closeTooBig        = 1009
)

// lingerTime is how long an ended connection waits for the other side's Close.
const lingerTime = 2 * time.Second

// serve is the one entrance: every request is told apart by its path and its
// sb-hc-action.
func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	s.wg.Add(1)
	defer s.wg.Done()
	action, isHC := strings.ToLower(r.URL.Query().Get("sb-hc-action")), false
	path := r.URL.Path
	if len(path) > len("/$hc/") && strings.EqualFold(path[:len("/$hc/")], "/$hc/") {
		path, isHC = path[len("/$hc/"):], true
	}
	if action == "accept" {
		s.accept(w, r)
		return
	}
	ep := s.match(path)
	switch {
	case !isHC || ep == nil:
		s.refuse(w, r, refuseNoEndpoint)
	case action == "listen":
		s.listen(w, r, ep)
	case action == "" || action == "connect":
		s.connect(w, r, ep)
	default:
		s.refuse(w, r, refuseAction)
	}
}

// tokenOf takes the token from the query or, in its absence, the header.
func tokenOf(r *http.Request) string {
	if token := r.URL.Query().Get("sb-hc-token"); token != "" {
		return token
	}
	return r.Header.Get("ServiceBusAuthorization")
}

// control is a listener's control channel.
type control struct {
	server *Server
	host   string // as the listener calls the service

	mu      sync.Mutex // guards writes, and what follows
	ws      *websocket.Conn
	closing bool // the deadline is the linger's
}

// listen holds a control channel until either side ends it.
func (s *Server) listen(w http.ResponseWriter, r *http.Request, ep *endpoint) {
	hc, gone := s.look(ep)
	if gone {
		s.refuse(w, r, refuseNoEndpoint)
		return
	}
	expires, no := s.authorize(hc, tokenOf(r), r.Host, rightListen)
	if no != nil {
		s.refuse(w, r, no)
		return
	}
	c := &control{server: s, host: r.Host}
	// Listed before its 101 goes out: a listener that has its 101 must be found
	// by the next sender. Until then senders wait for the lock.
	c.mu.Lock()
	if no := s.enlist(ep, c); no != nil {
		c.mu.Unlock()
		s.refuse(w, r, no)
		return
	}
	defer s.delist(ep, c)
	upgrader := websocket.Upgrader{CheckOrigin: func(*http.Request) bool { return true }}
	ws, err := upgrader.Upgrade(w, r, nil)
	if err != nil || !s.conns.add(ws.NetConn()) {
		c.mu.Unlock()
		return
	}
	defer s.conns.end(ws.NetConn())
	defer s.clock.forget(ws.NetConn())
	ws.SetReadLimit(64 << 10)
	c.ws = ws
	c.expire(s.deadline(expires))
	c.mu.Unlock()
	s.control(c, ws, ep, hc)
}

// control reads the channel: its only message is a new token, its end is the
// end of the old one.
func (s *Server) control(c *control, ws *websocket.Conn, ep *endpoint, hc HybridConnection) {
	for {
		_, text, err := ws.ReadMessage()
		if timedOut(err) {
			if c.close(closePolicy) {
				awaitClose(ws.NetConn())
			}
			return
		}
		if err != nil {
			return
		}
		var message struct {
			RenewToken *struct {
				Token string `json:"token"`
			} `json:"renewToken"`
		}
		if json.Unmarshal(text, &message) != nil || message.RenewToken == nil {
			continue
		}
		expires, no := s.authorize(hc, message.RenewToken.Token, c.host, rightListen)
		if no != nil {
			c.close(closePolicy)
			continue
		}
		c.mu.Lock()
		c.expire(s.deadline(expires))
		c.mu.Unlock()
		s.mu.Lock()
		ep.stats.Renewals++
		s.mu.Unlock()
	}
}

// timedOut knows a passed deadline, which gorilla hides the cause of.
func timedOut(err error) bool {
	timeout, ok := errors.AsType[net.Error](err)
	return ok && timeout.Timeout()
}

// deadline is when a connection whose token expires then is closed.
func (s *Server) deadline(expires time.Time) time.Time {
	if expires.IsZero() {
		return expires
	}
	return expires.Add(s.config.TokenGrace)
}

// expire sets when the channel is closed for want of a new token. The caller
// holds c.mu.
func (c *control) expire(at time.Time) {
	if !c.closing {
		c.server.clock.deadline(c.ws.NetConn(), at)
	}
}

// close sends a Close frame; the channel's reader waits for the answer. It
// reports false if that has been done.
func (c *control) close(code int) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ws == nil || c.closing {
		return false
	}
	until := time.Now().Add(c.server.linger)
	c.closing = true
	c.server.clock.forget(c.ws.NetConn())
	c.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), until)
	c.ws.SetReadDeadline(until)
	return true
}

func (c *control) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ws != nil {
		c.ws.NetConn().Close()
	}
}

var errNotConnected = errors.New("control channel not connected")

func (c *control) send(message any) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ws == nil {
		return errNotConnected
	}
	c.ws.SetWriteDeadline(time.Now().Add(c.server.linger))
	return c.ws.WriteJSON(message)
}

func (s *Server) look(ep *endpoint) (hc HybridConnection, gone bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ep.HybridConnection, ep.gone
}

func (s *Server) enlist(ep *endpoint, c *control) *refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ep.gone {
		return refuseNoEndpoint
	}
	if len(ep.listeners) >= maxListeners {
		return refuseQuota
	}
	ep.listeners = append(ep.listeners, c)
	return nil
}

func (s *Server) delist(ep *endpoint, c *control) {
	s.mu.Lock()
	defer s.mu.Unlock()
	// A new slice: others read the old one without the lock.
	ep.listeners = slices.DeleteFunc(slices.Clone(ep.listeners), func(l *control) bool { return l == c })
}
