package deploy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

// flags are what two queues must agree in to be the same to the program.
type flags struct {
	Session             bool
	DuplicateDetection  bool
	DeadLetterOnExpired bool
}

// wanted are the flags by who says them. A third voice belongs here.
func wanted(t *testing.T, m *module) map[string]flags {
	t.Helper()
	all := map[string]flags{"deploy/local/Config.json": emulated(t)[sessionQueue]}
	for _, q := range m.instancesOf("azurerm_servicebus_queue") {
		all["deploy/terraform"] = flags{
			Session:             asBool(at(q, "requires_session")),
			DuplicateDetection:  asBool(at(q, "requires_duplicate_detection")),
			DeadLetterOnExpired: asBool(at(q, "dead_lettering_on_message_expiration")),
		}
	}
	// What the program is told of the queue.
	for where, c := range m.containers() {
		all[where] = flags{Session: environmentOf(c)["SERVICEBUS_SESSIONS"] == "true", DeadLetterOnExpired: true}
	}
	return all
}

func queueFaults(t *testing.T, m *module) (faults []string) {
	all := wanted(t, m)
	if len(all) < 5 {
		faults = append(faults, fmt.Sprintf("only %v say what the queue is", slices.Sorted(maps.Keys(all))))
	}
	for who, says := range all {
		if says != (flags{Session: true, DeadLetterOnExpired: true}) {
			faults = append(faults, fmt.Sprintf("%s: the queue is %+v", who, says))
		}
	}
	for _, q := range m.instancesOf("azurerm_servicebus_queue") {
		if n := asInt(at(q, "max_delivery_count")); n < 10 {
			faults = append(faults, fmt.Sprintf("max_delivery_count %d: a few crashes would dead-letter an action that nobody refused", n))
		}
		for _, c := range m.containers() {
			if told := environmentOf(c)["SERVICEBUS_QUEUE"]; told != asString(at(q, "name")) {
				faults = append(faults, fmt.Sprintf("the program takes actions from %q", told))
			}
		}
	}
	return faults
}

// sessionQueue is the queue of Config.json that is as production's. The other,
// worklist-commands, is a plain one: what `local serve --config` takes by its name.
const sessionQueue = "worklist-commands-sessions"

func emulated(t *testing.T) map[string]flags {
	t.Helper()
	var file struct {
		UserConfig struct {
			Namespaces []struct {
				Name   string
				Queues []struct {
					Name       string
					Properties struct {
						RequiresSession, RequiresDuplicateDetection, DeadLetteringOnMessageExpiration bool
					}
				}
			}
		}
	}
	if err := json.Unmarshal(read(t, "local/Config.json"), &file); err != nil {
		t.Fatal(err)
	}
	queues := map[string]flags{}
	for _, q := range file.UserConfig.Namespaces[0].Queues {
		queues[q.Name] = flags{q.Properties.RequiresSession, q.Properties.RequiresDuplicateDetection, q.Properties.DeadLetteringOnMessageExpiration}
	}
	return queues
}

// Config.json has the production's queue and a plain one, and the in-process Service Bus takes it.
func TestEmulatorConfig(t *testing.T) {
	queues, err := servicebustest.ReadConfig(bytes.NewReader(read(t, "local/Config.json")))
	if err != nil || len(queues) != 2 {
		t.Errorf("%d queues: %v", len(queues), err)
	}
	got := emulated(t)
	for name, want := range map[string]flags{
		sessionQueue:        {Session: true, DeadLetterOnExpired: true},
		"worklist-commands": {DeadLetterOnExpired: true},
	} {
		if got[name] != want {
			t.Errorf("%s is %+v, want %+v", name, got[name], want)
		}
	}
}
