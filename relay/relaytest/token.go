package relaytest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Key is one shared access key of a hybrid connection.
type Key struct {
	Name, Key    string // as in a connection string; Key is used as text, not base64-decoded
	Send, Listen bool   // the rights it gives
}

// SAS signs a shared access signature for a resource such as
// "http://127.0.0.1:4711/hc-leeds". The relay takes http and https, any case,
// with or without port and trailing slash, and the namespace alone for all of
// its hybrid connections.
func SAS(resource string, key Key, expires time.Time) string {
	sr, se := url.QueryEscape(resource), strconv.FormatInt(expires.Unix(), 10)
	return "SharedAccessSignature sr=" + sr +
		"&sig=" + url.QueryEscape(sign(sr, se, key.Key)) +
		"&se=" + se + "&skn=" + url.QueryEscape(key.Name)
}

// sign covers sr and se exactly as they stand in the token: two encodings of
// one resource have different signatures.
func sign(sr, se, key string) string {
	mac := hmac.New(sha256.New, []byte(key))
	mac.Write([]byte(sr + "\n" + se))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// signature is a shared access signature taken apart.
type signature struct {
	sr, se  string // raw, as signed
	sig     string // base64
	keyName string
	expires time.Time
}

const sasScheme = "SharedAccessSignature "

func isSAS(token string) bool {
	return len(token) >= len(sasScheme) && strings.EqualFold(token[:len(sasScheme)], sasScheme)
}

// parseSAS takes the fields in any order and reports false if one is missing,
// comes twice or does not decode.
func parseSAS(token string) (signature, bool) {
	if !isSAS(token) {
		return signature{}, false
	}
	fields := map[string]string{}
	for field := range strings.SplitSeq(strings.TrimSpace(token[len(sasScheme):]), "&") {
		name, value, _ := strings.Cut(field, "=")
		if _, twice := fields[name]; twice || value == "" {
			return signature{}, false
		}
		fields[name] = value
	}
	sig, err1 := url.QueryUnescape(fields["sig"])
	keyName, err2 := url.QueryUnescape(fields["skn"])
	seconds, err3 := strconv.ParseInt(fields["se"], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil || fields["sr"] == "" || sig == "" || keyName == "" {
		return signature{}, false
	}
	return signature{
		sr: fields["sr"], se: fields["se"], sig: sig, keyName: keyName,
		expires: time.Unix(seconds, 0),
	}, true
}

// covers reports whether the token's resource is this hybrid connection or the
// whole namespace. host is the name the caller used, with or without a port.
func (s signature) covers(host, path string) bool {
	resource, err := url.QueryUnescape(s.sr)
	if err != nil {
		return false
	}
	u, err := url.Parse(resource)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" {
		return false
	}
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	scope := strings.Trim(u.Path, "/")
	return strings.EqualFold(u.Hostname(), strings.Trim(host, "[]")) &&
		(scope == "" || strings.EqualFold(scope, path))
}

// right is what a token must allow.
type right string

const (
	rightSend   right = "Send"
	rightListen right = "Listen"
)

func (k Key) has(r right) bool { return r == rightSend && k.Send || r == rightListen && k.Listen }

// authorize judges a token for a hybrid connection with these keys. The time is
// when it ends, zero for never. Without keys anything is good for ever.
func (s *Server) authorize(hc HybridConnection, token, host string, need right) (time.Time, *refusal) {
	if scheme, rest, ok := strings.Cut(token, " "); ok && strings.EqualFold(scheme, "Bearer") {
		token = strings.TrimSpace(rest)
	}
	switch {
	case len(hc.Keys) == 0:
		return time.Time{}, nil
	case token == "":
		return time.Time{}, refuseNoToken
	case isSAS(token):
		return hc.verify(token, host, need, s.clock.now())
	case s.config.AcceptBearer != nil && s.config.AcceptBearer(token):
		return time.Time{}, nil
	default:
		return time.Time{}, refuseBearer
	}
}

func (hc HybridConnection) verify(token, host string, need right, now time.Time) (time.Time, *refusal) {
	sig, ok := parseSAS(token)
	if !ok {
		return time.Time{}, refuseMalformed
	}
	var rights *Key
	for i := range hc.Keys {
		k := &hc.Keys[i]
		if k.Name == sig.keyName && hmac.Equal([]byte(sign(sig.sr, sig.se, k.Key)), []byte(sig.sig)) {
			rights = k
		}
	}
	switch {
	case rights == nil:
		return time.Time{}, refuseSignature
	case !sig.expires.After(now):
		return time.Time{}, refuseExpired
	case !sig.covers(host, hc.Path):
		return time.Time{}, refuseAudience
	case !rights.has(need):
		return time.Time{}, refuseRight(need)
	}
	return sig.expires, nil
}
