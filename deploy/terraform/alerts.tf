# What Azure's own metrics can tell. Each names its runbook; what only the
# program knows is alerted on from its own metrics, in deploy/monitoring.

resource "azurerm_monitor_metric_alert" "dead_letters" {
  name                = "${var.name}-dead-letters"
  description         = "Dead letters in ${var.queue_name}: actions that were given up. Runbook: ${var.runbooks_url}/dead-letters.md"
  resource_group_name = var.resource_group_name
  scopes              = [var.servicebus_namespace_id]
  severity            = 2
  frequency           = "PT1M"
  window_size         = "PT5M"
  tags                = var.tags

  criteria {
    metric_namespace = "Microsoft.ServiceBus/namespaces"
    metric_name      = "DeadletteredMessages"
    aggregation      = "Maximum"
    operator         = "GreaterThan"
    threshold        = 0

    dimension {
      name     = "EntityName"
      operator = "Include"
      values   = [azurerm_servicebus_queue.actions.name]
    }
  }

  action {
    action_group_id = var.action_group_id
  }
}

resource "azurerm_monitor_metric_alert" "restarts" {
  count = var.deploy_app ? 1 : 0

  name                = "${var.name}-restarts"
  description         = "A replica of ${var.name} restarted more than twice since it was made. Runbook: ${var.runbooks_url}/restarts.md"
  resource_group_name = var.resource_group_name
  scopes              = [azurerm_container_app.app[0].id]
  severity            = 2
  frequency           = "PT5M"
  window_size         = "PT15M"
  tags                = var.tags

  criteria {
    metric_namespace = "Microsoft.App/containerApps"
    metric_name      = "RestartCount"
    aggregation      = "Maximum"
    operator         = "GreaterThan"
    threshold        = 2
  }

  action {
    action_group_id = var.action_group_id
  }
}
