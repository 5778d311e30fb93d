variable "deploy_app" {
  description = "false: all but the app, for the first time. The database role and the schema are made then, and the app starts into a world that is ready."
  type        = bool
  default     = true
}

variable "image" {
  description = "The image, by digest (preferred: REPOSITORY@sha256:...) or by a tag that never moves. Rolling back is naming the one before."
  type        = string

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9./:_-]*(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$", var.image)) && !endswith(var.image, ":latest")
    error_message = "image must name a digest (REPOSITORY@sha256:...) or a tag other than latest: what runs must be what was tested, and what is rolled back to must still be there."
  }
}

variable "migrate_image" {
  description = "Image of the migration job; null: as image. A version that changes the schema is named here first, and as image once the job has run."
  type        = string
  default     = null

  validation {
    condition     = var.migrate_image == null ? true : can(regex("^[a-z0-9][a-z0-9./:_-]*(@sha256:[0-9a-f]{64}|:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})$", var.migrate_image)) && !endswith(var.migrate_image, ":latest")
    error_message = "migrate_image must name a digest (REPOSITORY@sha256:...) or a tag other than latest."
  }
}

variable "cpu" {
  description = "Cores of a replica and of a job. Memory goes with it, 2 GiB to the core."
  type        = number
  default     = 0.5

  validation {
    condition     = contains([0.25, 0.5, 0.75, 1, 1.25, 1.5, 1.75, 2], var.cpu)
    error_message = "cpu must be 0.25 to 2 in steps of 0.25."
  }
}

variable "min_replicas" {
  description = "Replicas that always run. 0: none outside clinic hours while the queue is empty."
  type        = number
  default     = 0

  validation {
    condition     = var.min_replicas >= 0 && var.min_replicas <= var.max_replicas
    error_message = "min_replicas must be between 0 and max_replicas."
  }
}

variable "max_replicas" {
  description = "Replicas at most. The scaler counts messages, not sessions, and a session is served by one replica: more replicas than gateways served at once would idle. One replica serves CONCURRENCY gateways (16) at once."
  type        = number
  default     = 3

  validation {
    condition     = var.max_replicas >= 1 && var.max_replicas <= 30
    error_message = "max_replicas must be between 1 and 30."
  }
}

variable "messages_per_replica" {
  description = "Active messages for which one replica more is started."
  type        = number
  default     = 50

  validation {
    condition     = var.messages_per_replica >= 1 && floor(var.messages_per_replica) == var.messages_per_replica
    error_message = "messages_per_replica must be a whole number above 0."
  }
}

variable "polling_interval_seconds" {
  description = "How often the scaler looks at the queue while nothing runs. The first action of the night waits for this, the pull of the image and the start."
  type        = number
  default     = 30

  validation {
    condition     = var.polling_interval_seconds >= 10 && var.polling_interval_seconds <= 300
    error_message = "polling_interval_seconds must be between 10 and 300."
  }
}

variable "cooldown_period_seconds" {
  description = "How long the queue must have been empty before the last replica stops. Below ten minutes, trickling messages start and stop it all day."
  type        = number
  default     = 600

  validation {
    condition     = var.cooldown_period_seconds >= 300 && var.cooldown_period_seconds <= 3600
    error_message = "cooldown_period_seconds must be between 300 and 3600."
  }
}

variable "clinic_time_zone" {
  description = "CLINIC_TIME_ZONE: whose midnight ends the clinic day, and whose clock clinic_hours are on. A name of the tz database."
  type        = string
  default     = "Europe/London"

  validation {
    condition     = can(regex("^([A-Z][A-Za-z_]+(/[A-Z][A-Za-z_-]+)+|UTC)$", var.clinic_time_zone))
    error_message = "clinic_time_zone must be a name of the tz database, such as Europe/London."
  }
}

variable "clinic_hours" {
  description = "When somebody may be standing at a machine: so many replicas run at least, and alerts about waiting actions are told. Days are 0 (Sunday) to 6. null: no floor, and alerts at any hour."
  type = object({
    days     = optional(list(number), [1, 2, 3, 4, 5])
    opens    = optional(string, "07:00")
    closes   = optional(string, "19:00")
    replicas = optional(number, 1)
  })
  default = {}

  validation {
    condition     = var.clinic_hours == null ? true : length(var.clinic_hours.days) > 0 && alltrue([for day in var.clinic_hours.days : contains([0, 1, 2, 3, 4, 5, 6], day)])
    error_message = "clinic_hours.days must hold days of the week, 0 (Sunday) to 6."
  }

  validation {
    condition     = var.clinic_hours == null ? true : alltrue([for at in [var.clinic_hours.opens, var.clinic_hours.closes] : can(regex("^([01][0-9]|2[0-3]):[0-5][0-9]$", at))])
    error_message = "clinic_hours.opens and closes must be HH:MM."
  }

  validation {
    condition     = var.clinic_hours == null ? true : try(tonumber(replace(var.clinic_hours.opens, ":", "")) < tonumber(replace(var.clinic_hours.closes, ":", "")), true)
    error_message = "clinic_hours must open before they close, on the same day."
  }

  validation {
    condition     = var.clinic_hours == null ? true : var.clinic_hours.replicas >= 1 && var.clinic_hours.replicas <= var.max_replicas
    error_message = "clinic_hours.replicas must be between 1 and max_replicas."
  }
}

variable "shutdown_grace_seconds" {
  description = "SHUTDOWN_GRACE: how long what was sent may still have its ack after SIGTERM. An ack takes up to 35 s."
  type        = number
  default     = 45

  validation {
    condition     = var.shutdown_grace_seconds >= 40 && var.shutdown_grace_seconds <= 590
    error_message = "shutdown_grace_seconds must be between 40 and 590: a gateway's ack alone takes up to 35 s."
  }
}

variable "termination_grace_period_seconds" {
  description = "How long the platform waits after SIGTERM before it kills. It has been seen to kill earlier: the program loses nothing then, but leaves work to redelivery."
  type        = number
  default     = 60

  validation {
    # After its grace the program needs up to 5 s to close and settle.
    condition     = var.termination_grace_period_seconds > var.shutdown_grace_seconds + 5 && var.termination_grace_period_seconds <= 600
    error_message = "termination_grace_period_seconds must be above shutdown_grace_seconds + 5, and 600 at most."
  }
}

variable "settings" {
  description = "More of the program's configuration, by environment variable: see the table in the README. What other variables of this module say cannot be given here, nor what is for development."
  type        = map(string)
  default     = {}

  validation {
    # The program ignores a name that it does not know, and a key would be for all to read.
    condition = length(setsubtract(keys(var.settings), [
      "ACK_TIMEOUT", "BREAKER_SPAN", "CLAIM_LEASE", "CONCURRENCY", "CONNECT_TIMEOUT", "HANDSHAKE_TIMEOUT", "IDLE_TIMEOUT",
      "LOG_LEVEL", "MAX_ATTEMPTS", "POSTPONE_DELAYS", "PROBE_DELAYS", "RECONCILE_INTERVAL", "RELAY_ALLOW_HOSTS", "RELEASE_AT",
      "RETRY_DELAYS", "TLS_TIMEOUT", "UPDATE_LIMIT",
    ])) == 0
    error_message = "settings must hold variables of the program that nothing else here sets. Keys of relays belong in relay_keys."
  }
}

variable "otel" {
  description = "Standard OTEL_* variables, such as OTEL_EXPORTER_OTLP_ENDPOINT. No secrets: they can be read in the portal."
  type        = map(string)
  default     = {}

  validation {
    condition     = alltrue([for name in keys(var.otel) : startswith(name, "OTEL_") && !endswith(name, "_HEADERS")])
    error_message = "otel must hold OTEL_* variables only, and no headers: a collector's key would be for all to read."
  }
}

variable "replay_arguments" {
  description = "Arguments of the reprocessing job. Without --yes it says what it would do, and does nothing."
  type        = list(string)
  default     = ["dlq", "replay", "--reason-why", "dry run of the reprocessing job"]
  nullable    = false

  validation {
    condition     = can(regex("^dlq replay (.* )?--(reason-)?why[ =].", join(" ", var.replay_arguments)))
    error_message = "replay_arguments must begin with dlq, replay and hold --reason-why and a text."
  }
}

variable "command_arguments" {
  description = "Arguments of the job that runs one command: where no replica runs, or where a command takes long."
  type        = list(string)
  default     = ["doctor"]
  nullable    = false

  validation {
    condition     = length(var.command_arguments) > 0 && can(regex("^(actions|dlq|doctor|relays)( |$)", join(" ", var.command_arguments)))
    error_message = "command_arguments must begin with actions, dlq, doctor or relays."
  }
}

variable "scaler_is_data_owner" {
  description = "Also give the identity Azure Service Bus Data Owner on the queue: true if the scaler's log says that it may not read the queue's counts, which dlq reconcile then may not either."
  type        = bool
  default     = false
}

variable "runbooks_url" {
  description = "Where the runbooks are that each alert names."
  type        = string
  default     = "https://github.com/worklist-relay/worklist-relay/blob/main/deploy/runbooks"
}
