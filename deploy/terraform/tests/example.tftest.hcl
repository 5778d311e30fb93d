# With nothing known but names, as before the first apply.
mock_provider "azurerm" {}

variables {
  subscription_id        = "00000000-0000-0000-0000-000000000000"
  prefix                 = "contoso-worklist"
  image                  = "contoso.azurecr.io/worklist-relay:1.2.3"
  alert_email            = "operators@example.org"
  database_administrator = { object_id = "33333333-3333-3333-3333-333333333333", name = "database administrators" }
  gateways               = ["leeds", "hull"]
}

run "complete" {
  command = plan
  module { source = "./examples/complete" }

  assert {
    condition     = output.job_names == { command = "worklist-relay-command", migrate = "worklist-relay-migrate", replay = "worklist-relay-replay" }
    error_message = "names of the jobs"
  }
  assert {
    condition     = !azurerm_servicebus_namespace.this.local_auth_enabled && !azurerm_postgresql_flexible_server.this.authentication[0].password_auth_enabled
    error_message = "something takes keys or passwords"
  }
}
