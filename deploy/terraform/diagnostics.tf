resource "azurerm_monitor_diagnostic_setting" "servicebus" {
  count = var.servicebus_diagnostics_enabled ? 1 : 0

  name                       = var.name
  target_resource_id         = var.servicebus_namespace_id
  log_analytics_workspace_id = var.log_analytics_workspace_id

  # Who made, changed and deleted queues.
  enabled_log {
    category = "OperationalLogs"
  }

  enabled_metric {
    category = "AllMetrics"
  }
}

resource "azurerm_monitor_diagnostic_setting" "relay" {
  for_each = var.relay_diagnostics_enabled ? var.relay_namespace_ids : {}

  name                       = var.name
  target_resource_id         = each.value
  log_analytics_workspace_id = var.log_analytics_workspace_id

  enabled_metric {
    category = "AllMetrics"
  }
}
