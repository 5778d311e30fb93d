mock_provider "azurerm" {
  override_during = plan

  mock_resource "azurerm_servicebus_queue" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/bus/providers/Microsoft.ServiceBus/namespaces/contoso/queues/worklist-commands" }
  }
  mock_resource "azurerm_user_assigned_identity" {
    defaults = {
      id           = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/worklist/providers/Microsoft.ManagedIdentity/userAssignedIdentities/worklist-relay"
      client_id    = "11111111-1111-1111-1111-111111111111"
      principal_id = "22222222-2222-2222-2222-222222222222"
    }
  }
  mock_resource "azurerm_container_app" {
    defaults = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/worklist/providers/Microsoft.App/containerApps/worklist-relay" }
  }
}

variables {
  resource_group_name          = "worklist"
  location                     = "uksouth"
  container_app_environment_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/apps/providers/Microsoft.App/managedEnvironments/apps"
  log_analytics_workspace_id   = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/logs/providers/Microsoft.OperationalInsights/workspaces/logs"
  action_group_id              = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/logs/providers/Microsoft.Insights/actionGroups/operators"
  servicebus_namespace_id      = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/bus/providers/Microsoft.ServiceBus/namespaces/contoso"
  database                     = { host = "worklist-db.postgres.database.azure.com" }
  image                        = "contoso.azurecr.io/worklist-relay:1.2.3"
  hybrid_connection_ids        = { leeds = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/relay/providers/Microsoft.Relay/namespaces/contoso-relay/hybridConnections/hc-leeds" }
}

run "least" {
  command = plan

  assert {
    condition     = azurerm_role_assignment.receiver.scope == azurerm_servicebus_queue.actions.id && azurerm_role_assignment.sender.scope == azurerm_servicebus_queue.actions.id
    error_message = "a role on more than the queue"
  }
  assert {
    condition     = length(azurerm_role_assignment.scaler) + length(azurerm_role_assignment.outcome_sender) + length(azurerm_role_assignment.relay_key) + length(azurerm_role_assignment.pull) == 0
    error_message = "a role that nothing asked for"
  }
  assert {
    condition     = azurerm_role_assignment.relay["leeds"].role_definition_name == "Azure Relay Sender" && endswith(azurerm_role_assignment.relay["leeds"].scope, "/hybridConnections/hc-leeds")
    error_message = "the role on the hybrid connection"
  }
  assert {
    condition     = azurerm_role_assignment.receiver.principal_type == "ServicePrincipal" && azurerm_role_assignment.receiver.skip_service_principal_aad_check
    error_message = "a fresh identity is looked up before the directory knows it"
  }
}

run "all_that_can_be_asked_for" {
  command = plan

  variables {
    outcome_queue        = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/bus/providers/Microsoft.ServiceBus/namespaces/contoso/queues/worklist-outcomes" }
    container_registry   = { id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/images/providers/Microsoft.ContainerRegistry/registries/Contoso" }
    scaler_is_data_owner = true
    relay_keys = {
      key_vault_id = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/keys/providers/Microsoft.KeyVault/vaults/contoso-keys"
      secrets      = { RELAY_KEY_LEEDS = "relay-leeds" }
    }
    settings = { CONCURRENCY = "32" }
    otel     = { OTEL_EXPORTER_OTLP_ENDPOINT = "http://collector:4317" }
  }

  assert {
    condition     = azurerm_role_assignment.outcome_sender[0].role_definition_name == "Azure Service Bus Data Sender" && endswith(azurerm_role_assignment.outcome_sender[0].scope, "/queues/worklist-outcomes")
    error_message = "the role on the outcome queue"
  }
  assert {
    condition     = endswith(azurerm_role_assignment.relay_key["RELAY_KEY_LEEDS"].scope, "/vaults/contoso-keys/secrets/relay-leeds")
    error_message = "the role is not on the one secret"
  }
  assert {
    condition     = [for secret in azurerm_container_app.app[0].secret : secret.key_vault_secret_id] == ["https://contoso-keys.vault.azure.net/secrets/relay-leeds"]
    error_message = "the reference to the secret"
  }
  assert {
    condition     = anytrue([for entry in azurerm_container_app.app[0].template[0].container[0].env : entry.name == "RELAY_KEY_LEEDS" && entry.secret_name == "relay-key-leeds"])
    error_message = "the variable of the key"
  }
  assert {
    condition     = azurerm_container_app.app[0].registry[0].server == "contoso.azurecr.io"
    error_message = "the registry"
  }
  assert {
    condition     = length(setsubtract(["OUTCOME_QUEUE", "CONCURRENCY", "OTEL_EXPORTER_OTLP_ENDPOINT"], [for entry in azurerm_container_app.app[0].template[0].container[0].env : entry.name])) == 0
    error_message = "a variable that was asked for"
  }
}
