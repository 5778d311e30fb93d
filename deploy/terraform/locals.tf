locals {
  # The scaler adds the suffix itself: it takes the short name, and given a host
  # name it would look for contoso.servicebus.windows.net.servicebus.windows.net.
  namespace = basename(var.servicebus_namespace_id)

  # What app and jobs are told. Everything the program does is said here.
  environment = merge(
    {
      AZURE_CLIENT_ID      = azurerm_user_assigned_identity.app.client_id
      CLINIC_TIME_ZONE     = var.clinic_time_zone
      DATABASE_ENTRA       = "true"
      DATABASE_URL         = "postgres://${var.name}@${var.database.host}:5432/${var.database.name}?sslmode=verify-full"
      LOG_FORMAT           = "json"
      SERVICEBUS_NAMESPACE = "${local.namespace}.servicebus.windows.net"
      SERVICEBUS_QUEUE     = azurerm_servicebus_queue.actions.name
      SERVICEBUS_SESSIONS  = "true"
      SHUTDOWN_GRACE       = "${var.shutdown_grace_seconds}s"
    },
    var.outcome_queue == null ? {} : { OUTCOME_QUEUE = basename(var.outcome_queue.id) },
    var.settings,
    var.otel,
  )

  # Secrets of the Key Vault, by the name that the app calls them by.
  relay_keys = var.relay_keys == null ? {} : {
    for variable, secret in var.relay_keys.secrets : variable => {
      name = lower(replace(variable, "_", "-"))
      id   = "https://${basename(var.relay_keys.key_vault_id)}.vault.azure.net/secrets/${secret}"
    }
  }

  registry = var.container_registry == null ? [] : ["${lower(basename(var.container_registry.id))}.azurecr.io"]
  memory   = "${var.cpu * 2}Gi"

  # The minutes of the day at which clinics open and close, and their cron times.
  hours = var.clinic_hours == null ? null : {
    opens  = split(":", var.clinic_hours.opens)
    closes = split(":", var.clinic_hours.closes)
    days   = join(",", var.clinic_hours.days)
  }
  cron = var.clinic_hours == null ? [] : [{
    timezone        = var.clinic_time_zone
    start           = "${tonumber(local.hours.opens[1])} ${tonumber(local.hours.opens[0])} * * ${local.hours.days}"
    end             = "${tonumber(local.hours.closes[1])} ${tonumber(local.hours.closes[0])} * * ${local.hours.days}"
    desiredReplicas = tostring(var.clinic_hours.replicas)
  }]
}
