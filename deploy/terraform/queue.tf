# Sessions and duplicate detection can never be changed: another value makes
# another queue, and loses what the old one holds.
resource "azurerm_servicebus_queue" "actions" {
  name         = var.queue_name
  namespace_id = var.servicebus_namespace_id

  # One gateway is one session: a hospital that is down costs nobody else's time.
  requires_session = true
  # SQL remembers what was done. Detection would drop an action that is sent
  # again on purpose, and say that it was taken.
  requires_duplicate_detection = false

  lock_duration                        = var.lock_duration
  max_delivery_count                   = var.max_delivery_count
  default_message_ttl                  = "P${var.message_ttl_days}D"
  dead_lettering_on_message_expiration = true

  lifecycle {
    prevent_destroy = true
  }
}
