package main

import (
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
)

// otelRule says what an OTEL_* variable may hold. Its fault never repeats the
// value: a header is a secret, and an endpoint may hold one.
type otelRule struct {
	names []string
	valid func(string) bool
	want  string
}

// otelRules are about the variables that this program goes by. The libraries
// ignore a wrong value without a word, or take a default.
var otelRules = []otelRule{
	{[]string{"OTEL_SDK_DISABLED"}, isSwitch, "true or false"},
	{[]string{"OTEL_TRACES_EXPORTER"}, oneOf("otlp", "none"), "otlp or none"},
	{[]string{"OTEL_METRICS_EXPORTER"}, oneOf("otlp", "prometheus", "none"), "otlp, prometheus or none"},
	{perSignal("PROTOCOL"), oneOf("grpc", "http/protobuf"), "grpc or http/protobuf"},
	{perSignal("ENDPOINT"), isEndpoint, "http://HOST:PORT or https://HOST:PORT"},
	{perSignal("HEADERS"), isPairs, "a list of NAME=VALUE"},
	{perSignal("COMPRESSION"), oneOf("gzip", "none"), "gzip or none"},
	{perSignal("TIMEOUT"), isMilliseconds, "a whole number of milliseconds above 0"},
	{perSignal("INSECURE"), isSwitch, "true or false"},
	{slices.Concat(perSignal("CERTIFICATE"), perSignal("CLIENT_CERTIFICATE"), perSignal("CLIENT_KEY")), isFile, "a file that can be read"},
	{[]string{"OTEL_TRACES_SAMPLER"}, oneOf("always_on", "always_off", "traceidratio", "parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
		"always_on, always_off, traceidratio, or one of them after parentbased_"},
	{[]string{"OTEL_TRACES_SAMPLER_ARG"}, isShare, "a number from 0 to 1"},
	{[]string{"OTEL_RESOURCE_ATTRIBUTES"}, isPairs, "a list of NAME=VALUE"},
	{[]string{"OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT", "OTEL_BSP_SCHEDULE_DELAY", "OTEL_BSP_EXPORT_TIMEOUT"}, isMilliseconds, "a whole number of milliseconds above 0"},
	{[]string{"OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"}, isMilliseconds, "a whole number above 0"},
}

// otelFaults reports every fault at once. An empty variable is one that is not set.
func otelFaults(get func(string) string) (faults []string) {
	for _, rule := range otelRules {
		for _, name := range rule.names {
			if value := get(name); value != "" && !rule.valid(value) {
				faults = append(faults, fmt.Sprintf("%s is not %s", name, rule.want))
			}
		}
	}
	return faults
}

// perSignal is an exporter's variable for both signals and for each.
func perSignal(what string) []string {
	return []string{"OTEL_EXPORTER_OTLP_" + what, "OTEL_EXPORTER_OTLP_TRACES_" + what, "OTEL_EXPORTER_OTLP_METRICS_" + what}
}

func oneOf(words ...string) func(string) bool {
	return func(value string) bool { return slices.Contains(words, value) }
}

// isSwitch takes True and TRUE too, as the libraries do.
func isSwitch(value string) bool { return oneOf("true", "false")(strings.ToLower(value)) }

func isEndpoint(value string) bool {
	u, err := url.Parse(value)
	return err == nil && (u.Scheme == "http" || u.Scheme == "https") && u.Host != ""
}

func isPairs(value string) bool {
	for pair := range strings.SplitSeq(value, ",") {
		name, content, found := strings.Cut(pair, "=")
		if _, err := url.PathUnescape(content); !found || strings.TrimSpace(name) == "" || err != nil {
			return false
		}
	}
	return true
}

func isMilliseconds(value string) bool {
	n, err := strconv.Atoi(value)
	return err == nil && n > 0
}

func isShare(value string) bool {
	share, err := strconv.ParseFloat(value, 64)
	return err == nil && share >= 0 && share <= 1
}

func isFile(name string) bool {
	_, err := os.ReadFile(name)
	return err == nil
}
