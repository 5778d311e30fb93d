package relaytest

import (
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"
)

// refusal is an answer to an upgrade other than 101. What matters is the reason
// phrase: the service says there what went wrong.
type refusal struct {
	code   int
	phrase string
	own    bool // a listener's or a test's own text: no tracking suffix
}

var (
	refuseNoEndpoint  = &refusal{code: 404, phrase: "Endpoint does not exist."}
	refuseNoListener  = &refusal{code: 404, phrase: "There are no listeners connected for the endpoint."}
	refuseNotAccepted = &refusal{code: 404, phrase: "None of the connected listeners accepted the connection within the allowed timeout."}
	refuseNoToken     = &refusal{code: 401, phrase: "MissingToken: Relay security token is required."}
	refuseMalformed   = &refusal{code: 401, phrase: "MalformedToken: The token is malformed."}
	refuseBearer      = &refusal{code: 401, phrase: "InvalidToken: The token could not be validated."}
	refuseSignature   = &refusal{code: 401, phrase: "InvalidSignature: The token has an invalid signature."}
	refuseExpired     = &refusal{code: 401, phrase: "ExpiredToken: The token is expired."}
	refuseAudience    = &refusal{code: 401, phrase: "InvalidAudience: The authorization header contains a token for another resource."}
	refuseUsed        = &refusal{code: 403, phrase: "The rendezvous is used, expired or unknown."}
	refuseQuota       = &refusal{code: 403, phrase: "QuotaExceeded: The endpoint has 25 listeners already."}
	refuseUpgrade     = &refusal{code: 400, phrase: "A websocket upgrade is required."}
	refuseAction      = &refusal{code: 400, phrase: "Unknown sb-hc-action."}
	answerRejected    = &refusal{code: 410, phrase: "The rendezvous is rejected."}
)

func refuseRight(need right) *refusal {
	return &refusal{code: 403, phrase: fmt.Sprintf("Unauthorized access. '%s' claim(s) are required to perform this operation.", need)}
}

// maxPhrase bounds what a listener can make of a sender's status line.
const maxPhrase = 1024

// refuse writes the status line itself, because net/http has no way to send a
// phrase of our own, and ends the connection.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, no *refusal) {
	conn, _, ok := s.hijack(w)
	if !ok {
		return
	}
	defer s.conns.end(conn)
	phrase := no.phrase
	if !no.own {
		phrase += fmt.Sprintf(" TrackingId:%s_G%d, SystemTracker:%s:%s, Timestamp:%s",
			uuid.NewString(), uuid.New()[0]%32, r.Host,
			strings.TrimPrefix(r.URL.Path, "/$hc/"), time.Now().UTC().Format("2006-01-02T15:04:05"))
	}
	conn.SetWriteDeadline(time.Now().Add(lingerTime))
	fmt.Fprintf(conn, "HTTP/1.1 %d %s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", no.code, printable(phrase))
}

// printable keeps foreign text from ending the status line.
func printable(phrase string) string {
	phrase = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, phrase)
	return phrase[:min(len(phrase), maxPhrase)]
}
