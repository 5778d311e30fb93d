package servicebustest

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// claims is what the tokens of one connection allow; conn.mu guards it.
type claims struct {
	server *Server
	all    bool                 // the connection authenticated with the key itself
	until  map[string]time.Time // by entity path in lower case, "" for the whole namespace
}

// allow reports whether a link to an entity may be attached now. A claim holds for the entity and all below it.
func (c *claims) allow(entity string, now time.Time) bool {
	if c.all || c.server.open() {
		return true
	}
	for path := strings.ToLower(entity); ; path = path[:max(strings.LastIndexByte(path, '/'), 0)] {
		if c.until[path].After(now) {
			return true
		}
		if path == "" {
			return false
		}
	}
}

// open reports whether anybody may do anything.
func (s *Server) open() bool { return s.config.Key == "" && s.config.VerifyJWT == nil }

// maxToken is when a token expires that is not read.
const maxToken = 24 * time.Hour

// answerToken carries out a put-token request: a valid token becomes a claim of the connection.
func (c *conn) answerToken(payload []byte, now time.Time) error {
	r, err := parseRequest(payload)
	if err != nil {
		return err
	}
	return c.answer(r, tokenStatus, nil, c.putToken(&r, now))
}

func (c *conn) putToken(r *request, now time.Time) error {
	token, _ := r.body.(string)
	audience := strings.ToLower(entityPath(r.text("name")))
	switch {
	case r.text("operation") != "put-token" || token == "":
		return errBadRequest("put-token with a token is the only operation here")
	case c.server.faults.tokensRefused.is(now):
		return &fault{"com.microsoft:auth-failed", 401, "put-token failed: the token is refused at the moment"}
	}
	var expiry time.Time
	var refused *fault
	if r.text("type") == "jwt" {
		expiry, refused = c.server.verifyJWT(token, r.text("name"), now)
	} else {
		expiry, refused = c.server.verify(token, audience, now)
	}
	if refused != nil {
		return refused
	}
	if c.claims.until == nil {
		c.claims.until = make(map[string]time.Time)
	}
	// A claim on a management node is one on its queue.
	entity, _ := cutSuffixFold(audience, managementSuffix)
	c.claims.until[entity] = expiry
	return nil
}

// verifyJWT has a token of Entra ID judged, and returns until when it holds.
func (s *Server) verifyJWT(token, audience string, now time.Time) (time.Time, *fault) {
	switch {
	case s.open():
		return now.Add(maxToken), nil
	case s.config.VerifyJWT == nil:
		return time.Time{}, unauthorized("InvalidToken: tokens of Entra ID are not taken here")
	}
	expires, err := s.config.VerifyJWT(token, audience)
	switch {
	case err != nil:
		return time.Time{}, unauthorized("InvalidToken: " + err.Error())
	case !expires.After(now):
		return time.Time{}, unauthorized("ExpiredToken: the token is expired")
	}
	return expires, nil
}

const sasPrefix = "SharedAccessSignature "

// verify checks a shared access signature for an entity path in lower case and returns until when it holds. The signature is
// over the encoded resource as it stands in the token, a line feed and the expiry.
func (s *Server) verify(token, entity string, now time.Time) (time.Time, *fault) {
	switch {
	case s.open():
		return now.Add(maxToken), nil
	case s.config.Key == "":
		return time.Time{}, unauthorized("InvalidSignature: local authentication is disabled")
	}
	fields := sasFields(token)
	resource, err := url.QueryUnescape(fields["sr"])
	expiry, err2 := strconv.ParseInt(fields["se"], 10, 64)
	given, err3 := url.QueryUnescape(fields["sig"])
	if err != nil || err2 != nil || err3 != nil || !strings.HasPrefix(token, sasPrefix) {
		return time.Time{}, unauthorized("MalformedToken: the token is malformed")
	}
	mac := hmac.New(sha256.New, []byte(s.config.Key))
	mac.Write([]byte(fields["sr"] + "\n" + fields["se"]))
	want := base64.StdEncoding.EncodeToString(mac.Sum(nil))
	until := time.Unix(expiry, 0)
	scope := strings.ToLower(resourcePath(resource))
	switch {
	case fields["skn"] != s.config.KeyName || subtle.ConstantTimeCompare([]byte(want), []byte(given)) != 1:
		return time.Time{}, unauthorized("InvalidSignature: the token has an invalid signature")
	case !until.After(now):
		return time.Time{}, unauthorized("ExpiredToken: the token is expired")
	case scope != "" && scope != entity && !strings.HasPrefix(entity, scope+"/"):
		return time.Time{}, unauthorized("InvalidAudience: the token is for another entity")
	}
	return until, nil
}

func unauthorized(text string) *fault {
	return &fault{"amqp:unauthorized-access", 401, text}
}

// sasFields reads the fields of a token, which come in any order, without decoding them: the signature is over the encoded form.
func sasFields(token string) map[string]string {
	fields := make(map[string]string)
	for field := range strings.SplitSeq(strings.TrimPrefix(token, sasPrefix), "&") {
		key, value, _ := strings.Cut(field, "=")
		fields[key] = value
	}
	return fields
}

// resourcePath returns the path of a signed resource, which is a URL or, from some clients, a host and a path.
func resourcePath(resource string) string {
	if _, rest, ok := strings.Cut(resource, "://"); ok {
		resource = rest
	}
	resource, _, _ = strings.Cut(resource, "?")
	_, path, _ := strings.Cut(resource, "/")
	return strings.Trim(path, "/")
}
