mock_provider "azurerm" {}

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

run "full_name_as_namespace_id" {
  command = plan
  variables {
    servicebus_namespace_id = "contoso.servicebus.windows.net"
  }
  expect_failures = [var.servicebus_namespace_id]
}

run "host_name_in_namespace_id" {
  command = plan
  variables {
    servicebus_namespace_id = "/subscriptions/0/resourceGroups/bus/providers/Microsoft.ServiceBus/namespaces/contoso.servicebus.windows.net"
  }
  expect_failures = [var.servicebus_namespace_id]
}

run "lock_of_ten_minutes" {
  command = plan
  variables {
    lock_duration = "PT10M"
  }
  expect_failures = [var.lock_duration]
}

run "lock_of_ten_seconds" {
  command = plan
  variables {
    lock_duration = "PT10S"
  }
  expect_failures = [var.lock_duration]
}

run "few_deliveries" {
  command = plan
  variables {
    max_delivery_count = 3
  }
  expect_failures = [var.max_delivery_count]
}

run "short_life" {
  command = plan
  variables {
    message_ttl_days = 1
  }
  expect_failures = [var.message_ttl_days]
}

run "latest" {
  command = plan
  variables {
    image = "contoso.azurecr.io/worklist-relay:latest"
  }
  expect_failures = [var.image]
}

run "no_tag" {
  command = plan
  variables {
    image = "contoso.azurecr.io/worklist-relay"
  }
  expect_failures = [var.image]
}

run "latest_to_migrate" {
  command = plan
  variables {
    migrate_image = "contoso.azurecr.io/worklist-relay:latest"
  }
  expect_failures = [var.migrate_image]
}

run "grace_too_short" {
  command = plan
  variables {
    termination_grace_period_seconds = 50
  }
  expect_failures = [var.termination_grace_period_seconds]
}

run "grace_below_an_ack" {
  command = plan
  variables {
    shutdown_grace_seconds = 30
  }
  expect_failures = [var.shutdown_grace_seconds]
}

run "more_least_than_most" {
  command = plan
  variables {
    min_replicas = 4
  }
  expect_failures = [var.min_replicas]
}

run "no_time_zone" {
  command = plan
  variables {
    clinic_time_zone = ""
  }
  expect_failures = [var.clinic_time_zone]
}

run "hours_reversed" {
  command = plan
  variables {
    clinic_hours = { opens = "19:00", closes = "07:00" }
  }
  expect_failures = [var.clinic_hours]
}

run "hour_25" {
  command = plan
  variables {
    clinic_hours = { opens = "25:00" }
  }
  expect_failures = [var.clinic_hours]
}

run "day_7" {
  command = plan
  variables {
    clinic_hours = { days = [7] }
  }
  expect_failures = [var.clinic_hours]
}

run "short_cooldown" {
  command = plan
  variables {
    cooldown_period_seconds = 60
  }
  expect_failures = [var.cooldown_period_seconds]
}

run "name_in_capitals" {
  command = plan
  variables {
    name = "Worklist"
  }
  expect_failures = [var.name]
}

run "long_name" {
  command = plan
  variables {
    name = "worklist-relay-of-the-north-east"
  }
  expect_failures = [var.name]
}

run "settings_with_a_connection_string" {
  command = plan
  variables {
    settings = { SERVICEBUS_CONNECTION_STRING = "x" }
  }
  expect_failures = [var.settings]
}

run "job_that_forwards_actions" {
  command = plan
  variables {
    command_arguments = ["run"]
  }
  expect_failures = [var.command_arguments]
}

run "misspelt_setting" {
  command = plan
  variables {
    settings = { CONCURENCY = "32" }
  }
  expect_failures = [var.settings]
}

run "relay_key_as_setting" {
  command = plan
  variables {
    settings = { RELAY_KEY_LEEDS = "x" }
  }
  expect_failures = [var.settings]
}

run "collectors_key_as_otel" {
  command = plan
  variables {
    otel = { OTEL_EXPORTER_OTLP_HEADERS = "api-key=x" }
  }
  expect_failures = [var.otel]
}

run "other_variables_as_otel" {
  command = plan
  variables {
    otel = { CONCURRENCY = "3" }
  }
  expect_failures = [var.otel]
}

run "replay_without_a_reason" {
  command = plan
  variables {
    replay_arguments = ["dlq", "replay"]
  }
  expect_failures = [var.replay_arguments]
}

run "another_command_as_replay" {
  command = plan
  variables {
    replay_arguments = ["dlq", "discard", "--reason-why", "x"]
  }
  expect_failures = [var.replay_arguments]
}

run "outcome_queue_elsewhere" {
  command = plan
  variables {
    outcome_queue = { id = "/subscriptions/0/resourceGroups/bus/providers/Microsoft.ServiceBus/namespaces/fabrikam/queues/outcomes" }
  }
  expect_failures = [var.outcome_queue]
}

run "relay_by_name" {
  command = plan
  variables {
    relay_namespace_ids = { x = "contoso-relay" }
  }
  expect_failures = [var.relay_namespace_ids]
}

run "hybrid_connection_by_namespace" {
  command = plan
  variables {
    hybrid_connection_ids = { x = "/subscriptions/0/resourceGroups/r/providers/Microsoft.Relay/namespaces/contoso" }
  }
  expect_failures = [var.hybrid_connection_ids]
}
