output "identity" {
  description = "The identity of app, jobs and scaler: its resource id, client id, and the id that roles are given to."
  value = {
    id           = azurerm_user_assigned_identity.app.id
    name         = azurerm_user_assigned_identity.app.name
    client_id    = azurerm_user_assigned_identity.app.client_id
    principal_id = azurerm_user_assigned_identity.app.principal_id
  }
}

output "queue_id" {
  description = "The queue. Producers need Azure Service Bus Data Sender on it."
  value       = azurerm_servicebus_queue.actions.id
}

output "app_id" {
  description = "The app; null while deploy_app is false."
  value       = one(azurerm_container_app.app[*].id)
}

output "job_names" {
  description = "Names of the jobs, by what they do: migrate, replay and command."
  value       = { for name, job in azurerm_container_app_job.job : name => job.name }
}

output "database_role_sql" {
  description = "To run once, as an Entra administrator of the server: the first statement in the database postgres, the others in the program's own."
  value = {
    postgres = "SELECT * FROM pgaadauth_create_principal_with_oid('${azurerm_user_assigned_identity.app.name}', '${azurerm_user_assigned_identity.app.principal_id}', 'service', false, false);"
    (var.database.name) = join("\n", [
      "GRANT CONNECT ON DATABASE \"${var.database.name}\" TO \"${azurerm_user_assigned_identity.app.name}\";",
      "GRANT USAGE, CREATE ON SCHEMA public TO \"${azurerm_user_assigned_identity.app.name}\";",
    ])
  }
}
