package deploy_test

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	_ "time/tzdata" // the zones are judged by the same list everywhere

	"github.com/zclconf/go-cty/cty"
)

// scaleKey is what a scaler makes of a key of its metadata.
type scaleKey struct {
	required bool
	fault    func(string) string // what is wrong with the value; "": nothing
}

// scaleKeys are the keys that each scaler knows. They are case-sensitive, and
// another is ignored without a word.
var scaleKeys = map[string]map[string]scaleKey{
	"azure-servicebus": {
		"namespace":              {required: true, fault: shortName},
		"queueName":              {required: true, fault: anyText},
		"messageCount":           {required: true, fault: wholeNumber},
		"activationMessageCount": {fault: wholeNumber},
		"topicName":              {fault: never},
		"subscriptionName":       {fault: never},
		"connection":             {fault: never},
		"connectionFromEnv":      {fault: never},
		"endpointSuffix":         {fault: anyText},
		"cloud":                  {fault: anyText},
		"operation":              {fault: anyText},
		"useRegex":               {fault: never},
	},
	"cron": {
		"timezone":        {required: true, fault: timeZone},
		"start":           {required: true, fault: cronTime},
		"end":             {required: true, fault: cronTime},
		"desiredReplicas": {required: true, fault: wholeNumber},
	},
}

func anyText(s string) string {
	if s == "" {
		return "is empty"
	}
	return ""
}

// never are keys that would count another thing than this queue, or with a key.
func never(string) string { return "must not be set here" }

var shortNames = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]{4,48}[A-Za-z0-9]$`)

// shortName is a namespace without its domain: the scaler adds that.
func shortName(s string) string {
	if strings.Contains(s, ".") {
		return "is a host name: the scaler takes the short name and adds the domain itself"
	}
	if !shortNames.MatchString(s) {
		return "is no namespace's name"
	}
	return ""
}

func wholeNumber(s string) string {
	if n, err := strconv.Atoi(s); err != nil || n < 0 {
		return "is no whole number"
	}
	return ""
}

func timeZone(s string) string {
	if _, err := time.LoadLocation(s); err != nil || s == "" || s == "Local" {
		return "is no time zone"
	}
	return ""
}

// cronTime is minute, hour, day of month, month and day of week.
func cronTime(s string) string {
	bounds := [][2]int{{0, 59}, {0, 23}, {1, 31}, {1, 12}, {0, 6}}
	fields := strings.Fields(s)
	if len(fields) != len(bounds) {
		return "has not five fields"
	}
	for i, field := range fields {
		for part := range strings.SplitSeq(field, ",") {
			if part == "*" {
				continue
			}
			for end := range strings.SplitSeq(part, "-") {
				if n, err := strconv.Atoi(end); err != nil || n < bounds[i][0] || n > bounds[i][1] {
					return fmt.Sprintf("has %q as field %d", field, i+1)
				}
			}
		}
	}
	return ""
}

func scaleFaults(_ *testing.T, m *module) (faults []string) {
	var queues []string
	for _, q := range m.instancesOf("azurerm_servicebus_queue") {
		queues = append(queues, asString(at(q, "name")))
	}
	var types []string
	for _, app := range m.instancesOf("azurerm_container_app") {
		for _, rule := range elements(at(app, "template", 0, "custom_scale_rule")) {
			typ := asString(at(rule, "custom_rule_type"))
			types = append(types, typ)
			fault := func(format string, args ...any) {
				faults = append(faults, "scale rule "+asString(at(rule, "name"))+": "+fmt.Sprintf(format, args...))
			}
			keys, known := scaleKeys[typ]
			if !known {
				fault("no scaler %q is known here", typ)
			}
			metadata := at(rule, "metadata").AsValueMap()
			for key, value := range metadata {
				if k, known := keys[key]; !known {
					fault("the scaler %s would ignore the key %s", typ, key)
				} else if what := k.fault(asString(value)); what != "" {
					fault("%s %q %s", key, asString(value), what)
				}
			}
			for key, k := range keys {
				if _, given := metadata[key]; k.required && !given {
					fault("%s is missing", key)
				}
			}
			if typ == "azure-servicebus" && asString(at(rule, "identity_id")) == "" {
				fault("it has no identity")
			}
			if name, ok := metadata["queueName"]; ok && !slices.Contains(queues, asString(name)) {
				fault("no queue %s is made here", asString(name))
			}
		}
		template := at(app, "template", 0)
		if least, most := asInt(at(template, "min_replicas")), asInt(at(template, "max_replicas")); least > most || most < 1 {
			faults = append(faults, fmt.Sprintf("%d to %d replicas", least, most))
		}
	}
	if slices.Sort(types); !slices.Equal(types, []string{"azure-servicebus", "cron"}) {
		faults = append(faults, fmt.Sprintf("the scale rules are %v", types))
	}
	return faults
}

// closing is how long the program may need after its SHUTDOWN_GRACE.
const closing = 5 * time.Second

func graceFaults(_ *testing.T, m *module) (faults []string) {
	for _, app := range m.instancesOf("azurerm_container_app") {
		template := at(app, "template", 0)
		platform := time.Duration(asInt(at(template, "termination_grace_period_seconds"))) * time.Second
		own, err := time.ParseDuration(environmentOf(at(template, "container", 0))["SHUTDOWN_GRACE"])
		if err != nil || platform <= own+closing {
			faults = append(faults, fmt.Sprintf("the platform kills after %s, the program needs SHUTDOWN_GRACE %s and %s more", platform, own, closing))
		}
	}
	return faults
}

var isoLock = regexp.MustCompile(`^PT(\d+M)?(\d+S)?$`)

func lockFaults(_ *testing.T, m *module) (faults []string) {
	for _, q := range m.instancesOf("azurerm_servicebus_queue") {
		text := asString(at(q, "lock_duration"))
		lock, err := time.ParseDuration(strings.ToLower(strings.TrimPrefix(text, "PT")))
		if err != nil || !isoLock.MatchString(text) || lock < 5*time.Second || lock > 5*time.Minute {
			faults = append(faults, fmt.Sprintf("lock_duration %s is not between 5 s and 5 min", text))
		}
	}
	return faults
}

// instancesOf are all instances of resources of the type.
func (m *module) instancesOf(typ string) (all []cty.Value) {
	for _, r := range m.resources {
		if r.block.Type == "resource" && r.block.Labels[0] == typ {
			all = append(all, r.instances...)
		}
	}
	return all
}
