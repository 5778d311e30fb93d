package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/worklist-relay/worklist-relay/consumer/leaktest"
)

// What tokens are asked for, as the endpoint of a container sees it.
const (
	forServiceBus = "https://servicebus.azure.net/"
	forRelay      = "https://relay.azure.net"
	forDatabase   = "https://ossrdbms-aad.database.windows.net"

	clientID = "11111111-2222-4333-8444-555555555555"
)

// identities is the endpoint at which a container asks for the tokens of its
// managed identities, as Container Apps serves it: IDENTITY_ENDPOINT. What it
// says when it refuses holds the secret of the request, and a token.
type identities struct {
	server *httptest.Server
	life   time.Duration // of a token

	mu      sync.Mutex // guards what follows
	ready   map[string]bool
	refused map[string]int
	wrong   []string // questions that no container may ask
	issued  map[string]grant
}

// grant is one token that was given out.
type grant struct {
	resource      string
	asked, expire time.Time
	used          int  // how often its server was shown it
	own           bool // the test's, not the program's
}

// newIdentities has tokens for these resources from the start.
func newIdentities(t *testing.T, life time.Duration, ready ...string) *identities {
	t.Helper()
	i := &identities{life: life, ready: map[string]bool{}, refused: map[string]int{}, issued: map[string]grant{}}
	for _, resource := range ready {
		i.ready[resource] = true
	}
	i.server = httptest.NewServer(i)
	t.Cleanup(func() {
		i.server.Close()
		for _, wrong := range i.wrong {
			t.Error("the identity endpoint was asked", wrong)
		}
	})
	return i
}

// env is what Container Apps sets, and the operator.
func (i *identities) env() map[string]string {
	return map[string]string{
		"IDENTITY_ENDPOINT": i.server.URL + "/msi/token", "IDENTITY_HEADER": leaktest.IdentityHeader, "AZURE_CLIENT_ID": clientID,
	}
}

func (i *identities) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	resource := r.URL.Query().Get("resource")
	i.mu.Lock()
	defer i.mu.Unlock()
	_, known := map[string]bool{forServiceBus: true, forRelay: true, forDatabase: true}[resource]
	switch {
	case r.Method != http.MethodGet || r.URL.Path != "/msi/token" || !known,
		r.Header.Get("X-IDENTITY-HEADER") != leaktest.IdentityHeader, r.URL.Query().Get("client_id") != clientID:
		i.wrong = append(i.wrong, fmt.Sprint(r.Method, " ", r.URL))
		w.WriteHeader(http.StatusUnauthorized)
		return
	case !i.ready[resource]:
		i.refused[resource]++
		w.WriteHeader(http.StatusBadRequest)
		fmt.Fprintf(w, `{"statusCode":400,"message":"no identity of %s yet, nor %s"}`, leaktest.IdentityHeader, leaktest.BearerToken)
		return
	}
	token, expires := i.issue(resource)
	_ = json.NewEncoder(w).Encode(map[string]string{
		"access_token": token, "expires_on": strconv.FormatInt(expires.Unix(), 10),
		"resource": resource, "token_type": "Bearer", "client_id": clientID,
	})
}

// issue makes a token. The caller holds i.mu.
func (i *identities) issue(resource string) (string, time.Time) {
	token := fmt.Sprintf("%s-%d", leaktest.BearerToken, len(i.issued))
	now := time.Now()
	expires := now.Add(i.life).Truncate(time.Second)
	i.issued[token] = grant{resource: resource, asked: now, expire: expires}
	return token, expires
}

// GetToken makes a token for the test's own client of Service Bus.
func (i *identities) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	token, expires := i.issue(forServiceBus)
	g := i.issued[token]
	g.own = true
	i.issued[token] = g
	return azcore.AccessToken{Token: token, ExpiresOn: expires}, nil
}

// grant has tokens for a resource from now on, or refuses them.
func (i *identities) grant(resource string, ready bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.ready[resource] = ready
}

// refusals is how often a token for a resource was refused so far.
func (i *identities) refusals(resource string) int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.refused[resource]
}

// verify is how a server judges a token: it must be for the server, and alive.
func (i *identities) verify(token, resource string) (time.Time, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	g, known := i.issued[token]
	switch {
	case !known:
		return time.Time{}, errors.New("the token is nobody's")
	case g.resource != resource:
		return time.Time{}, fmt.Errorf("the token is for %s", g.resource)
	case !g.expire.After(time.Now()):
		return time.Time{}, errors.New("the token has expired")
	}
	g.used++
	i.issued[token] = g
	return g.expire, nil
}

// used are the tokens for a resource that were shown to its server.
func (i *identities) used(resource string) (grants []grant) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for g := range maps.Values(i.issued) {
		if g.resource == resource && g.used > 0 && !g.own {
			grants = append(grants, g)
		}
	}
	return grants
}
