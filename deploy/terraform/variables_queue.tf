variable "servicebus_namespace_id" {
  description = "Service Bus namespace that the queue is made in. It should have local_auth_enabled = false: nothing here uses a key."
  type        = string

  validation {
    condition     = can(regex("(?i)/providers/Microsoft\\.ServiceBus/namespaces/[a-z0-9-]+$", var.servicebus_namespace_id))
    error_message = "servicebus_namespace_id must be a resource id that ends in /providers/Microsoft.ServiceBus/namespaces/NAME, with the short name: no host name."
  }
}

variable "queue_name" {
  description = "The queue of actions. Another name makes another queue: what the old one holds stays behind in it until it is deleted."
  type        = string
  default     = "worklist-commands"

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9._-]{0,258}[A-Za-z0-9]$", var.queue_name))
    error_message = "queue_name must be 2 to 260 letters, digits, dots, hyphens and underscores, and begin and end with a letter or digit."
  }
}

variable "lock_duration" {
  description = "How long a received message or accepted session stays locked; it is renewed meanwhile, which takes up to half a minute. ISO 8601, PT30S to PT5M, as Azure writes it (PT1M, not PT60S)."
  type        = string
  default     = "PT1M"

  validation {
    # The provider takes any text here, and the API refuses it half-way through an apply.
    condition     = can(regex("^PT([345][0-9]S|[1-4]M(([1-9]|[1-5][0-9])S)?|5M)$", var.lock_duration))
    error_message = "lock_duration must be between PT30S, or locks would be lost while work goes on, and PT5M, which is Service Bus's most."
  }
}

variable "max_delivery_count" {
  description = "Deliveries that may fail before the broker gives a message up. Crashes and lost locks count; the program's own retries do not, since each is a new message."
  type        = number
  default     = 20

  validation {
    condition     = var.max_delivery_count >= 10 && var.max_delivery_count <= 2000
    error_message = "max_delivery_count must be 10 to 2000: with fewer, a few crashes would dead-letter an action that nobody refused."
  }
}

variable "message_ttl_days" {
  description = "How long a message may wait in the queue. It must outlast the longest retry (a create: until its clinic day ends, an update: UPDATE_LIMIT) and a long weekend of the service being down."
  type        = number
  default     = 14

  validation {
    condition     = var.message_ttl_days >= 4 && var.message_ttl_days <= 365 && floor(var.message_ttl_days) == var.message_ttl_days
    error_message = "message_ttl_days must be a whole number from 4 to 365."
  }
}

variable "outcome_queue" {
  description = "A queue of the same namespace, the producer's own, that is told how each action ended (OUTCOME_QUEUE); null: none."
  type        = object({ id = string })
  default     = null

  validation {
    condition     = var.outcome_queue == null ? true : startswith(lower(var.outcome_queue.id), lower("${var.servicebus_namespace_id}/queues/"))
    error_message = "outcome_queue.id must be the id of a queue of servicebus_namespace_id."
  }

  validation {
    condition     = var.outcome_queue == null ? true : lower(basename(var.outcome_queue.id)) != lower(var.queue_name)
    error_message = "outcome_queue must be another queue than the one that actions come from."
  }
}

variable "servicebus_diagnostics_enabled" {
  description = "Send the namespace's metrics and operational log to Log Analytics. The alert nothing-completes needs its metrics there: false only where somebody else sends them."
  type        = bool
  default     = true
}

variable "relay_diagnostics_enabled" {
  description = "Send the metrics of relay_namespace_ids to Log Analytics; false where that is for the relays' owner to decide."
  type        = bool
  default     = false
}
