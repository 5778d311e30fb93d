# These need the provider's schema, and no subscription: terraform init, then
# terraform test. Terraform 1.11 or later.

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
  image                        = "contoso.azurecr.io/worklist-relay@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  hybrid_connection_ids        = { leeds = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/relay/providers/Microsoft.Relay/namespaces/contoso-relay/hybridConnections/hc-leeds" }
}

run "queue" {
  command = plan

  assert {
    condition     = azurerm_servicebus_queue.actions.requires_session && !azurerm_servicebus_queue.actions.requires_duplicate_detection && azurerm_servicebus_queue.actions.dead_lettering_on_message_expiration
    error_message = "sessions on, duplicate detection off, expired messages to the dead letters"
  }
  assert {
    condition     = azurerm_servicebus_queue.actions.lock_duration == "PT1M" && azurerm_servicebus_queue.actions.default_message_ttl == "P14D"
    error_message = "lock or time to live"
  }
}

run "scale" {
  command = plan

  assert {
    condition     = [for rule in azurerm_container_app.app[0].template[0].custom_scale_rule : rule.custom_rule_type] == ["azure-servicebus", "cron"]
    error_message = "the queue's rule and the clinic hours' are not both there"
  }
  assert {
    condition = azurerm_container_app.app[0].template[0].custom_scale_rule[0].metadata == tomap({
      namespace = "contoso", queueName = "worklist-commands", messageCount = "50", activationMessageCount = "0"
    })
    error_message = "metadata of the queue's rule"
  }
  assert {
    condition     = azurerm_container_app.app[0].template[0].custom_scale_rule[0].identity_id == azurerm_user_assigned_identity.app.id
    error_message = "the scaler does not use the identity"
  }
  assert {
    condition = azurerm_container_app.app[0].template[0].custom_scale_rule[1].metadata == tomap({
      timezone = "Europe/London", start = "0 7 * * 1,2,3,4,5", end = "0 19 * * 1,2,3,4,5", desiredReplicas = "1"
    })
    error_message = "metadata of the clinic hours' rule"
  }
  assert {
    condition     = azurerm_container_app.app[0].template[0].min_replicas == 0 && azurerm_container_app.app[0].template[0].max_replicas == 3
    error_message = "replicas"
  }
}

run "no_clinic_hours" {
  command = plan
  variables { clinic_hours = null }

  assert {
    condition     = length(azurerm_container_app.app[0].template[0].custom_scale_rule) == 1
    error_message = "a cron rule without clinic hours"
  }
  assert {
    condition     = alltrue([for alert in azurerm_monitor_scheduled_query_rules_alert_v2.log : !strcontains(alert.criteria[0].query, "datetime_utc_to_local")])
    error_message = "an alert looks at the clock without clinic hours"
  }
}

run "environment" {
  command = plan

  assert {
    condition = { for entry in azurerm_container_app.app[0].template[0].container[0].env : entry.name => entry.value } == {
      AZURE_CLIENT_ID      = "11111111-1111-1111-1111-111111111111"
      CLINIC_TIME_ZONE     = "Europe/London"
      DATABASE_ENTRA       = "true"
      DATABASE_URL         = "postgres://worklist-relay@worklist-db.postgres.database.azure.com:5432/worklist?sslmode=verify-full"
      HTTP_ADDR            = ":8080"
      LOG_FORMAT           = "json"
      SERVICEBUS_NAMESPACE = "contoso.servicebus.windows.net"
      SERVICEBUS_QUEUE     = "worklist-commands"
      SERVICEBUS_SESSIONS  = "true"
      SHUTDOWN_GRACE       = "45s"
    }
    error_message = "environment of the app"
  }
  assert {
    condition     = azurerm_container_app.app[0].template[0].termination_grace_period_seconds == 60
    error_message = "the platform's grace"
  }
}

run "jobs" {
  command = plan

  assert {
    condition     = azurerm_container_app_job.job["migrate"].template[0].container[0].args == tolist(["migrate"])
    error_message = "arguments of the migration"
  }
  assert {
    condition     = !contains(azurerm_container_app_job.job["replay"].template[0].container[0].args, "--yes") && azurerm_container_app_job.job["replay"].replica_retry_limit == 0
    error_message = "the reprocessing job is not a dry run that runs once"
  }
}

run "a_new_schema" {
  command = plan
  variables { migrate_image = "contoso.azurecr.io/worklist-relay:2.0.0" }

  assert {
    condition     = azurerm_container_app_job.job["migrate"].template[0].container[0].image == "contoso.azurecr.io/worklist-relay:2.0.0"
    error_message = "the migration is not the new version's"
  }
  assert {
    condition     = azurerm_container_app_job.job["replay"].template[0].container[0].image == var.image && azurerm_container_app.app[0].template[0].container[0].image == var.image
    error_message = "something runs on a schema that is not there yet"
  }
}

run "before_the_app" {
  command = plan
  variables { deploy_app = false }

  assert {
    condition     = length(azurerm_container_app.app) == 0 && length(azurerm_container_app_job.job) == 2
    error_message = "without the app, the jobs must be there"
  }
}
