data "azurerm_client_config" "current" {}

# Entra ID only: there is no password to leak or to rotate.
resource "azurerm_postgresql_flexible_server" "this" {
  name                          = "${var.prefix}-db"
  resource_group_name           = azurerm_resource_group.this.name
  location                      = azurerm_resource_group.this.location
  version                       = "17"
  sku_name                      = "GP_Standard_D2ds_v5"
  storage_mb                    = 32768
  backup_retention_days         = 14
  delegated_subnet_id           = azurerm_subnet.database.id
  private_dns_zone_id           = azurerm_private_dns_zone.database.id
  public_network_access_enabled = false

  authentication {
    active_directory_auth_enabled = true
    password_auth_enabled         = false
    tenant_id                     = data.azurerm_client_config.current.tenant_id
  }

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [zone] # the platform chooses one
  }

  depends_on = [azurerm_private_dns_zone_virtual_network_link.database]
}

resource "azurerm_postgresql_flexible_server_active_directory_administrator" "this" {
  server_name         = azurerm_postgresql_flexible_server.this.name
  resource_group_name = azurerm_resource_group.this.name
  tenant_id           = data.azurerm_client_config.current.tenant_id
  object_id           = var.database_administrator.object_id
  principal_name      = var.database_administrator.name
  principal_type      = var.database_administrator.type
}

resource "azurerm_postgresql_flexible_server_database" "worklist" {
  name      = "worklist"
  server_id = azurerm_postgresql_flexible_server.this.id
  charset   = "UTF8"
  collation = "en_US.utf8"

  lifecycle {
    prevent_destroy = true
  }

  # Made before there is an administrator, it belongs to the platform, and nobody may grant anything on it.
  depends_on = [azurerm_postgresql_flexible_server_active_directory_administrator.this]
}
