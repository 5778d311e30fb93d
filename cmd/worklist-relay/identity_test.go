package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/worklist-relay/worklist-relay/relay"
)

// answering is a credential that does as its function.
type answering struct {
	token func(context.Context) (azcore.AccessToken, error)
}

func (a *answering) GetToken(ctx context.Context, _ policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return a.token(ctx)
}

// Why there is no token is one line, which quotes nothing that was answered.
func TestNoToken(t *testing.T) {
	t.Parallel()
	never := func(ctx context.Context) (azcore.AccessToken, error) {
		<-ctx.Done()
		return azcore.AccessToken{}, errors.New("gave up")
	}
	failing := func(err error) func(context.Context) (azcore.AccessToken, error) {
		return func(context.Context) (azcore.AccessToken, error) { return azcore.AccessToken{}, err }
	}
	answered := &azidentity.AuthenticationFailedError{RawResponse: &http.Response{StatusCode: http.StatusBadRequest, Body: http.NoBody}}
	for name, test := range map[string]struct {
		clientID string
		token    func(context.Context) (azcore.AccessToken, error)
		cause    error // is in the chain
		want     string
	}{
		"never answers":      {"", never, context.DeadlineExceeded, "token of Entra ID for https://relay.azure.net: no answer in time"},
		"answers 400":        {"id", failing(answered), answered, "token of Entra ID for https://relay.azure.net: answered 400: AZURE_CLIENT_ID must be"},
		"many lines":         {"", failing(errors.New("no luck.\nTried:\n\tall")), nil, "token of Entra ID for https://relay.azure.net: no luck: log in with `az login`"},
		"points to a manual": {"id", failing(errors.New("no luck. To troubleshoot, visit https://example.org")), nil, "https://relay.azure.net: no luck: AZURE_CLIENT_ID must be"},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		if name != "never answers" {
			ctx = t.Context()
		}
		_, err := relay.Entra{Credential: identity{test.clientID, &answering{test.token}}}.Token(ctx, "")
		cancel()
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", name, err)
		}
		if test.cause != nil && !errors.Is(err, test.cause) {
			t.Errorf("%s: %v is not in the chain", name, test.cause)
		}
	}
}

// Service Bus asks with a context that never ends.
func TestTokenRequestIsBounded(t *testing.T) {
	t.Parallel()
	asked := &answering{func(ctx context.Context) (azcore.AccessToken, error) {
		if until, bounded := ctx.Deadline(); !bounded || time.Until(until) > tokenLimit {
			t.Errorf("asked until %v, %v", until, bounded)
		}
		return azcore.AccessToken{Token: "SYNTHETIC"}, nil
	}}
	if token, err := (identity{"", asked}).GetToken(context.Background(), policy.TokenRequestOptions{}); err != nil || token.Token != "SYNTHETIC" {
		t.Errorf("token %v, %v", token, err)
	}
}

// One credential serves the whole process, and a cached connection is found by it.
func TestOneCredential(t *testing.T) {
	for name, value := range map[string]string{
		"AZURE_CLIENT_ID": "11111111-2222-4333-8444-555555555555", "SERVICEBUS_NAMESPACE": "contoso.servicebus.windows.net",
		"DATABASE_URL": "postgres://relay@db.example.org/worklist?sslmode=verify-full", "DATABASE_ENTRA": "true",
	} {
		t.Setenv(name, value)
	}
	c, err := readConfig(needService)
	if err != nil {
		t.Fatal(err)
	}
	first, err := c.credential()
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		again, err := c.credential()
		if err != nil || again != first {
			t.Errorf("another credential: %v", err)
		}
		if source, err := c.entra(); err != nil || source != relay.TokenSource(relay.Entra{Credential: first}) {
			t.Errorf("another source of tokens: %v", err)
		}
	}
}

func TestNamespace(t *testing.T) {
	t.Parallel()
	for value, want := range map[string][2]string{
		"contoso.servicebus.windows.net":      {"contoso.servicebus.windows.net", ""},
		"contoso.servicebus.windows.net:5671": {"contoso.servicebus.windows.net", "contoso.servicebus.windows.net:5671"},
		"127.0.0.1:5671":                      {"127.0.0.1", "127.0.0.1:5671"},
		"[::1]:5671":                          {"::1", "[::1]:5671"},
		"":                                    {}, ":5671": {}, "contoso:": {}, "contoso:amqps": {}, "contoso:70000": {}, "::1": {}, "a:1:2": {},
		"sb://contoso.servicebus.windows.net": {}, "contoso/queue": {}, "user@contoso:5671": {}, "contoso?x": {}, "two names": {},
	} {
		host, endpoint, err := config{ServiceBusNamespace: value}.namespace()
		if host != want[0] || endpoint != want[1] || (err == nil) != (want[0] != "") {
			t.Errorf("%q: host %q, endpoint %q, %v", value, host, endpoint, err)
		}
	}
}
