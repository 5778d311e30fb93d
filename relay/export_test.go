package relay

import "github.com/gorilla/websocket"

// For fuzzing without a gateway in between.
var (
	DecodeAck  = decodeAck
	RedactText = redactText
)

// TokenValue is what a Token never shows.
func TokenValue(t Token) string { return t.text() }

// ServeSocket serves an open connection until it ends, as a Client does.
func ServeSocket(ws *websocket.Conn) { newSocket(ws, &usual, nil).run(func() {}) }

// Waits are the durations that nobody configures.
type Waits = waits

// Hurry lets a test change those of p alone, before p is used.
func (p *pace) Hurry(change func(*Waits)) {
	own := *p.waits()
	change(&own)
	p.own = &own
}
