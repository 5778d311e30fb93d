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
func ServeSocket(ws *websocket.Conn) { newSocket(ws, nil).run(func() {}) }
