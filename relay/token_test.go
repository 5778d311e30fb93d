package relay_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// TestSharedAccessKey compares with signatures made elsewhere, at the moment for which they were made.
func TestSharedAccessKey(t *testing.T) {
	t.Parallel()
	for audience, want := range map[string]string{
		"http://ns.servicebus.windows.net/hc1":  "ncEn10YRyPw2HT69I3BZM0Xwy4hw1ZJmcLxsXzL13wA=",
		"https://ns.servicebus.windows.net/hc1": "CXHv02Gu23OqYrnw1OZfMI+d19RHzPJCrSccY6UFtHE=",
	} {
		synctest.Test(t, func(t *testing.T) {
			<-time.After(time.Until(time.Unix(1700000000, 0)))
			token, err := relay.SharedAccessKey("root key", "c2VjcmV0LWtleQ==").Token(t.Context(), audience)
			if err != nil {
				t.Fatal(err)
			}
			if !token.Expires.Equal(time.Unix(1700003600, 0)) {
				t.Errorf("expires at %v", token.Expires)
			}
			query, found := strings.CutPrefix(relay.TokenValue(token), "SharedAccessSignature ")
			fields, err := url.ParseQuery(query)
			if !found || err != nil {
				t.Fatalf("not a shared access signature: %v", err)
			}
			if diff := cmp.Diff(url.Values{"sr": {audience}, "sig": {want}, "se": {"1700003600"}, "skn": {"root key"}}, fields); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// credential is an Entra ID identity.
type credential struct {
	token string
	err   error
}

func (c credential) GetToken(_ context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if diff := cmp.Diff([]string{"https://relay.azure.net/.default"}, options.Scopes); diff != "" {
		return azcore.AccessToken{}, errors.New(diff)
	}
	return azcore.AccessToken{Token: c.token, ExpiresOn: time.Now().Add(time.Hour)}, c.err
}

func TestEntra(t *testing.T) {
	t.Parallel()
	const secret = "synthetic-access-token"
	server := newServer(t, relaytest.Config{AcceptBearer: func(token string) bool { return token == secret }})
	gateway, err := relaytest.NewGateway(relaytest.GatewayConfig{Name: path, Relay: server, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	defer gateway.Close()
	s := &site{client: newClient(t, &relay.Client{}), hc: at(server), tokens: relay.Entra{Credential: credential{token: secret}}}
	s.must(t, create(1))

	s.tokens = relay.Entra{Credential: credential{token: "another"}}
	if e := s.fails(t, create(2)); e.Phase != relay.PhaseAuth || e.Code != 401 {
		t.Errorf("got %v", e)
	}
	broken := errors.New("no identity for eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0")
	s.tokens = relay.Entra{Credential: credential{err: broken}}
	e := s.fails(t, create(3))
	if e.Phase != relay.PhaseAuth || e.Code != 0 || !errors.Is(e, broken) || e.Detail != "no token: no identity for [...]" {
		t.Errorf("got %v", e)
	}
}

// One token of an identity serves every hybrid connection, and is in memory once.
func TestEntraTokenIsKeptOnce(t *testing.T) {
	t.Parallel()
	tokens := relay.Entra{Credential: credential{token: "synthetic-access-token"}}
	one, err := tokens.Token(t.Context(), "http://ns.servicebus.windows.net/hc1")
	if err != nil {
		t.Fatal(err)
	}
	other, err := tokens.Token(t.Context(), "http://ns.servicebus.windows.net/hc2")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := relay.TokenValue(one), relay.TokenValue(other); a != "Bearer synthetic-access-token" || unsafe.StringData(a) != unsafe.StringData(b) {
		t.Errorf("%q at %p, and %q at %p", a, unsafe.StringData(a), b, unsafe.StringData(b))
	}
}

// unexported puts value where printing finds no methods. The credential inside an Entra has to see to itself there.
func unexported(value any) any {
	if _, ok := value.(relay.Entra); ok {
		return nil
	}
	return struct{ x any }{value}
}

// TestSecretsAreNotPrinted prints everything that holds a secret or a participant in every way.
func TestSecretsAreNotPrinted(t *testing.T) {
	t.Parallel()
	const secret = "CANARY"
	frame := []byte(`{"name":"` + secret + `"}`)
	for _, value := range []any{
		relay.NewToken(secret, time.Now()),
		relay.SharedAccessKey("name", secret),
		relay.Entra{Credential: &credential{token: secret}},
		relay.NewAction(frame, "an-id", createItem, "ACC"),
	} {
		for _, nested := range []any{value, &value, []any{value}, map[string]any{"x": value}, struct{ X any }{value}, unexported(value)} {
			var out bytes.Buffer
			for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%T"} {
				fmt.Fprintf(&out, verb, nested)
			}
			for _, handler := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
				slog.New(handler).Info("x", "value", nested)
			}
			encoded, err := json.Marshal(nested)
			out.Write(encoded)
			if err != nil {
				out.WriteString(err.Error())
			}
			hexed := fmt.Sprintf("%x", secret)
			if strings.Contains(out.String(), secret) || strings.Contains(out.String(), hexed) || strings.Contains(out.String(), fmt.Sprint(frame)) {
				t.Errorf("%T prints its secret: %s", value, out.String())
			}
		}
	}
	if relay.SharedAccessKey("name", "key") != relay.SharedAccessKey("name", "key") {
		t.Error("equal keys make unequal sources")
	}
	if _, err := json.Marshal(relay.NewAction(frame, "an-id", createItem, "ACC")); err == nil {
		t.Error("an action was marshalled")
	}
	if got, want := fmt.Sprintf("%v %+v", relay.NewToken(secret, time.Now()), relay.Token{}), "[...] [...]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	a := relay.NewAction(frame, "an-id", createItem, "ACC")
	if got, want := fmt.Sprintf("%v %+v", a, a), "worklist.create_item an-id worklist.create_item an-id"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if a.ID() != "an-id" || a.Type() != createItem || a.AccessionNumber() != "ACC" {
		t.Errorf("got %v", a)
	}
}
