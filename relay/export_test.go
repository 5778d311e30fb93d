package relay

// For fuzzing without a gateway in between.
var (
	DecodeAck  = decodeAck
	RedactText = redactText
)

// TokenValue is what a Token never shows.
func TokenValue(t Token) string { return t.text() }
