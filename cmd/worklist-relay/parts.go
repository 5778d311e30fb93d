package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// credential is the identity that Entra ID gives tokens to.
func (c config) credential() (azcore.TokenCredential, error) {
	if c.AzureClientID != "" {
		// By explicit client id: with several identities the default chain is ambiguous.
		return azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{
			ID: azidentity.ClientID(c.AzureClientID),
		})
	}
	return azidentity.NewDefaultAzureCredential(nil)
}

// errBadConnectionString stands in for the SDK's text, which can quote the
// string: it holds a key.
var errBadConnectionString = errors.New("SERVICEBUS_CONNECTION_STRING is no connection string: give Endpoint=sb://HOST;SharedAccessKeyName=NAME;SharedAccessKey=KEY")

// connect opens a client for the namespace. It dials nothing yet.
func (c config) connect() (*azservicebus.Client, error) {
	if c.ServiceBusConnectionString != "" {
		client, err := azservicebus.NewClientFromConnectionString(c.ServiceBusConnectionString, nil)
		if err != nil {
			return nil, errBadConnectionString
		}
		return client, nil
	}
	credential, err := c.credential()
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	client, err := azservicebus.NewClient(c.ServiceBusNamespace, credential, nil)
	if err != nil {
		return nil, fmt.Errorf("SERVICEBUS_NAMESPACE %q: %w", c.ServiceBusNamespace, err)
	}
	return client, nil
}

// entra is the token source for relays without a key; nil where only shared
// keys are configured.
func (c config) entra() (relay.TokenSource, error) {
	if c.ServiceBusNamespace == "" && c.AzureClientID == "" {
		return nil, nil
	}
	credential, err := c.credential()
	if err != nil {
		return nil, fmt.Errorf("credential: %w", err)
	}
	return relay.Entra{Credential: credential}, nil
}

// gateways is the client that actions and echoes go through. The caller closes it.
func (c config) gateways() *relay.Client {
	return &relay.Client{
		ConnectTimeout: c.ConnectTimeout, TLSTimeout: c.TLSTimeout, HandshakeTimeout: c.HandshakeTimeout,
		AckTimeout: c.AckTimeout, IdleTimeout: c.IdleTimeout,
		AllowHosts: c.RelayAllowHosts, PlainHosts: c.RelayPlainHosts, RootCAs: c.roots,
	}
}

func (c config) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// openStore opens the database for an operator's command: reachable, and with
// the schema of this program.
func (c config) openStore(ctx context.Context) (*store.Store, error) {
	if file, isFile := strings.CutPrefix(c.DatabaseURL, "sqlite:"); isFile {
		// Opening would make an empty database of what may be a typing mistake.
		if _, err := os.Stat(file); err != nil {
			return nil, failure{exitConfig, fmt.Errorf("database %s is not there: name another, or make it with `worklist-relay migrate`", file)}
		}
	}
	s, err := store.Open(ctx, c.DatabaseURL)
	if err != nil {
		return nil, err
	}
	if err := s.CheckSchema(ctx); err != nil {
		_ = s.Close()
		return nil, failure{exitConfig, err}
	}
	return s, nil
}
