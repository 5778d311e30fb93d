package servicebustest_test

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

// A namespace that takes tokens of Entra ID alone, over TLS, as in production.
func TestTLS(t *testing.T) {
	t.Parallel()
	config := func(config *servicebustest.Config) {
		config.TLS, config.HTTPAddr = true, "127.0.0.1:0"
		withJWT(config)
	}
	prove(t, []behaviour{
		{name: "the SDK sends and receives", config: config, prove: func(t *testing.T, r *rig) {
			r.client = r.dialTLS("SYNTHETIC.JWT.TOKEN")
			r.send("a")
			messages, err := r.receiver().ReceiveMessages(r.ctx, 1, nil)
			must(t, err)
			if string(messages[0].Body) != "a" {
				t.Errorf("received %q", messages[0].Body)
			}
		}},
		{name: "another token is refused", config: config, prove: func(t *testing.T, r *rig) {
			sender, err := r.dialTLS("SYNTHETIC.ANOTHER.TOKEN").NewSender(queueName, nil)
			must(t, err)
			code(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil), azservicebus.CodeUnauthorizedAccess)
		}},
		{name: "connections are cut and come back", config: config, prove: func(t *testing.T, r *rig) {
			r.client = r.dialTLS("SYNTHETIC.JWT.TOKEN")
			sender := r.sender()
			for range 3 {
				must(t, sender.SendMessage(r.ctx, &azservicebus.Message{}, nil))
				r.server.DropConnections()
			}
		}},
		{name: "the administration client counts", config: config, prove: func(t *testing.T, r *rig) {
			for token, taken := range map[string]bool{"SYNTHETIC.JWT.TOKEN": true, "SYNTHETIC.ANOTHER.TOKEN": false} {
				client, err := admin.NewClient("127.0.0.1", bearer(token), &admin.ClientOptions{ClientOptions: azcore.ClientOptions{
					Transport: httpsTo{r.server}, Retry: policy.RetryOptions{MaxRetries: -1},
				}})
				must(t, err)
				if _, err := client.GetQueue(r.ctx, queueName, nil); (err == nil) != taken {
					t.Errorf("%s: %v", token, err)
				}
			}
		}},
	})
	plain, err := servicebustest.NewServer(servicebustest.Config{})
	must(t, err)
	defer plain.Close()
	if plain.CertificatePEM() != nil || plain.CertPool() != nil {
		t.Error("a server without TLS has a certificate")
	}
}

// bearer is an identity with one token.
type bearer string

func (b bearer) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(b), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (r *rig) dialTLS(token string) *azservicebus.Client {
	r.t.Helper()
	client, err := azservicebus.NewClient("127.0.0.1", bearer(token), &azservicebus.ClientOptions{
		CustomEndpoint: r.server.Addr(), TLSConfig: &tls.Config{RootCAs: r.server.CertPool()},
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 3, RetryDelay: 20 * time.Millisecond, MaxRetryDelay: 200 * time.Millisecond},
	})
	must(r.t, err)
	r.t.Cleanup(func() { client.Close(context.Background()) })
	return client
}

// httpsTo sends what is meant for the namespace to the server.
type httpsTo struct{ server *servicebustest.Server }

func (to httpsTo) Do(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.URL = &url.URL{Scheme: "https", Host: to.server.HTTPAddr(), Path: r.URL.Path, RawQuery: r.URL.RawQuery}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: to.server.CertPool()}, DisableKeepAlives: true}
	return transport.RoundTrip(r)
}
