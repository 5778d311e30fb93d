package main_test

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// tokenService is where a container asks for the tokens of its identity.
func tokenService(t *testing.T, answer http.HandlerFunc) map[string]string {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	return map[string]string{
		"IDENTITY_ENDPOINT": server.URL, "IDENTITY_HEADER": "synthetic", "AZURE_CLIENT_ID": "0f0f0f0f-0000-4000-8000-00000000000a",
		"SERVICEBUS_NAMESPACE": "nowhere.invalid", "SERVICEBUS_CONNECTION_STRING": "", "SERVICEBUS_ADMIN_URL": "",
	}
}

// Doctor says whose tokens it gets, and never the token.
func TestDoctorTellsOfTokens(t *testing.T) {
	t.Parallel()
	encode := base64.RawURLEncoding.EncodeToString
	claims := encode([]byte(`{"appid":"the-app","oid":"the-object","tid":"the-tenant","aud":"https://relay.azure.net","upn":"person@example.org"}`))
	token := encode([]byte(`{"alg":"none"}`)) + "." + claims + "." + encode([]byte("signature"))
	i := newInstallation(t, "sqlite", queueAsItShouldBe())
	for name, value := range tokenService(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.RawQuery, "servicebus") {
			w.WriteHeader(http.StatusBadRequest)
			fmt.Fprintf(w, `{"error":"invalid_request","error_description":"AADSTS700016: not found, nor %s"}`, token)
			return
		}
		fmt.Fprintf(w, `{"access_token":%q,"expires_on":"%d","resource":"r","token_type":"Bearer"}`, token, time.Now().Add(time.Hour).Unix())
	}) {
		i.env[name] = value
	}
	said := i.examine("--json")
	said.has(t, finding{Check: "token", Target: "Azure Relay", State: "ok", Found: "app id the-app, object id the-object, tenant the-tenant, audience https://relay.azure.net, until "})
	said.has(t, finding{Check: "token", Target: "Service Bus", State: "failed", Found: "refused with 400, AADSTS700016", Mend: "AZURE_CLIENT_ID must be its client id"})
	for _, secret := range []string{claims, "c2lnbmF0dXJl", "person@"} {
		if strings.Contains(said.out+said.errs, secret) {
			t.Errorf("it says %q", secret)
		}
	}
}

// With tokens of Entra ID for everything: each is asked for, and what has none
// is not asked.
func TestDoctorWithEntra(t *testing.T) {
	t.Parallel()
	s := newEntraScene(t, false, time.Hour, forServiceBus, forRelay)
	i := &installation{t: t, env: s.env}
	said := i.examine("--json")
	said.has(t, finding{Check: "token", Target: "PostgreSQL", State: "failed", Found: "refused with 400", Mend: "AZURE_CLIENT_ID must be"})
	said.has(t, finding{Check: "database", State: "skipped", Found: "there is no token for it"})
	said.has(t, finding{Check: "tls", Target: s.broker.Addr(), State: "ok", Found: "TLS 1.3"})
	s.identities.grant(forDatabase, true)
	said = i.examine("--json")
	said.has(t, finding{Check: "database", State: "failed", Found: "password authentication failed", Mend: "pgaadauth_create_principal_with_oid"})
	s.granted.Store(true)
	said = i.examine("--echo", "--json")
	for _, want := range []finding{
		{Check: "token", Target: "Service Bus", State: "ok"}, {Check: "token", Target: "Azure Relay", State: "ok"}, {Check: "token", Target: "PostgreSQL", State: "ok"},
		{Check: "listen", State: "ok"}, {Check: "send", State: "ok"}, {Check: "manage", State: "ok"}, {Check: "database", State: "ok", Found: "as " + s.role},
		{Check: "rights", State: "ok"}, {Check: "write", State: "ok"}, {Check: "echo", Target: "/leeds", State: "ok"},
	} {
		said.has(t, want)
	}
	for _, resource := range []string{forServiceBus, forRelay, forDatabase} {
		if len(s.identities.used(resource)) == 0 {
			t.Errorf("no token for %s was shown to its server", resource)
		}
	}
}
