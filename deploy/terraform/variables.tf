# What is there already, and what the service is called. How it runs and scales
# is in variables_app.tf, the queue in variables_queue.tf.

variable "name" {
  description = "Name of the app and its identity; the start of the names of jobs and alerts. The database role has it too."
  type        = string
  default     = "worklist-relay"

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,22}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name must be 3 to 24 lower-case letters, digits and single hyphens, and begin with a letter: a job's name adds eight to it and may have 32."
  }
}

variable "resource_group_name" {
  description = "Resource group of everything that is made here."
  type        = string
}

variable "location" {
  description = "Region of the identity, the jobs and the log alerts. The app is where its environment is."
  type        = string
}

variable "tags" {
  description = "Tags of everything that is made here."
  type        = map(string)
  default     = {}
}

variable "container_app_environment_id" {
  description = "Container Apps environment. Its logs go to Log Analytics (logs_destination = \"log-analytics\"), where the alerts look."
  type        = string
}

variable "workload_profile_name" {
  description = "Workload profile of the environment that app and jobs run on; null only in an environment without profiles."
  type        = string
  default     = "Consumption"
}

variable "log_analytics_workspace_id" {
  description = "Log Analytics workspace of the environment's logs."
  type        = string
}

variable "action_group_id" {
  description = "Action group that the alerts tell."
  type        = string
}

variable "relay_namespace_ids" {
  description = "Relay namespaces, by a name of your own: the app may send to each hybrid connection there. Prefer hybrid_connection_ids."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for id in values(var.relay_namespace_ids) : can(regex("(?i)/providers/Microsoft\\.Relay/namespaces/[^/]+$", id))])
    error_message = "relay_namespace_ids must hold ids of relay namespaces (.../providers/Microsoft.Relay/namespaces/NAME)."
  }
}

variable "hybrid_connection_ids" {
  description = "Hybrid connections, by a name of your own: the app may send to these. Narrower than relay_namespace_ids, one more for each new gateway."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for id in values(var.hybrid_connection_ids) : can(regex("(?i)/providers/Microsoft\\.Relay/namespaces/[^/]+/hybridConnections/[^/]+$", id))])
    error_message = "hybrid_connection_ids must hold ids of hybrid connections (.../providers/Microsoft.Relay/namespaces/NAME/hybridConnections/NAME)."
  }
}

variable "relay_keys" {
  description = "Only for relays that still take shared keys: `secrets` says which secret of the Key Vault the app gets in which environment variable (`relays add --key-variable`). The identity may read these secrets and no other."
  type = object({
    key_vault_id = string
    secrets      = map(string)
  })
  default = null

  validation {
    condition     = var.relay_keys == null ? true : can(regex("(?i)/providers/Microsoft\\.KeyVault/vaults/[^/]+$", var.relay_keys.key_vault_id))
    error_message = "relay_keys.key_vault_id must be the id of a Key Vault (.../providers/Microsoft.KeyVault/vaults/NAME)."
  }

  validation {
    condition     = var.relay_keys == null ? true : alltrue([for variable, secret in var.relay_keys.secrets : can(regex("^[A-Z][A-Z0-9_]*$", variable)) && can(regex("^[0-9A-Za-z-]+$", secret))])
    error_message = "relay_keys.secrets must map environment variables (RELAY_KEY_LEEDS) to names of secrets (relay-key-leeds)."
  }
}

variable "container_registry" {
  description = "Azure Container Registry that the image is pulled from with the app's identity; null: it is pulled without one."
  type        = object({ id = string })
  default     = null

  validation {
    condition     = var.container_registry == null ? true : can(regex("(?i)/providers/Microsoft\\.ContainerRegistry/registries/[^/]+$", var.container_registry.id))
    error_message = "container_registry.id must be the id of a registry (.../providers/Microsoft.ContainerRegistry/registries/NAME)."
  }
}

variable "database" {
  description = "PostgreSQL server, by host name, and the database on it. The app's role is made once, in SQL: see the output database_role_sql."
  type = object({
    host = string
    name = optional(string, "worklist")
  })

  validation {
    condition     = can(regex("^[a-z0-9.-]+$", var.database.host)) && can(regex("^[a-z_][a-z0-9_]*$", var.database.name))
    error_message = "database.host must be a host name without port, database.name lower-case letters, digits and underscores."
  }
}
