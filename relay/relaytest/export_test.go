package relaytest

import (
	"bufio"
	"io"
	"time"
)

// VerifySAS judges a token for one hybrid connection with one key. The text is
// empty if it is good.
func VerifySAS(token, host, path string, key Key) string {
	_, no := HybridConnection{Path: path, Keys: []Key{key}}.verify(token, host, rightSend, time.Now())
	if no == nil {
		return ""
	}
	return no.phrase
}

// Answer is what a gateway with an empty worklist makes of one request.
func Answer(release Release, request []byte) (reply []byte, items []Item, ok bool) {
	w := newWorklist(release)
	reply, ok = w.handle(request)
	return reply, w.list(), ok
}

// UnmaskFrame reads one client frame and returns it as it is passed on.
func UnmaskFrame(r io.Reader) ([]byte, error) {
	var buffer frameBuffer
	f, err := buffer.read(bufio.NewReader(r))
	return f.wire, err
}

// MaxFrame is the longest payload the relay passes on.
const MaxFrame = maxFrame

// SetLinger bounds how long the relay waits for an answer to its own Close. It is
// called before anybody dials.
func (s *Server) SetLinger(d time.Duration) { s.linger = d }
