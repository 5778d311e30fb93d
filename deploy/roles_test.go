package deploy_test

import (
	"fmt"
	"regexp"
	"testing"
)

// roles are those that may be given, each with the only scopes that it may be
// given on: never a namespace of Service Bus, a resource group or a subscription.
var roles = map[string]*regexp.Regexp{
	"Azure Service Bus Data Receiver": regexp.MustCompile(`^azurerm_servicebus_queue\.\w+\.id$`),
	"Azure Service Bus Data Sender":   regexp.MustCompile(`^azurerm_servicebus_queue\.\w+\.id$|/namespaces/[^/]+/queues/[^/]+$`),
	"Azure Service Bus Data Owner":    regexp.MustCompile(`^azurerm_servicebus_queue\.\w+\.id$`),
	"Azure Relay Sender":              regexp.MustCompile(`/Microsoft\.Relay/namespaces/[^/]+(/hybridConnections/[^/]+)?$`),
	"Key Vault Secrets User":          regexp.MustCompile(`/Microsoft\.KeyVault/vaults/[^/]+/secrets/[^/]+$`),
	"AcrPull":                         regexp.MustCompile(`/Microsoft\.ContainerRegistry/registries/[^/]+$`),
}

func roleFaults(_ *testing.T, m *module) (faults []string) {
	given := map[string]int{}
	for _, r := range m.resources {
		if r.block.Labels[0] != "azurerm_role_assignment" {
			continue
		}
		for _, one := range r.instances {
			fault := func(format string, args ...any) {
				faults = append(faults, r.address+": "+fmt.Sprintf(format, args...))
			}
			role, scope := asString(at(one, "role_definition_name")), asString(at(one, "scope"))
			given[role]++
			if narrow, known := roles[role]; !known {
				fault("the role %q is not one of those that may be given", role)
			} else if !narrow.MatchString(scope) {
				fault("the role %s on %s is too wide", role, scope)
			}
			if principal := asString(at(one, "principal_id")); principal != "azurerm_user_assigned_identity.app.principal_id" {
				fault("is given to %s", principal)
			}
			if asString(at(one, "principal_type")) != "ServicePrincipal" || !asBool(at(one, "skip_service_principal_aad_check")) {
				fault("a fresh identity would be looked up before the directory knows it")
			}
		}
	}
	for _, role := range []string{"Azure Service Bus Data Receiver", "Azure Service Bus Data Sender", "Azure Relay Sender"} {
		if given[role] == 0 {
			faults = append(faults, "the app has no "+role)
		}
	}
	return faults
}
