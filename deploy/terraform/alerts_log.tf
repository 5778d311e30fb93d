# What has to be asked of Log Analytics: alerts that keep to clinic hours, which
# metric alerts cannot, and what stands in logs only.
locals {
  # Metrics and logs arrive here minutes late. `clinics_open` goes by the clinics' own clock.
  clinics_open = var.clinic_hours == null ? "let clinics_open = true;" : join("\n", [
    "let clinic_time = datetime_utc_to_local(now(), '${var.clinic_time_zone}');",
    "let clinic_minute = hourofday(clinic_time) * 60 + datetime_part('minute', clinic_time);",
    "let clinics_open = toint(dayofweek(clinic_time) / 1d) in (${local.hours.days}) and clinic_minute >= ${tonumber(local.hours.opens[0]) * 60 + tonumber(local.hours.opens[1])} and clinic_minute < ${tonumber(local.hours.closes[0]) * 60 + tonumber(local.hours.closes[1])};",
  ])

  log_alerts = {
    nothing-completes = {
      text     = "Messages came in, and for a quarter of an hour the service did nothing with any"
      severity = 1
      window   = "PT15M"
      lookback = "P1D"
      by       = []
      # The length of a queue is not among the metrics that come here, and those that
      # do lose their dimensions on the way: they are of all queues of the namespace.
      # A session that is kept is one whose gateway cannot be reached or is held back.
      query = <<-KQL
        ${local.clinics_open}
        let metrics = AzureMetrics | where ResourceId =~ '${var.servicebus_namespace_id}' and Total > 0;
        let completed = toscalar(metrics | where MetricName == 'CompleteMessage' | summarize max(TimeGenerated));
        let settled = toscalar(ContainerAppConsoleLogs_CL
          | where ContainerAppName_s == '${var.name}'
          | extend msg = tostring(parse_json(Log_s).msg)
          | where msg == 'settled' or msg == 'session kept until its gateway is back'
          | summarize max(TimeGenerated));
        let last_done = max_of(coalesce(completed, datetime(2000-01-01)), coalesce(settled, datetime(2000-01-01)));
        metrics
        | where MetricName == 'IncomingMessages' and TimeGenerated > last_done
        | summarize waits_since = min(TimeGenerated)
        | where clinics_open and waits_since < ago(15m)
      KQL
    }

    no-listener = {
      text     = "No gateway listens on a hybrid connection, and its actions wait"
      severity = 2
      window   = "PT5M"
      lookback = "P1D"
      by       = ["gateway"]
      # The latest word on each gateway. A process that starts says it again, so a day is long enough.
      query = <<-KQL
        ${local.clinics_open}
        ContainerAppConsoleLogs_CL
        | where ContainerAppName_s == '${var.name}'
        | extend line = parse_json(Log_s)
        | extend msg = tostring(line.msg), gateway = tostring(line.gateway), phase = tostring(line.phase)
        | summarize
            lost = maxif(TimeGenerated, msg == 'gateway cannot be reached, its actions wait' and phase == 'no_listener'),
            back = maxif(TimeGenerated, msg == 'gateway is back'),
            held = maxif(TimeGenerated, msg == 'gateway is held back by an operator, its actions wait'),
            released = maxif(TimeGenerated, msg == 'gateway is held back no longer')
          by gateway
        | where clinics_open and isnotnull(lost) and (isnull(back) or back < lost) and (isnull(held) or released > held)
      KQL
    }

    scaler-failure = {
      text     = "The scaler cannot read the queue, so nothing may be started for what waits"
      severity = 1
      window   = "PT15M"
      lookback = null
      by       = []
      query    = <<-KQL
        ContainerAppSystemLogs_CL
        | where ContainerAppName_s == '${var.name}'
        | where Reason_s in ('KEDAScalerFailed', 'KEDAMetricSourceFailed', 'ScaledObjectCheckFailed', 'KEDAScaleTargetActivationFailed')
      KQL
    }

    job-failed = {
      text     = "A job ended with an exit code other than 0 (4: a person is needed)"
      severity = 2
      window   = "PT15M"
      lookback = null
      by       = ["job"]
      query    = <<-KQL
        ContainerAppSystemLogs_CL
        | extend job = column_ifexists('JobName_s', '')
        | where job in ('${join("', '", [for what, job in azurerm_container_app_job.job : job.name if what != "command"])}')
        | extend code = toint(extract(@"exit code '?(\d+)", 1, Log_s))
        | where isnotnull(code) and code != 0
      KQL
    }
  }
}

resource "azurerm_monitor_scheduled_query_rules_alert_v2" "log" {
  for_each = local.log_alerts

  name                = "${var.name}-${each.key}"
  description         = "${each.value.text}. Runbook: ${var.runbooks_url}/${each.key}.md"
  resource_group_name = var.resource_group_name
  location            = var.location
  scopes              = [var.log_analytics_workspace_id]
  severity            = each.value.severity
  tags                = var.tags

  evaluation_frequency      = "PT5M"
  window_duration           = each.value.window
  query_time_range_override = each.value.lookback
  auto_mitigation_enabled   = true
  # The tables of Container Apps are not there before the first line of a log.
  skip_query_validation = true

  criteria {
    query                   = each.value.query
    time_aggregation_method = "Count"
    operator                = "GreaterThan"
    threshold               = 0

    dynamic "dimension" {
      for_each = each.value.by
      content {
        name     = dimension.value
        operator = "Include"
        values   = ["*"]
      }
    }
  }

  action {
    action_groups = [var.action_group_id]
  }
}
