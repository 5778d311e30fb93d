package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

// terraformed is the queue as Terraform makes it.
func terraformed(t *testing.T, q cty.Value) consumer.QueueProperties {
	t.Helper()
	return consumer.QueueProperties{
		RequiresSession:      asBool(at(q, "requires_session")),
		DuplicateDetection:   asBool(at(q, "requires_duplicate_detection")),
		DeadLetterOnExpiry:   asBool(at(q, "dead_lettering_on_message_expiration")),
		LockDuration:         duration(asString(at(q, "lock_duration"))),
		MaxDeliveryCount:     asInt(at(q, "max_delivery_count")),
		DefaultTTL:           duration(asString(at(q, "default_message_ttl"))),
		AutoDeleteOnIdle:     duration(asString(at(q, "auto_delete_on_idle"))),
		Partitioned:          asBool(at(q, "partitioning_enabled")),
		ForwardTo:            asString(at(q, "forward_to")),
		ForwardDeadLettersTo: asString(at(q, "forward_dead_lettered_messages_to")),
		Status:               asString(at(q, "status")),
	}
}

// duration is 0 for what is not given and for what is none.
func duration(text string) time.Duration {
	d, err := consumer.QueueDuration(text)
	if err != nil {
		return 0
	}
	return d
}

// queueFaults compares what three say of the queue: Terraform, Config.json, and
// the program, which says what it needs and is told what it gets.
func queueFaults(t *testing.T, m *module) (faults []string) {
	queues := m.instancesOf("azurerm_servicebus_queue")
	if len(queues) != 1 {
		return []string{fmt.Sprintf("%d queues", len(queues))}
	}
	made, local := terraformed(t, queues[0]), emulated(t)[sessionQueue]
	for where, c := range m.containers() {
		environment := environmentOf(c)
		if told := environment["SERVICEBUS_QUEUE"]; told != asString(at(queues[0], "name")) {
			faults = append(faults, fmt.Sprintf("%s takes actions from %q", where, told))
		}
		needs := consumer.QueueNeeds{Sessions: environment["SERVICEBUS_SESSIONS"] == "true"}
		for _, fault := range needs.Faults(made) {
			faults = append(faults, fmt.Sprintf("the queue that %s takes from: %v", where, fault))
		}
	}
	if made.RequiresSession != local.RequiresSession || made.DuplicateDetection != local.DuplicateDetection || made.DeadLetterOnExpiry != local.DeadLetterOnExpiry {
		faults = append(faults, fmt.Sprintf("Terraform's queue is %+v, Config.json's %+v", made, local))
	}
	return faults
}

// sessionQueue is the queue of Config.json that is as production's. The other,
// worklist-commands, is a plain one: what `local serve --config` takes by its name.
const sessionQueue = "worklist-commands-sessions"

// emulated are the queues of Config.json.
func emulated(t *testing.T) map[string]consumer.QueueProperties {
	t.Helper()
	type properties struct {
		RequiresSession, RequiresDuplicateDetection, DeadLetteringOnMessageExpiration bool

		LockDuration, DefaultMessageTimeToLive string
		MaxDeliveryCount                       int
	}
	var file struct {
		UserConfig struct {
			Namespaces []struct {
				Queues []struct {
					Name       string
					Properties properties
				}
			}
		}
	}
	if err := json.Unmarshal(read(t, "local/Config.json"), &file); err != nil {
		t.Fatal(err)
	}
	queues := map[string]consumer.QueueProperties{}
	for _, q := range file.UserConfig.Namespaces[0].Queues {
		p := q.Properties
		queues[q.Name] = consumer.QueueProperties{
			RequiresSession: p.RequiresSession, DuplicateDetection: p.RequiresDuplicateDetection, DeadLetterOnExpiry: p.DeadLetteringOnMessageExpiration,
			LockDuration: duration(p.LockDuration), MaxDeliveryCount: p.MaxDeliveryCount, DefaultTTL: duration(p.DefaultMessageTimeToLive),
		}
	}
	return queues
}

// The program can work with both queues of Config.json, and the in-process
// Service Bus takes the file. The emulator keeps no message for longer than an hour.
func TestEmulatorConfig(t *testing.T) {
	t.Parallel()
	queues, err := servicebustest.ReadConfig(bytes.NewReader(read(t, "local/Config.json")))
	if err != nil || len(queues) != 2 {
		t.Errorf("%d queues: %v", len(queues), err)
	}
	for name, sessions := range map[string]bool{sessionQueue: true, "worklist-commands": false} {
		var wrong []string
		for _, fault := range (consumer.QueueNeeds{Sessions: sessions}).Faults(emulated(t)[name]) {
			wrong = append(wrong, fault.Property)
		}
		if !slices.Equal(wrong, []string{"defaultMessageTimeToLive"}) {
			t.Errorf("%s has faults in %v", name, wrong)
		}
	}
}
