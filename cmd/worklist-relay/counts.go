package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"

	"github.com/worklist-relay/worklist-relay/consumer"
)

// countsLimit bounds the question for the counts. A report can do without.
const countsLimit = 15 * time.Second

// counts asks the management address of the namespace, which is another than
// the queue's own, how many messages the queue holds. It dials nothing yet.
func (c config) counts() (func(context.Context) (consumer.QueueCounts, error), error) {
	client, err := c.administration()
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context) (consumer.QueueCounts, error) {
		ctx, cancel := context.WithTimeout(ctx, countsLimit)
		defer cancel()
		answer, err := client.GetQueueRuntimeProperties(ctx, c.ServiceBusQueue, nil)
		switch {
		case err != nil:
			return consumer.QueueCounts{}, briefly(err)
		case answer == nil:
			return consumer.QueueCounts{}, errors.New("no such queue at the management address")
		}
		return consumer.QueueCounts{
			Active: int64(answer.ActiveMessageCount), Scheduled: int64(answer.ScheduledMessageCount), DeadLettered: int64(answer.DeadLetterMessageCount),
		}, nil
	}, nil
}

func (c config) administration() (*admin.Client, error) {
	options := &admin.ClientOptions{ClientOptions: azcore.ClientOptions{Retry: policy.RetryOptions{MaxRetries: 1}}}
	if c.ServiceBusAdminURL != "" {
		u, err := url.Parse(c.ServiceBusAdminURL)
		if err != nil {
			return nil, err
		}
		options.Transport = elsewhere{u.Scheme, u.Host}
	}
	if c.ServiceBusConnectionString != "" {
		client, err := admin.NewClientFromConnectionString(c.ServiceBusConnectionString, options)
		if err != nil {
			return nil, errBadConnectionString
		}
		return client, nil
	}
	credential, err := c.credential()
	if err != nil {
		return nil, err
	}
	host, _, err := c.namespace()
	if err != nil {
		return nil, err
	}
	return admin.NewClient(host, credential, options)
}

// briefly is an error of the management address in one line. The SDK's own has
// a dozen.
func briefly(err error) error {
	var answer *azcore.ResponseError
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the management address did not answer within %s", countsLimit)
	case !errors.As(err, &answer):
		line, _, _ := strings.Cut(err.Error(), "\n")
		return errors.New(line)
	case answer.StatusCode == http.StatusUnauthorized || answer.StatusCode == http.StatusForbidden:
		return fmt.Errorf("the management address answered %d: counting needs the right to manage the queue", answer.StatusCode)
	}
	return fmt.Errorf("the management address answered %d", answer.StatusCode)
}

// elsewhere sends what is meant for https of the namespace to a host:port on
// loopback: the SDK knows no other way to reach an emulator.
type elsewhere struct{ scheme, host string }

func (to elsewhere) Do(r *http.Request) (*http.Response, error) {
	moved := r.Clone(r.Context())
	moved.URL.Scheme, moved.URL.Host = to.scheme, to.host
	return loopbackOnly.RoundTrip(moved) // which follows no redirect away from loopback
}

var loopbackOnly = &http.Transport{DisableKeepAlives: true}

// checkAdminURL says what is wrong with SERVICEBUS_ADMIN_URL. What is sent
// there carries a token.
func (c config) checkAdminURL() error {
	if c.ServiceBusAdminURL == "" {
		return nil
	}
	u, err := url.Parse(c.ServiceBusAdminURL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || c.ServiceBusAdminURL != u.Scheme+"://"+u.Host || u.Port() == "" {
		return errors.New("is neither http://HOST:PORT nor https://HOST:PORT")
	}
	if ip := net.ParseIP(u.Hostname()); u.Hostname() != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return errors.New("is not on loopback")
	}
	if c.ServiceBusNamespace != "" && u.Scheme == "http" {
		return errors.New("is http, which goes with SERVICEBUS_CONNECTION_STRING only: a token of Entra ID is not sent in the plain")
	}
	return nil
}
