package relay

import (
	"errors"
	"strconv"
	"strings"
)

// ErrHostNotAllowed is wrapped by the error of [Client.Allowed] and [Client.Connect] for a namespace that this client may not dial.
var ErrHostNotAllowed = errors.New("host not allowed")

// ErrClosed is wrapped by the errors of a [Client] that was closed.
var ErrClosed = errors.New("relay client closed")

// A Phase names the step in which an action failed. The text is what SQL, logs, metric labels and dead letters hold.
type Phase string

// The phases in the order in which an action meets them. PhaseRecord and PhaseSettle come after this package's part.
const (
	PhaseDNS        Phase = "dns"         // the namespace does not resolve
	PhaseConnect    Phase = "connect"     // no TCP connection; the detail holds the address
	PhaseTLS        Phase = "tls"         // no TLS session, or a certificate that is not trusted
	PhaseHandshake  Phase = "handshake"   // the upgrade was not answered, or with a status that says nothing of the listener
	PhaseAuth       Phase = "auth"        // no token could be had, or it was refused: 401, 403
	PhaseEndpoint   Phase = "endpoint"    // there is no such hybrid connection, or it may not be dialled
	PhaseNoListener Phase = "no_listener" // no gateway is connected
	PhaseRendezvous Phase = "rendezvous"  // a gateway is connected and did not take the call
	PhaseRejected   Phase = "rejected"    // the gateway's listener refused with a 4xx of its own
	PhaseSend       Phase = "send"        // the frame could not be written in full
	PhaseAckTimeout Phase = "ack_timeout" // no ack in time
	PhaseAckLost    Phase = "ack_lost"    // the connection broke, or the caller left, before the ack
	PhaseAckClosed  Phase = "ack_closed"  // the gateway closed deliberately instead of answering
	PhaseAckInvalid Phase = "ack_invalid" // an answer that is no ack to this action
	PhaseAckError   Phase = "ack_error"   // an ack that says error: an Ack here, an outcome for its reader
	PhaseRecord     Phase = "record"      // the outcome could not be written down
	PhaseSettle     Phase = "settle"      // the message could not be settled
)

// Sent is what the sender can honestly know about whether an action reached its gateway.
type Sent string

// SentNo: the gateway certainly did not get, or did not take, the whole action. SentMaybe: it may have. SentYes: it said so.
const (
	SentNo    Sent = "no"
	SentMaybe Sent = "maybe"
	SentYes   Sent = "yes"
)

// An Error is every error of [Client.Connect], [Conn.Exchange] and [Client.Echo].
// Neither it nor anything it wraps in Detail holds participant details, tokens or keys.
type Error struct {
	// Phase is where it failed; empty while waiting for another exchange to end.
	Phase Phase
	// Sent is SentNo for everything that happens before a complete frame is written.
	Sent Sent
	// Answered reports that the gateway answered every copy of the action that was written: a reply of whatever content, or a
	// clean close without one. An attempt that may have arrived and was not answered is evidence for a later "exists".
	Answered bool
	// Code is an HTTP status in the phases up to PhaseRejected, a websocket close code (RFC 6455 section 7.4) after them, 0 for none.
	Code int
	// HybridConnection is whom it was for.
	HybridConnection HybridConnection
	// Timings says how long each step took, the one that failed included: of the last dial, where a refused token made it two.
	Timings Timings
	// Detail says why, in one short line that is safe to store.
	Detail string
	// Err is the cause: the context's error, as it is, if and only if the caller's context ended; nil where there is nothing to add.
	Err error
}

// Error reads as a path, as in "connect ns.servicebus.windows.net/hc-leeds: 404 no listener".
func (e *Error) Error() string {
	verb := "connect "
	switch e.Phase {
	case PhaseSend, PhaseAckTimeout, PhaseAckLost, PhaseAckClosed, PhaseAckInvalid, PhaseAckError:
		verb = "exchange "
	}
	return verb + e.HybridConnection.String() + ": " + e.Detail
}

// Unwrap returns Err.
func (e *Error) Unwrap() error { return e.Err }

// refusal is what an HTTP answer to the upgrade other than 101 means.
// Azure Relay tells its reasons apart in the reason phrase alone; status is the whole "404 There are ..." text.
func refusal(code int, status string) (Phase, string) {
	phrase := strings.ToLower(status)
	number := strconv.Itoa(code)
	said := func(what string) string {
		return strings.TrimSuffix(number+" "+what+": "+knownPhrase(phrase), ": ") + trackingID(status)
	}
	switch {
	case code == 401 || code == 403:
		return PhaseAuth, said("token refused")
	case code == 404 && strings.Contains(phrase, "endpoint does not exist"):
		return PhaseEndpoint, number + " endpoint does not exist" + trackingID(status)
	case code == 404 && strings.Contains(phrase, "none of the connected listeners accepted"):
		return PhaseRendezvous, number + " listener did not accept in time" + trackingID(status)
	case code == 404:
		return PhaseNoListener, number + " no listener" + trackingID(status)
	case code >= 400 && code < 500:
		return PhaseRejected, said("rejected by the listener")
	}
	return PhaseHandshake, said("instead of an upgrade")
}

// trackingID is the relay's own id of the dial, which Microsoft's support asks for; "" if the phrase has none that looks like one.
func trackingID(status string) string {
	_, rest, found := strings.Cut(status, "TrackingId:")
	id, _, _ := strings.Cut(rest, ",")
	id = strings.TrimSpace(id)
	if !found || !trackingPattern.MatchString(id) {
		return ""
	}
	return " (tracking id " + id + ")"
}

// refusalPhrases are what the relay, and .NET's listener, are known to say of a refusal, in the spelling that is stored.
var refusalPhrases = []string{"token has an invalid signature", "token is expired", "InvalidAudience", "Rejected by user code"}

// knownPhrase is the known phrase that a reason phrase in lower case holds; "" for none. A listener may send words of its own, which
// may repeat the token, or what it was once sent: they are never kept.
func knownPhrase(lower string) string {
	for _, known := range refusalPhrases {
		if strings.Contains(lower, strings.ToLower(known)) {
			return known
		}
	}
	return ""
}
