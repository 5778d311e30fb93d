variable "subscription_id" {
  description = "Subscription that everything is made in."
  type        = string
}

variable "prefix" {
  description = "Start of every name. Service Bus, Relay and PostgreSQL take theirs from all the world's, so choose one that nobody has."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,20}$", var.prefix))
    error_message = "prefix must be 3 to 21 lower-case letters, digits and hyphens, and begin with a letter."
  }
}

variable "location" {
  description = "Region."
  type        = string
  default     = "uksouth"
}

variable "image" {
  description = "Image of worklist-relay, by digest or fixed tag."
  type        = string
}

variable "database_administrator" {
  description = "Who may make roles in the database: a group or user of Entra ID. There are no passwords."
  type = object({
    object_id = string
    name      = string
    type      = optional(string, "Group")
  })
}

variable "alert_email" {
  description = "Whom the alerts tell."
  type        = string
}

variable "gateways" {
  description = "A hybrid connection is made for each of these: hc-leeds for leeds."
  type        = set(string)
  default     = ["leeds"]
}

variable "deploy_app" {
  description = "false the first time, until the database role and the schema are there."
  type        = bool
  default     = true
}

variable "migrate_image" {
  description = "Image of the migration job, while it is not yet that of the app; null: as image."
  type        = string
  default     = null
}

variable "scaler_is_data_owner" {
  description = "true if the scaler's log says that it may not read the queue's counts."
  type        = bool
  default     = false
}

variable "command_arguments" {
  description = "Arguments of the job that runs one command; null: doctor."
  type        = list(string)
  default     = null
}

variable "replay_arguments" {
  description = "Arguments of the reprocessing job; null: a dry run."
  type        = list(string)
  default     = null
}
