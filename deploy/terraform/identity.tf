# One identity for the app, its jobs and its scaler, with the least that works:
# this queue, these relays, these secrets.
resource "azurerm_user_assigned_identity" "app" {
  name                = var.name
  resource_group_name = var.resource_group_name
  location            = var.location
  tags                = var.tags
}

resource "azurerm_role_assignment" "receiver" {
  scope                            = azurerm_servicebus_queue.actions.id
  role_definition_name             = "Azure Service Bus Data Receiver"
  principal_id                     = azurerm_user_assigned_identity.app.principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

# A retry is a scheduled copy, and a replay is a copy.
resource "azurerm_role_assignment" "sender" {
  scope                            = azurerm_servicebus_queue.actions.id
  role_definition_name             = "Azure Service Bus Data Sender"
  principal_id                     = azurerm_user_assigned_identity.app.principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_role_assignment" "outcome_sender" {
  count = var.outcome_queue == null ? 0 : 1

  scope                            = var.outcome_queue.id
  role_definition_name             = "Azure Service Bus Data Sender"
  principal_id                     = azurerm_user_assigned_identity.app.principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_role_assignment" "scaler" {
  count = var.scaler_is_data_owner ? 1 : 0

  scope                            = azurerm_servicebus_queue.actions.id
  role_definition_name             = "Azure Service Bus Data Owner"
  principal_id                     = azurerm_user_assigned_identity.app.principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_role_assignment" "relay" {
  for_each = merge(var.relay_namespace_ids, var.hybrid_connection_ids)

  scope                            = each.value
  role_definition_name             = "Azure Relay Sender"
  principal_id                     = azurerm_user_assigned_identity.app.principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_role_assignment" "relay_key" {
  for_each = var.relay_keys == null ? {} : var.relay_keys.secrets

  scope                            = "${var.relay_keys.key_vault_id}/secrets/${each.value}"
  role_definition_name             = "Key Vault Secrets User"
  principal_id                     = azurerm_user_assigned_identity.app.principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}

resource "azurerm_role_assignment" "pull" {
  count = var.container_registry == null ? 0 : 1

  scope                            = var.container_registry.id
  role_definition_name             = "AcrPull"
  principal_id                     = azurerm_user_assigned_identity.app.principal_id
  principal_type                   = "ServicePrincipal"
  skip_service_principal_aad_check = true
}
