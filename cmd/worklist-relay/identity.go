package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
)

const (
	// databaseScope is what the token that is a PostgreSQL password is asked for.
	databaseScope = "https://ossrdbms-aad.database.windows.net/.default"

	// tokenLimit bounds one request for a token. Service Bus's own requests have no other bound.
	tokenLimit = 30 * time.Second
)

// identity is whom Entra ID knows this process as. Its credential keeps each
// token until five minutes before it expires. It is comparable, as the
// credential of a relay.Entra has to be.
type identity struct {
	clientID   string // of a managed identity; "": the developer's own login
	credential azcore.TokenCredential
}

// newIdentity asks for nothing yet.
func newIdentity(clientID string) (azcore.TokenCredential, error) {
	var credential azcore.TokenCredential
	var err error
	if clientID != "" {
		// By explicit client id: with several identities the default chain is ambiguous.
		credential, err = azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
			ID: azidentity.ClientID(clientID),
			// The SDK's own retries take ten seconds and more, which leaves no time to say
			// what fails; whoever needs the token tries again anyway.
			ClientOptions: azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: 2, RetryDelay: 500 * time.Millisecond}},
		})
	} else {
		credential, err = azidentity.NewDefaultAzureCredential(nil)
	}
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	return identity{clientID, credential}, nil
}

// GetToken gives the kept token or asks for one, for tokenLimit at most.
func (i identity) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	limited, cancel := context.WithTimeout(ctx, tokenLimit)
	defer cancel()
	token, err := i.credential.GetToken(limited, options)
	if err != nil {
		resource := strings.TrimSuffix(strings.Join(options.Scopes, " "), "/.default")
		return azcore.AccessToken{}, noToken{fmt.Sprintf("token of Entra ID for %s: %s", resource, i.why(limited, err)), errors.Join(limited.Err(), err)}
	}
	return token, nil
}

// why is one line about a token that could not be had, with nothing of what was
// answered: whatever gives tokens may have put one there.
func (i identity) why(limited context.Context, err error) string {
	hint := "log in with `az login`, or give the identity's client id in AZURE_CLIENT_ID"
	if i.clientID != "" {
		hint = "AZURE_CLIENT_ID must be the client id of an identity that this app has; a new one takes minutes to work"
	}
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	switch {
	case limited.Err() != nil:
		return "no answer in time"
	case ok && failed.RawResponse != nil:
		return fmt.Sprintf("answered %d: %s", failed.RawResponse.StatusCode, hint)
	}
	line, _, _ := strings.Cut(err.Error(), "\n") // of many
	line, _, _ = strings.Cut(line, ". To troubleshoot")
	return strings.TrimRight(line, ".") + ": " + hint
}

// noToken says why there is none without the words of its cause, which has many.
type noToken struct {
	text  string
	cause error
}

func (e noToken) Error() string { return e.text }
func (e noToken) Unwrap() error { return e.cause }

// databasePassword is the token that PostgreSQL takes as the password.
func (c config) databasePassword(ctx context.Context) (string, error) {
	credential, err := c.credential()
	if err != nil {
		return "", err
	}
	token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{databaseScope}})
	return token.Token, err
}
