output "resource_group_name" {
  description = "Resource group, for `az containerapp job start`."
  value       = azurerm_resource_group.this.name
}

output "log_workspace" {
  description = "Customer id of the Log Analytics workspace, for `az monitor log-analytics query`."
  value       = azurerm_log_analytics_workspace.this.workspace_id
}

output "job_names" {
  description = "Names of the jobs, by what they do."
  value       = module.worklist_relay.job_names
}

output "database_host" {
  description = "Host name of the PostgreSQL server."
  value       = azurerm_postgresql_flexible_server.this.fqdn
}

output "database_role_sql" {
  description = "To run once as database_administrator, by database."
  value       = module.worklist_relay.database_role_sql
}

output "queue_id" {
  description = "The queue: producers need Azure Service Bus Data Sender on it."
  value       = module.worklist_relay.queue_id
}
