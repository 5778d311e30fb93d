package servicebustest_test

import (
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus/admin"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

// plainHTTP sends the administration client's https requests to the server over http.
type plainHTTP struct{ addr string }

func (p plainHTTP) Do(r *http.Request) (*http.Response, error) {
	r.URL.Scheme, r.URL.Host = "http", p.addr
	return http.DefaultClient.Do(r)
}

func (r *rig) admin(connectionString string) *admin.Client {
	r.t.Helper()
	r.t.Cleanup(http.DefaultClient.CloseIdleConnections)
	client, err := admin.NewClientFromConnectionString(connectionString, &admin.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: plainHTTP{r.server.HTTPAddr()}, Retry: policy.RetryOptions{MaxRetries: -1},
	}})
	must(r.t, err)
	return client
}

func withHTTP(config *servicebustest.Config) {
	withKey(config)
	config.HTTPAddr = "127.0.0.1:0"
	config.Queues = append(config.Queues, servicebustest.Queue{Name: "another"}, servicebustest.Queue{Name: "zones/last"})
}

func TestAdministration(t *testing.T) {
	t.Parallel()
	prove(t, []behaviour{
		{name: "health", config: withHTTP, prove: func(t *testing.T, r *rig) {
			t.Cleanup(http.DefaultClient.CloseIdleConnections)
			response, err := http.Get("http://" + r.server.HTTPAddr() + "/health")
			must(t, err)
			defer response.Body.Close()
			if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != 200 || string(body) != `{"status":"healthy"}` {
				t.Errorf("status %s, body %s, error %v", response.Status, body, err)
			}
		}},
		{name: "properties of a queue", config: withHTTP, queue: servicebustest.Queue{
			LockDuration: 90 * time.Second, MaxDeliveryCount: 7, RequiresSession: true, RequiresDuplicateDetection: true,
			DuplicateDetectionWindow: 20 * time.Minute, DefaultTTL: 36 * time.Hour, DeadLetteringOnExpiration: true,
		}, prove: properties},
		{name: "counts of a queue", config: withHTTP, prove: counts},
		{name: "a disabled queue says so", config: withHTTP, prove: func(t *testing.T, r *rig) {
			r.server.Disable(queueName, true)
			response, err := r.admin(r.server.ConnectionString()).GetQueue(r.ctx, queueName, nil)
			must(t, err)
			if *response.Status != admin.EntityStatusDisabled {
				t.Errorf("status %s", *response.Status)
			}
		}},
		{name: "an unknown queue is nil", config: withHTTP, prove: func(t *testing.T, r *rig) {
			client := r.admin(r.server.ConnectionString())
			for _, name := range []string{"elsewhere", deadName} {
				if response, err := client.GetQueue(r.ctx, name, nil); err != nil || response != nil {
					t.Errorf("%s: %v, %v", name, response, err)
				}
			}
		}},
		{name: "queues are listed page by page", config: withHTTP, prove: func(t *testing.T, r *rig) {
			var names []string
			pager := r.admin(r.server.ConnectionString()).NewListQueuesRuntimePropertiesPager(&admin.ListQueuesRuntimePropertiesOptions{MaxPageSize: 2})
			for pager.More() {
				page, err := pager.NextPage(r.ctx)
				must(t, err)
				for _, q := range page.QueueRuntimeProperties {
					names = append(names, q.QueueName)
				}
			}
			if diff := cmp.Diff([]string{"another", queueName, "zones/last"}, names); diff != "" {
				t.Error(diff)
			}
		}},
		{name: "the wrong key is refused", config: withHTTP, prove: func(t *testing.T, r *rig) {
			token := sign("https://"+r.server.Addr(), testKeyName, "wrong", time.Now().Add(time.Hour))
			client := r.admin("Endpoint=sb://" + r.server.Addr() + ";SharedAccessSignature=" + token)
			_, err := client.GetQueue(r.ctx, queueName, nil)
			var refused *azcore.ResponseError
			if !errors.As(err, &refused) || refused.StatusCode != http.StatusUnauthorized {
				t.Errorf("error %v", err)
			}
		}},
		{name: "tokens are refused here too", config: withHTTP, prove: func(t *testing.T, r *rig) {
			r.server.RefuseTokens(time.Minute)
			if _, err := r.admin(r.server.ConnectionString()).GetQueue(r.ctx, queueName, nil); err == nil {
				t.Error("accepted")
			}
		}},
	})
}

func properties(t *testing.T, r *rig) {
	response, err := r.admin(r.server.ConnectionString()).GetQueue(r.ctx, queueName, nil)
	must(t, err)
	p := response.QueueProperties
	got := map[string]any{
		"lock": *p.LockDuration, "deliveries": *p.MaxDeliveryCount, "session": *p.RequiresSession, "detection": *p.RequiresDuplicateDetection,
		"window": *p.DuplicateDetectionHistoryTimeWindow, "ttl": *p.DefaultMessageTimeToLive, "expiry": *p.DeadLetteringOnMessageExpiration,
		"status": *p.Status, "size": *p.MaxMessageSizeInKilobytes,
	}
	want := map[string]any{
		"lock": "PT1M30S", "deliveries": int32(7), "session": true, "detection": true, "window": "PT20M", "ttl": "P1DT12H", "expiry": true,
		"status": admin.EntityStatusActive, "size": int64(256),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func counts(t *testing.T, r *rig) {
	r.send("deferred", "dead", "locked", "active")
	receiver := r.receiver()
	messages := r.receive(receiver, 3)
	must(t, receiver.DeferMessage(r.ctx, messages[0], nil))
	must(t, receiver.DeadLetterMessage(r.ctx, messages[1], nil))
	_, err := r.sender().ScheduleMessages(r.ctx, []*azservicebus.Message{{}}, time.Now().Add(time.Hour), nil)
	must(t, err)
	client := r.admin(r.server.ConnectionString())
	response, err := client.GetQueueRuntimeProperties(r.ctx, "another", nil)
	must(t, err)
	if response.SizeInBytes != 0 || response.TotalMessageCount != 0 {
		t.Errorf("the other queue holds %d messages of %d bytes", response.TotalMessageCount, response.SizeInBytes)
	}
	response, err = client.GetQueueRuntimeProperties(r.ctx, queueName, nil)
	must(t, err)
	p := response.QueueRuntimeProperties
	got := []int64{int64(p.ActiveMessageCount), int64(p.DeadLetterMessageCount), int64(p.ScheduledMessageCount), p.TotalMessageCount}
	if diff := cmp.Diff([]int64{2, 1, 1, 5}, got); diff != "" {
		t.Error(diff)
	}
	if p.SizeInBytes == 0 || time.Since(p.CreatedAt) > time.Minute {
		t.Errorf("%d bytes, created %s", p.SizeInBytes, p.CreatedAt)
	}
	must(t, receiver.CompleteMessage(r.ctx, messages[2], nil))
	response, err = client.GetQueueRuntimeProperties(r.ctx, queueName, nil)
	must(t, err)
	if response.SizeInBytes == 0 || response.SizeInBytes >= p.SizeInBytes {
		t.Errorf("%d bytes before, %d after completing one", p.SizeInBytes, response.SizeInBytes)
	}
}
