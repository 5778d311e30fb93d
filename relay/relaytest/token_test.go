package relaytest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// vectorKey signs the vectors of the shared access signature: they are long
// expired, which the relay finds out only after it has found the signature good.
var vectorKey = relaytest.Key{Name: "RootManageSharedAccessKey", Key: "c2VjcmV0LWtleQ==", Send: true}

const expired = "ExpiredToken: The token is expired."

func TestSASVectors(t *testing.T) {
	t.Parallel()
	at := time.Unix(1700003600, 0)
	for resource, sig := range map[string]string{
		"http://ns.servicebus.windows.net/hc1":  "ncEn10YRyPw2HT69I3BZM0Xwy4hw1ZJmcLxsXzL13wA=",
		"https://ns.servicebus.windows.net/hc1": "CXHv02Gu23OqYrnw1OZfMI+d19RHzPJCrSccY6UFtHE=",
	} {
		token := relaytest.SAS(resource, vectorKey, at)
		if want := "sig=" + url.QueryEscape(sig) + "&"; !strings.Contains(token, want) {
			t.Errorf("%s: no %s in %s", resource, want, token)
		}
		if got := relaytest.VerifySAS(token, "ns.servicebus.windows.net", "hc1", vectorKey); got != expired {
			t.Errorf("%s: %q", resource, got)
		}
	}
}

// rawSAS signs sr and se as they are given, independently of the package.
func rawSAS(order string, sr string, key relaytest.Key) string {
	const se = "4000000000"
	mac := hmac.New(sha256.New, []byte(key.Key))
	mac.Write([]byte(sr + "\n" + se))
	fields := map[byte]string{
		'r': "sr=" + sr,
		's': "sig=" + url.QueryEscape(base64.StdEncoding.EncodeToString(mac.Sum(nil))),
		'e': "se=" + se,
		'n': "skn=" + url.QueryEscape(key.Name),
	}
	var parts []string
	for i := range order {
		parts = append(parts, fields[order[i]])
	}
	return "SharedAccessSignature " + strings.Join(parts, "&")
}

func TestSASForms(t *testing.T) {
	t.Parallel()
	const invalid, malformed, audience = "InvalidSignature: ", "MalformedToken: ", "InvalidAudience: "
	encoded := url.QueryEscape("http://ns.servicebus.windows.net/hc1")
	for _, test := range []struct{ name, token, want string }{
		{"usual order", rawSAS("rsen", encoded, vectorKey), ""},
		{"other order", rawSAS("nesr", encoded, vectorKey), ""},
		{"lower-case escapes", rawSAS("rsen", strings.ToLower(encoded), vectorKey), ""},
		{"not escaped", rawSAS("rsen", "http://ns.servicebus.windows.net/hc1", vectorKey), ""},
		{"https", rawSAS("rsen", "https%3A%2F%2Fns.servicebus.windows.net%2Fhc1", vectorKey), ""},
		{"upper case", rawSAS("rsen", "HTTP%3A%2F%2FNS.SERVICEBUS.WINDOWS.NET%2FHC1", vectorKey), ""},
		{"trailing slash", rawSAS("rsen", encoded+"%2F", vectorKey), ""},
		{"port", rawSAS("rsen", "http%3A%2F%2Fns.servicebus.windows.net%3A443%2Fhc1", vectorKey), ""},
		{"namespace", rawSAS("rsen", "http%3A%2F%2Fns.servicebus.windows.net", vectorKey), ""},
		{"namespace with slash", rawSAS("rsen", "http%3A%2F%2Fns.servicebus.windows.net%2F", vectorKey), ""},
		{"lower-case scheme word", "sharedaccesssignature" + rawSAS("rsen", encoded, vectorKey)[len("SharedAccessSignature"):], ""},
		{"other entity", rawSAS("rsen", encoded+"2", vectorKey), audience},
		{"below the entity", rawSAS("rsen", encoded+"%2Fdeeper", vectorKey), audience},
		{"other namespace", rawSAS("rsen", "http%3A%2F%2Fother.servicebus.windows.net%2Fhc1", vectorKey), audience},
		{"other scheme", rawSAS("rsen", "sb%3A%2F%2Fns.servicebus.windows.net%2Fhc1", vectorKey), audience},
		{"not a URL", rawSAS("rsen", "%zz", vectorKey), audience},
		{"re-encoded after signing", strings.Replace(rawSAS("rsen", encoded, vectorKey), "%3A", "%3a", 1), invalid},
		{"later expiry than signed", strings.Replace(rawSAS("rsen", encoded, vectorKey), "se=4", "se=5", 1), invalid},
		{"other name", rawSAS("rsen", encoded, relaytest.Key{Name: "x", Key: vectorKey.Key}), invalid},
		{"decoded key", rawSAS("rsen", encoded, relaytest.Key{Name: vectorKey.Name, Key: "secret-key"}), invalid},
		{"no expiry", rawSAS("rsn", encoded, vectorKey), malformed},
		{"no resource", rawSAS("sen", encoded, vectorKey), malformed},
		{"no signature", rawSAS("ren", encoded, vectorKey), malformed},
		{"no name", rawSAS("rse", encoded, vectorKey), malformed},
		{"field twice", rawSAS("rsenr", encoded, vectorKey), malformed},
		{"expiry no number", strings.Replace(rawSAS("rsen", encoded, vectorKey), "se=4", "se=x", 1), malformed},
		{"nothing", "", malformed},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := relaytest.VerifySAS(test.token, "NS.servicebus.windows.net:8080", "hc1", vectorKey)
			if test.want == "" && got != "" || !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

// TestTokenPlaces sends each kind of token in each place it may stand.
func TestTokenPlaces(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{
		HybridConnections: []relaytest.HybridConnection{{Path: "hc-leeds", Keys: []relaytest.Key{sendKey, listenKey}}},
		AcceptBearer:      func(token string) bool { return token == "entra" },
	})
	newGateway(t, relaytest.GatewayConfig{Relay: s, Key: listenKey})
	for name, token := range map[string]string{
		"signature":        sas(s, sendKey),
		"bearer":           "Bearer entra",
		"bare bearer":      "entra",
		"lower-case word":  "bearer entra",
		"bearer signature": "Bearer " + sas(s, sendKey),
	} {
		t.Run(name+" in header", func(t *testing.T) {
			mustDial(t, s, "hc-leeds?sb-hc-action=connect", header(token)).Close()
		})
		t.Run(name+" in query", func(t *testing.T) {
			mustDial(t, s, "hc-leeds?sb-hc-action=connect&sb-hc-token="+url.QueryEscape(token), nil).Close()
		})
	}
	t.Run("refused bearer", func(t *testing.T) {
		if _, status, _ := dial(s, "hc-leeds", header("Bearer other")); !strings.HasPrefix(status, "401 InvalidToken") {
			t.Errorf("got %q", status)
		}
	})
	t.Run("plain Authorization", func(t *testing.T) {
		_, status, _ := dial(s, "hc-leeds", http.Header{"Authorization": {sas(s, sendKey)}})
		if !strings.HasPrefix(status, "401 MissingToken") {
			t.Errorf("got %q", status)
		}
	})
}

// FuzzSAS looks for a token that is taken without the signature being right.
func FuzzSAS(f *testing.F) {
	good := rawSAS("rsen", "http%3A%2F%2Fns%2Fhc1", vectorKey)
	f.Add(good)
	f.Add(strings.ToLower(good))
	f.Add(relaytest.SAS("http://ns/hc1", vectorKey, time.Unix(1700003600, 0)))
	f.Add("SharedAccessSignature sr=&sig=&se=&skn=")
	f.Add("SharedAccessSignature &&==%%")
	f.Fuzz(func(t *testing.T, token string) {
		if relaytest.VerifySAS(token, "ns", "hc1", vectorKey) != "" {
			return
		}
		fields := map[string]string{}
		for field := range strings.SplitSeq(strings.TrimSpace(token[len("SharedAccessSignature "):]), "&") {
			name, value, _ := strings.Cut(field, "=")
			fields[name] = value
		}
		mac := hmac.New(sha256.New, []byte(vectorKey.Key))
		mac.Write([]byte(fields["sr"] + "\n" + fields["se"]))
		sig, _ := url.QueryUnescape(fields["sig"])
		if sig != base64.StdEncoding.EncodeToString(mac.Sum(nil)) {
			t.Errorf("accepted %q", token)
		}
	})
}
