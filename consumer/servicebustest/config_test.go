package servicebustest_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest"
)

func configWith(queues string) string {
	return `{"UserConfig":{"Namespaces":[{"Name":"sbemulatorns","Queues":[` + queues + `]}],"Logging":{"Type":"File"}}}`
}

func TestReadConfig(t *testing.T) {
	t.Parallel()
	got, err := servicebustest.ReadConfig(strings.NewReader(configWith(`
		{"Name":"worklist","Properties":{
			"LockDuration":"PT1M30S","MaxDeliveryCount":3,"RequiresSession":true,"RequiresDuplicateDetection":true,
			"DuplicateDetectionHistoryTimeWindow":"P1DT2H","DefaultMessageTimeToLive":"PT0.5S","DeadLetteringOnMessageExpiration":true,
			"ForwardTo":"","ForwardDeadLetteredMessagesTo":""}},
		{"Name":"forever","Properties":{"DefaultMessageTimeToLive":"P10675199DT2H48M5.4775807S"}},
		{"Name":"plain"}`)))
	must(t, err)
	want := []servicebustest.Queue{
		{
			Name: "worklist", LockDuration: 90 * time.Second, MaxDeliveryCount: 3, RequiresSession: true, RequiresDuplicateDetection: true,
			DuplicateDetectionWindow: 26 * time.Hour, DefaultTTL: 500 * time.Millisecond, DeadLetteringOnExpiration: true,
		},
		{Name: "forever"},
		{Name: "plain"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReadConfigFaults(t *testing.T) {
	t.Parallel()
	property := func(text string) string { return configWith(`{"Name":"a"},{"Name":"q","Properties":{` + text + `}}`) }
	const at = "UserConfig.Namespaces[0].Queues[1]"
	tests := []struct{ name, text, want string }{
		{"empty", "", "EOF"},
		{"no JSON", "{", "EOF"},
		{"a list", "[]", "config: json"},
		{"more behind it", configWith("") + "x", "something follows"},
		{"no user config", "{}", "exactly one namespace"},
		{"no namespace", `{"UserConfig":{}}`, "exactly one namespace"},
		{"two namespaces", `{"UserConfig":{"Namespaces":[{},{}]}}`, "exactly one namespace"},
		{"no name", configWith(`{"Name":"a"},{}`), at + `: queue "": not a name`},
		{"a bad name", configWith(`{"Name":"a"},{"Name":"q?"}`), at + `: queue "q?": not a name`},
		{"a name twice", configWith(`{"Name":"a"},{"Name":"A"}`), at + ".Name: A is there twice"},
		{"an unknown property", property(`"LockDurations":"PT1M"`), at + ".Properties.LockDurations: is not known"},
		{"a number for a duration", property(`"LockDuration":60`), at + ".Properties.LockDuration: 60 is no string"},
		{"a duration in words", property(`"LockDuration":"1 minute"`), at + `.Properties.LockDuration: "1 minute" is no ISO 8601 duration`},
		{"a duration of nothing", property(`"LockDuration":"PT"`), `"PT" is no ISO 8601 duration`},
		{"a duration of zero", property(`"DefaultMessageTimeToLive":"PT0S"`), ".Properties.DefaultMessageTimeToLive: must be above 0"},
		{"a duration in months", property(`"DefaultMessageTimeToLive":"P1M"`), `"P1M" is no ISO 8601 duration`},
		{"a lock too long", property(`"LockDuration":"PT5M1S"`), at + ": queue q: LockDuration 5m1s: must be above 0 and at most 5m0s"},
		{"a count of zero", property(`"MaxDeliveryCount":0`), ".Properties.MaxDeliveryCount: 0 is below 1"},
		{"a count too high", property(`"MaxDeliveryCount":2001`), "MaxDeliveryCount 2001: must be 1 to 2000"},
		{"a count in words", property(`"MaxDeliveryCount":"ten"`), `"ten" is no int`},
		{"a flag in words", property(`"RequiresSession":"yes"`), `"yes" is no bool`},
		{"forwarding", property(`"ForwardTo":"b"`), ".Properties.ForwardTo: forwarding is not supported"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			queues, err := servicebustest.ReadConfig(strings.NewReader(test.text))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("%v, error %v; want %s", queues, err, test.want)
			}
		})
	}
}

func FuzzReadConfig(f *testing.F) {
	f.Add(configWith(`{"Name":"q","Properties":{"LockDuration":"PT1M","MaxDeliveryCount":3}}`))
	f.Add(`{"UserConfig":{"Namespaces":[{"Queues":[{"Name":"q","Properties":{"DefaultMessageTimeToLive":"P99999999999999999W"}}]}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		queues, err := servicebustest.ReadConfig(strings.NewReader(text))
		if err != nil {
			return
		}
		server, err := servicebustest.NewServer(servicebustest.Config{Queues: queues})
		must(t, err) // what ReadConfig accepts, a server can be
		must(t, server.Close())
	})
}
