# All are started by hand, run once and are not tried again: `migrate` before a
# new version of the app, `replay` when dead letters are to be sent again, and
# `command` for any other command, be there a replica to run it in or not.
locals {
  jobs = {
    migrate = { args = ["migrate"], image = var.migrate_image == null ? var.image : var.migrate_image, keys = {} }
    replay  = { args = var.replay_arguments, image = var.image, keys = {} }
    command = { args = var.command_arguments, image = var.image, keys = local.relay_keys }
  }
}

resource "azurerm_container_app_job" "job" {
  for_each = local.jobs

  name                         = "${var.name}-${each.key}"
  resource_group_name          = var.resource_group_name
  location                     = var.location
  container_app_environment_id = var.container_app_environment_id
  workload_profile_name        = var.workload_profile_name
  replica_timeout_in_seconds   = 1800
  replica_retry_limit          = 0
  tags                         = var.tags

  manual_trigger_config {
    parallelism              = 1
    replica_completion_count = 1
  }

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
    for_each = each.value.keys
    content {
      name                = secret.value.name
      identity            = azurerm_user_assigned_identity.app.id
      key_vault_secret_id = secret.value.id
    }
  }

  template {
    container {
      name   = "worklist-relay"
      image  = each.value.image
      cpu    = var.cpu
      memory = local.memory
      args   = each.value.args

      dynamic "env" {
        for_each = local.environment
        content {
          name  = env.key
          value = env.value
        }
      }

      dynamic "env" {
        for_each = each.value.keys
        content {
          name        = env.key
          secret_name = env.value.name
        }
      }
    }
  }

  depends_on = [
    azurerm_role_assignment.receiver,
    azurerm_role_assignment.sender,
    azurerm_role_assignment.relay,
    azurerm_role_assignment.relay_key,
    azurerm_role_assignment.pull,
  ]
}
