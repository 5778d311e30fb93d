package relaytest

import (
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
)

// acceptMessage tells a listener that a sender is waiting.
type acceptMessage struct {
	Accept accept `json:"accept"`
}

type accept struct {
	Address        string            `json:"address"`
	ID             string            `json:"id"`
	ConnectHeaders map[string]string `json:"connectHeaders"`
	RemoteEndpoint remoteEndpoint    `json:"remoteEndpoint"`
}

type remoteEndpoint struct {
	Address string `json:"address"`
	Port    int    `json:"port"`
}

// announce tells one listener, picked at random, of a sender; if its channel
// turns out to be dead, another. It reports false when none is left.
func (s *Server) announce(ep *endpoint, id string, r *http.Request) bool {
	message := acceptMessage{accept{ID: id, ConnectHeaders: connectHeaders(r), RemoteEndpoint: remoteOf(r)}}
	for {
		c := s.pick(ep)
		if c == nil {
			return false
		}
		message.Accept.Address = s.address(ep, c.host, id, r.URL)
		if c.send(message) == nil {
			return true
		}
		s.delist(ep, c)
	}
}

func (s *Server) pick(ep *endpoint) *control {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(ep.listeners) == 0 {
		return nil
	}
	return ep.listeners[rand.IntN(len(ep.listeners))]
}

// address is what a listener dials to be joined with the sender who dialled u:
// the sender's path and own query stay, the service's parameters are replaced.
func (s *Server) address(ep *endpoint, host, id string, u *url.URL) string {
	segments := strings.Split(trimPath(u.EscapedPath()), "/")[1:] // without $hc
	suffix := segments[min(len(segments), strings.Count(ep.Path, "/")+1):]
	registered := (&url.URL{Path: ep.Path}).EscapedPath()
	var query strings.Builder
	for field := range strings.SplitSeq(u.RawQuery, "&") {
		if field != "" && !strings.HasPrefix(strings.ToLower(field), "sb-hc-") {
			query.WriteString(field + "&")
		}
	}
	return s.scheme() + "://" + host + "/$hc/" + strings.Join(append([]string{registered}, suffix...), "/") +
		"?" + query.String() + "sb-hc-action=accept&sb-hc-id=" + id
}

// connectHeaders passes the sender's upgrade headers on, spelt as in RFC 6455
// rather than as net/http does. The token stays behind.
func connectHeaders(r *http.Request) map[string]string {
	headers := map[string]string{"Host": r.Host}
	for name, values := range r.Header {
		if name == http.CanonicalHeaderKey("ServiceBusAuthorization") {
			continue
		}
		if rest, ok := strings.CutPrefix(name, "Sec-Websocket-"); ok {
			name = "Sec-WebSocket-" + rest
		}
		headers[name] = strings.Join(values, ", ")
	}
	return headers
}

func remoteOf(r *http.Request) remoteEndpoint {
	addr, err := net.ResolveTCPAddr("tcp", r.RemoteAddr) // always a literal address
	if err != nil {
		return remoteEndpoint{}
	}
	return remoteEndpoint{Address: addr.IP.String(), Port: addr.Port}
}
