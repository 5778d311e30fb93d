package main

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

// audience is what Entra ID gives a token for.
type audience struct {
	name  string // as findings have it
	scope string
}

// audiences are those that this configuration needs tokens for; none: shared keys.
func (c config) audiences() (list []audience) {
	if c.ServiceBusNamespace != "" {
		list = append(list, audience{"Service Bus", "https://servicebus.azure.net//.default"}) // as the SDK has it: one token for both
	}
	if c.ServiceBusNamespace != "" || c.AzureClientID != "" || c.DatabaseEntra {
		list = append(list, audience{"Azure Relay", "https://relay.azure.net/.default"})
	}
	if c.DatabaseEntra {
		list = append(list, audience{"PostgreSQL", databaseScope})
	}
	return list
}

// lookAtTokens asks for a token for each audience: one identity may have one and
// not another.
func (d *doctor) lookAtTokens(ctx context.Context) []finding {
	list := d.config.audiences()
	if len(list) == 0 {
		return []finding{{Check: "token", State: note, Found: "nothing that is configured needs a token of Entra ID"}}
	}
	credential, err := d.config.credential()
	if err != nil {
		return []finding{d.bad(ctx, "token", "", oneLine(err), d.mendToken())}
	}
	var probes []probe
	for _, r := range list {
		probes = append(probes, probe{check: "token", target: r.name, look: func(ctx context.Context) []finding {
			return []finding{d.askToken(ctx, credential, r)}
		}})
	}
	var findings []finding
	for i, found := range d.together(ctx, 0, probes...) {
		findings = append(findings, found...)
		if anyFailed(found) {
			d.cut["token for "+list[i].name] = "there is no token for it"
		}
	}
	return findings
}

func (d *doctor) askToken(ctx context.Context, from azcore.TokenCredential, r audience) finding {
	token, err := from.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{r.scope}})
	switch {
	case err != nil && ctx.Err() == context.DeadlineExceeded:
		return d.bad(ctx, "token", r.name, fmt.Sprintf("no token within %s", d.timeout), d.mendToken())
	case err != nil:
		return d.bad(ctx, "token", r.name, whyNoToken(err), d.mendToken())
	}
	f := finding{Check: "token", Target: r.name, State: fine, Found: fmt.Sprintf("%s, until %s", identityIn(token.Token), token.ExpiresOn.UTC().Format("15:04 UTC"))}
	if left := time.Until(token.ExpiresOn); left <= 0 {
		f.State, f.Found = warning, f.Found+", which is past"
		f.Mend = "This machine's clock is wrong, or the source of tokens is."
	}
	return f
}

var entraCode = regexp.MustCompile(`AADSTS[0-9]+`) // by which Entra ID's errors are documented

// whyNoToken has nothing of what was answered but its code: whatever gives
// tokens may have put one there.
func whyNoToken(err error) string {
	refused, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if !ok || refused.RawResponse == nil {
		return oneLine(err)
	}
	said := fmt.Sprintf("refused with %d", refused.RawResponse.StatusCode)
	if code := entraCode.FindString(refused.Error()); code != "" {
		said += ", " + code
	}
	return said
}

func (d *doctor) mendToken() string {
	if d.config.AzureClientID != "" {
		return "Is the managed identity assigned to this container? AZURE_CLIENT_ID must be its client id, not its object id or its name. A new assignment takes some minutes to work."
	}
	return "In Azure, set AZURE_CLIENT_ID to the client id of the managed identity. On your own machine, log in with `az login`."
}

// identityIn says whose a token is and whom it is for. Nothing vouches for that
// here: it is not verified, only told. The token itself is never printed.
func identityIn(token string) string {
	var claims struct {
		AppID    string `json:"appid"`
		Azp      string `json:"azp"` // the same, in tokens of version 2
		OID      string `json:"oid"`
		Audience string `json:"aud"`
		Tenant   string `json:"tid"`
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return "a token that does not say whose it is"
	}
	text, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil || json.Unmarshal(text, &claims) != nil {
		return "a token that does not say whose it is"
	}
	if claims.AppID == "" {
		claims.AppID = claims.Azp
	}
	var said []string
	for _, claim := range []struct{ name, value string }{{"app id", claims.AppID}, {"object id", claims.OID}, {"tenant", claims.Tenant}, {"audience", claims.Audience}} {
		if claim.value != "" {
			said = append(said, claim.name+" "+lastOf(claim.value, 80))
		}
	}
	return strings.Join(said, ", ")
}

// oneLine is the first line of an error, cut: the SDK's have a dozen, with answers in full.
func oneLine(err error) string {
	line, _, _ := strings.Cut(strings.TrimSpace(err.Error()), "\n")
	return cutTo(strings.TrimSpace(line), 300)
}

// cutTo is text, or its beginning with n characters.
func cutTo(text string, n int) string {
	if runes := []rune(text); len(runes) > n {
		return string(runes[:n-1]) + "…"
	}
	return text
}
