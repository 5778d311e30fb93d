package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// credential is the identity that Entra ID gives tokens to: one for the whole
// process, so that a token is asked for once.
func (c config) credential() (azcore.TokenCredential, error) { return c.identity() }

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
		return nil, err
	}
	host, endpoint, err := c.namespace()
	if err != nil {
		return nil, err
	}
	client, err := azservicebus.NewClient(host, credential, &azservicebus.ClientOptions{CustomEndpoint: endpoint})
	if err != nil {
		return nil, fmt.Errorf("SERVICEBUS_NAMESPACE %q: %w", c.ServiceBusNamespace, err)
	}
	return client, nil
}

// namespace takes SERVICEBUS_NAMESPACE apart: the name that tokens and
// certificate are for, and what is dialled instead, where a port is given. The
// SDK would look for a certificate that names the port too.
func (c config) namespace() (host, endpoint string, err error) {
	host = c.ServiceBusNamespace
	if strings.Contains(host, ":") {
		endpoint = host
		var port string
		if host, port, err = net.SplitHostPort(endpoint); err == nil {
			_, err = strconv.ParseUint(port, 10, 16)
		}
	}
	if err != nil || host == "" || strings.ContainsAny(host, "/@? ") {
		return "", "", fmt.Errorf("SERVICEBUS_NAMESPACE %q is neither a host name nor host:port: give contoso.servicebus.windows.net", c.ServiceBusNamespace)
	}
	return host, endpoint, nil
}

// entra is the token source for relays without a key; nil where only shared
// keys are configured.
func (c config) entra() (relay.TokenSource, error) {
	if c.ServiceBusNamespace == "" && c.AzureClientID == "" && !c.DatabaseEntra {
		return nil, nil
	}
	credential, err := c.credential()
	if err != nil {
		return nil, err
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

// openDatabase opens the database, whatever its schema.
func (c config) openDatabase(ctx context.Context) (*store.Store, error) {
	if c.DatabaseEntra {
		return store.Open(ctx, c.DatabaseURL, store.WithPassword(c.databasePassword))
	}
	return store.Open(ctx, c.DatabaseURL)
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
	s, err := c.openDatabase(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.CheckSchema(ctx); err != nil {
		_ = s.Close()
		return nil, failure{exitConfig, err}
	}
	return s, nil
}
