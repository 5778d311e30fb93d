# Everything around the module, for an empty subscription. Where parts of it are
# there already, give the module their ids instead.
resource "azurerm_resource_group" "this" {
  name     = var.prefix
  location = var.location
}

resource "azurerm_log_analytics_workspace" "this" {
  name                = var.prefix
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku                 = "PerGB2018"
  retention_in_days   = 30
}

resource "azurerm_monitor_action_group" "this" {
  name                = var.prefix
  resource_group_name = azurerm_resource_group.this.name
  short_name          = "worklist"

  email_receiver {
    name          = "operators"
    email_address = var.alert_email
  }
}

resource "azurerm_container_app_environment" "this" {
  name                       = var.prefix
  resource_group_name        = azurerm_resource_group.this.name
  location                   = azurerm_resource_group.this.location
  logs_destination           = "log-analytics"
  log_analytics_workspace_id = azurerm_log_analytics_workspace.this.id
  infrastructure_subnet_id   = azurerm_subnet.apps.id

  # Azure makes one in any case. Without a name here the next plan would make the environment anew.
  infrastructure_resource_group_name = "${var.prefix}-infrastructure"

  workload_profile {
    name                  = "Consumption"
    workload_profile_type = "Consumption"
  }

  lifecycle {
    # The provider has seen changes where there were none.
    ignore_changes = [infrastructure_resource_group_name, workload_profile]
  }
}

resource "azurerm_servicebus_namespace" "this" {
  name                = "${var.prefix}-bus"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku                 = "Standard"
  local_auth_enabled  = false
  minimum_tls_version = "1.2"
}

resource "azurerm_relay_namespace" "this" {
  name                = "${var.prefix}-relay"
  resource_group_name = azurerm_resource_group.this.name
  location            = azurerm_resource_group.this.location
  sku_name            = "Standard"
}

# Each gateway listens on its own; its identity needs Azure Relay Listener there.
resource "azurerm_relay_hybrid_connection" "gateway" {
  for_each = var.gateways

  name                          = "hc-${each.value}"
  resource_group_name           = azurerm_resource_group.this.name
  relay_namespace_name          = azurerm_relay_namespace.this.name
  requires_client_authorization = true
}

module "worklist_relay" {
  source = "../.."

  resource_group_name          = azurerm_resource_group.this.name
  location                     = azurerm_resource_group.this.location
  container_app_environment_id = azurerm_container_app_environment.this.id
  log_analytics_workspace_id   = azurerm_log_analytics_workspace.this.id
  action_group_id              = azurerm_monitor_action_group.this.id
  servicebus_namespace_id      = azurerm_servicebus_namespace.this.id
  hybrid_connection_ids        = { for name, connection in azurerm_relay_hybrid_connection.gateway : name => connection.id }

  database = {
    host = azurerm_postgresql_flexible_server.this.fqdn
    name = azurerm_postgresql_flexible_server_database.worklist.name
  }

  image         = var.image
  migrate_image = var.migrate_image
  deploy_app    = var.deploy_app

  scaler_is_data_owner = var.scaler_is_data_owner

  command_arguments = var.command_arguments
  replay_arguments  = var.replay_arguments
}
