package deploy_test

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

// planted are mistakes that Terraform alone, or the provider, lets pass until
// they hurt, each with the check that must find it.
var planted = []struct {
	name, file, old, new string
	check, says          string
	also                 []string // other checks that may find it too
}{
	{name: "typo in an argument", file: "queue.tf", old: "requires_session ", new: "requires_sessions ",
		check: "schema", says: "requires_sessions", also: []string{"queue", "format"}},
	{name: "typo in a nested argument", file: "app.tf", old: "failure_count_threshold = 30", new: "failure_count_treshold = 30",
		check: "schema", says: "failure_count_treshold", also: []string{"format"}},
	{name: "required argument left out", file: "app.tf", old: "  revision_mode                = \"Single\"\n", new: "",
		check: "schema", says: "revision_mode"},
	{name: "block where none may be", file: "queue.tf", old: "  lifecycle {", new: "  identity {\n    type = \"UserAssigned\"\n  }\n\n  lifecycle {",
		check: "schema", says: "identity"},
	{name: "no such variable", file: "jobs.tf", old: "args   = each.value.args", new: "args   = var.arguments",
		check: "schema", says: "arguments", also: []string{"arguments", "environment", "queue"}},
	{name: "no such attribute", file: "locals.tf", old: "azurerm_user_assigned_identity.app.client_id", new: "azurerm_user_assigned_identity.app.clientid",
		check: "schema", says: "clientid", also: []string{"format", "arguments", "environment", "queue", "grace"}},
	{name: "not formatted", file: "queue.tf", old: "  name         = ", new: "  name = ",
		check: "format", says: "queue.tf"},

	{name: "host name as the scaler's namespace", file: "app.tf", old: "namespace              = local.namespace", new: "namespace              = \"${local.namespace}.servicebus.windows.net\"",
		check: "scale rules", says: "host name"},
	{name: "misspelt key", file: "app.tf", old: "activationMessageCount =", new: "activationMessagecount =",
		check: "scale rules", says: "activationMessagecount"},
	{name: "key in lower case", file: "app.tf", old: "queueName              =", new: "queuename              =",
		check: "scale rules", says: "queueName is missing"},
	{name: "unknown time zone", file: "variables_app.tf", old: `"Europe/London"`, new: `"Europe/Londom"`,
		check: "scale rules", says: "Europe/Londom", also: []string{"arguments"}},
	{name: "cron of six fields", file: "locals.tf", old: "[0])} * * ${local.hours.days}", new: "[0])} * * ${local.hours.days} *",
		check: "scale rules", says: "five fields"},
	{name: "scaler without an identity", file: "app.tf", old: "      identity_id      = azurerm_user_assigned_identity.app.id\n", new: "",
		check: "scale rules", says: "no identity"},

	{name: "grace below the program's", file: "variables_app.tf", old: "default     = 60\n", new: "default     = 50\n",
		check: "grace", says: "kills after 50s"},
	{name: "the program's own grace raised", file: "variables_app.tf", old: "default     = 45\n", new: "default     = 55\n",
		check: "grace", says: "SHUTDOWN_GRACE 55s"},
	{name: "lock of ten minutes", file: "variables_queue.tf", old: `"PT1M"`, new: `"PT10M"`,
		check: "lock", says: "PT10M", also: []string{"queue"}},
	{name: "lock of two seconds", file: "variables_queue.tf", old: `"PT1M"`, new: `"PT2S"`,
		check: "lock", says: "PT2S", also: []string{"queue"}},

	{name: "session flag unequal", file: "queue.tf", old: "requires_session = true", new: "requires_session = false",
		check: "queue", says: "requiresSession is"},
	{name: "duplicate detection on", file: "queue.tf", old: "requires_duplicate_detection = false", new: "requires_duplicate_detection = true",
		check: "queue", says: "requiresDuplicateDetection is true"},
	{name: "expired messages vanish", file: "queue.tf", old: "dead_lettering_on_message_expiration = true", new: "dead_lettering_on_message_expiration = false",
		check: "queue", says: "deadLetteringOnMessageExpiration is false"},
	{name: "the program told of a plain queue", file: "locals.tf", old: "SERVICEBUS_SESSIONS  = \"true\"", new: "SERVICEBUS_SESSIONS  = \"false\"",
		check: "queue", says: "requiresSession is"},

	{name: "wide role", file: "identity.tf", old: `"Azure Service Bus Data Receiver"`, new: `"Contributor"`,
		check: "roles", says: "Contributor"},
	{name: "role on the namespace", file: "identity.tf", old: "azurerm_servicebus_queue.actions.id", new: "var.servicebus_namespace_id",
		check: "roles", says: "too wide"},
	{name: "role on the whole vault", file: "identity.tf", old: "\"${var.relay_keys.key_vault_id}/secrets/${each.value}\"", new: "var.relay_keys.key_vault_id",
		check: "roles", says: "too wide"},
	{name: "fresh identity looked up", file: "identity.tf", old: "skip_service_principal_aad_check = true", new: "skip_service_principal_aad_check = false",
		check: "roles", says: "fresh identity"},

	{name: "unknown variable of the environment", file: "locals.tf", old: "SERVICEBUS_QUEUE     =", new: "SERVICEBUS_QUEUES    =",
		check: "environment", says: "SERVICEBUS_QUEUES", also: []string{"queue"}},
	{name: "setting that the program refuses", file: "locals.tf", old: "\"${var.shutdown_grace_seconds}s\"", new: "\"${var.shutdown_grace_seconds}\"",
		check: "arguments", says: "SHUTDOWN_GRACE", also: []string{"grace"}},
	{name: "no database that the program knows", file: "locals.tf", old: `"postgres://${var.name}@`, new: `"mysql://${var.name}@`,
		check: "arguments", says: "DATABASE_URL"},
	{name: "no such command", file: "jobs.tf", old: `args = ["migrate"]`, new: `args = ["migrations"]`,
		check: "arguments", says: "migrations"},
	{name: "no such flag", file: "variables_app.tf", old: `["dlq", "replay", "--reason-why",`, new: `["dlq", "replay", "--why-reason",`,
		check: "arguments", says: "why-reason"},

	{name: "alert without its runbook", file: "alerts.tf", old: "/dead-letters.md", new: "/deadletters.md",
		check: "alerts", says: "dead-letters"},
	{name: "alert on what is never logged", file: "alerts_log.tf", old: "'gateway is back'", new: "'gateway came back'",
		check: "alerts", says: "gateway came back"},
	{name: "alert on a metric that never comes", file: "alerts_log.tf", old: "'IncomingMessages'", new: "'ActiveMessages'",
		check: "alerts", says: "ActiveMessages is not sent"},
	{name: "alert over several tables at once", file: "alerts_log.tf", old: "toscalar(ContainerAppConsoleLogs_CL", new: "toscalar(union ContainerAppConsoleLogs_CL, ContainerAppSystemLogs_CL",
		check: "alerts", says: "operator union"},
}

// Every planted mistake is found by the check that is there for it, and by no
// other that has nothing to do with it.
func TestPlantedErrors(t *testing.T) {
	t.Parallel()
	for _, p := range planted {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			source := read(t, "terraform/"+p.file)
			if !bytes.Contains(source, []byte(p.old)) {
				t.Fatalf("%s has no %q", p.file, p.old)
			}
			m := readModule(t, "terraform", map[string][]byte{p.file: bytes.Replace(source, []byte(p.old), []byte(p.new), 1)})
			m.evaluate(m.give(everything(t)))
			for name, check := range checks {
				faults := check(t, m)
				switch found := strings.Contains(strings.Join(faults, "\n"), p.says); {
				case name == p.check && !found:
					t.Errorf("%s does not find it: %q", name, faults)
				case name != p.check && len(faults) > 0 && !slices.Contains(p.also, name):
					t.Errorf("%s finds something too: %q", name, faults)
				}
			}
		})
	}
}
