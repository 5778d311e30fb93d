resource "azurerm_container_app" "app" {
  count = var.deploy_app ? 1 : 0

  name                         = var.name
  resource_group_name          = var.resource_group_name
  container_app_environment_id = var.container_app_environment_id
  workload_profile_name        = var.workload_profile_name
  revision_mode                = "Single"
  tags                         = var.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.app.id]
  }

  dynamic "registry" {
    for_each = local.registry
    content {
      server   = registry.value
      identity = azurerm_user_assigned_identity.app.id
    }
  }

  dynamic "secret" {
    for_each = local.relay_keys
    content {
      name                = secret.value.name
      identity            = azurerm_user_assigned_identity.app.id
      key_vault_secret_id = secret.value.id
    }
  }

  template {
    min_replicas                     = var.min_replicas
    max_replicas                     = var.max_replicas
    polling_interval_in_seconds      = var.polling_interval_seconds
    cooldown_period_in_seconds       = var.cooldown_period_seconds
    termination_grace_period_seconds = var.termination_grace_period_seconds

    # Keys and values are the scaler's own: it ignores a key that it does not know.
    custom_scale_rule {
      name             = "queue"
      custom_rule_type = "azure-servicebus"
      identity_id      = azurerm_user_assigned_identity.app.id
      metadata = {
        namespace              = local.namespace
        queueName              = azurerm_servicebus_queue.actions.name
        messageCount           = tostring(var.messages_per_replica)
        activationMessageCount = "0"
      }
    }

    # Rules combine as a maximum: this one is the floor in clinic hours.
    dynamic "custom_scale_rule" {
      for_each = local.cron
      content {
        name             = "clinic-hours"
        custom_rule_type = "cron"
        metadata         = custom_scale_rule.value
      }
    }

    container {
      name   = "worklist-relay"
      image  = var.image
      cpu    = var.cpu
      memory = local.memory
      args   = ["run"]

      env {
        name  = "HTTP_ADDR"
        value = ":8080"
      }

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = local.relay_keys
        content {
          name        = env.key
          secret_name = env.value.name
        }
      }

      # New role assignments take minutes to work, and the program waits for them.
      startup_probe {
        transport               = "HTTP"
        port                    = 8080
        path                    = "/healthz/startup"
        interval_seconds        = 10
        timeout                 = 5
        failure_count_threshold = 30
      }

      # Never a dependency: a restart mends none.
      liveness_probe {
        transport               = "HTTP"
        port                    = 8080
        path                    = "/livez"
        interval_seconds        = 10
        timeout                 = 5
        failure_count_threshold = 3
      }

      readiness_probe {
        transport               = "HTTP"
        port                    = 8080
        path                    = "/readyz"
        interval_seconds        = 10
        timeout                 = 5
        failure_count_threshold = 3
        success_count_threshold = 1
      }
    }
  }

  depends_on = [
    azurerm_role_assignment.receiver,
    azurerm_role_assignment.sender,
    azurerm_role_assignment.outcome_sender,
    azurerm_role_assignment.scaler,
    azurerm_role_assignment.relay,
    azurerm_role_assignment.relay_key,
    azurerm_role_assignment.pull,
  ]
}
