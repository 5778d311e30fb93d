package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/caarlos0/env/v11"

	"github.com/worklist-relay/worklist-relay/consumer"
	"github.com/worklist-relay/worklist-relay/relay"
	"github.com/worklist-relay/worklist-relay/store"
)

// config is all that the environment says. It is read here and nowhere else.
// The README's table is held against these tags by a test.
type config struct {
	ServiceBusConnectionString string        `env:"SERVICEBUS_CONNECTION_STRING" doc:"connection string of the namespace, for development; this or SERVICEBUS_NAMESPACE"`
	ServiceBusNamespace        string        `env:"SERVICEBUS_NAMESPACE" doc:"host name of the namespace (contoso.servicebus.windows.net), with Entra ID; with :PORT, where TLS is served elsewhere"`
	ServiceBusQueue            string        `env:"SERVICEBUS_QUEUE" envDefault:"worklist-commands" doc:"the queue"`
	ServiceBusSessions         bool          `env:"SERVICEBUS_SESSIONS" envDefault:"false" doc:"true: the queue requires sessions (recommended: one gateway is one session)"`
	OutcomeQueue               string        `env:"OUTCOME_QUEUE" doc:"a queue of the namespace that is told how each action ended; unset: none"`
	ServiceBusAdminURL         string        `env:"SERVICEBUS_ADMIN_URL" doc:"http(s)://HOST:PORT of an emulator on loopback, for counts of the queue; unset: https of the namespace"`
	DatabaseURL                string        `env:"DATABASE_URL" doc:"postgres://... or sqlite:FILE; required by all but enqueue"`
	DatabaseEntra              bool          `env:"DATABASE_ENTRA" envDefault:"false" doc:"true: the password of PostgreSQL is a token of Entra ID, asked for at each new connection"`
	AzureClientID              string        `env:"AZURE_CLIENT_ID" doc:"client id of the managed identity; unset: the developer's own login"`
	HTTPAddr                   string        `env:"HTTP_ADDR" doc:"host:port for /livez, /readyz, /healthz/startup and /metrics; unset: none"`
	Concurrency                int           `env:"CONCURRENCY" envDefault:"16" doc:"actions in hand at once, 1 to 1000; with sessions, gateways served at once"`
	ConnectTimeout             time.Duration `env:"CONNECT_TIMEOUT" envDefault:"10s" doc:"name lookup and TCP connect to the relay"`
	TLSTimeout                 time.Duration `env:"TLS_TIMEOUT" envDefault:"10s" doc:"TLS handshake with the relay"`
	HandshakeTimeout           time.Duration `env:"HANDSHAKE_TIMEOUT" envDefault:"40s" doc:"websocket upgrade; the relay holds it up to 30 s for a listener"`
	AckTimeout                 time.Duration `env:"ACK_TIMEOUT" envDefault:"35s" doc:"wait for the gateway's ack; its own database waits up to 30.1 s"`
	IdleTimeout                time.Duration `env:"IDLE_TIMEOUT" envDefault:"5s" doc:"an unused cached connection is closed after this"`
	RelayAllowHosts            []string      `env:"RELAY_ALLOW_HOSTS" doc:"relay hosts allowed besides *.servicebus.windows.net, comma separated"`
	RelayPlainHosts            []string      `env:"RELAY_PLAIN_HOSTS" doc:"loopback hosts dialled without TLS, for development, comma separated"`
	RelayCAFile                string        `env:"RELAY_CA_FILE" doc:"PEM file of certificates trusted for relays; unset: the system's"`
	ClinicTimeZone             string        `env:"CLINIC_TIME_ZONE" envDefault:"Europe/London" doc:"whose midnight ends the clinic day"`
	ReleaseAt                  string        `env:"RELEASE_AT" doc:"HH:MM of its clinic day until which a create is held; unset: sent at once"`
	RetryDelays                []duration    `env:"RETRY_DELAYS" envDefault:"5s,5s,15s,45s,2m,5m" doc:"waits before the retries, the last one repeating; up to 20 % is added"`
	PostponeDelays             []duration    `env:"POSTPONE_DELAYS" envDefault:"30s,1m,2m,5m" doc:"waits that spend no attempt, the last one repeating"`
	MaxAttempts                int           `env:"MAX_ATTEMPTS" envDefault:"5" doc:"attempts that may have reached the gateway"`
	UpdateLimit                time.Duration `env:"UPDATE_LIMIT" envDefault:"24h" doc:"how long after receipt an update is tried"`
	ClaimLease                 time.Duration `env:"CLAIM_LEASE" envDefault:"90s" doc:"how long a crashed attempt blocks its action; above the slowest connect"`
	BreakerSpan                time.Duration `env:"BREAKER_SPAN" envDefault:"5s" doc:"a gateway is probed with echoes once three failures in a row span this"`
	ProbeDelays                []duration    `env:"PROBE_DELAYS" envDefault:"5s,10s,20s,40s,1m" doc:"waits before the echoes, the last one repeating"`
	ShutdownGrace              time.Duration `env:"SHUTDOWN_GRACE" envDefault:"45s" doc:"how long what was sent may take after SIGTERM; keep it under the platform's"`
	ReconcileInterval          time.Duration `env:"RECONCILE_INTERVAL" envDefault:"5m" doc:"how often run reconciles the dead-letter queue with SQL; 1s at least"`
	LogLevel                   slog.Level    `env:"LOG_LEVEL" envDefault:"info" doc:"debug, info, warn or error"`
	LogFormat                  string        `env:"LOG_FORMAT" envDefault:"json" doc:"json or text, on standard error"`

	identity  func() (azcore.TokenCredential, error) // makes it once
	clinic    *time.Location
	releaseAt time.Duration
	roots     *x509.CertPool
}

// duration is a time.Duration that may stand in a list.
type duration time.Duration

func (d *duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = duration(parsed)
	return err
}

// need is what a command cannot do without.
type need int

const (
	needQueue need = iota
	needDatabase
	needService // all that run needs
)

// readConfig reads the environment and reports every fault at once. Only what
// the command needs is required, but whatever is set must be right.
func readConfig(needs ...need) (config, error) {
	var faults []string
	c, err := env.ParseAs[config]()
	unparsed := map[string]bool{}
	var all env.AggregateError
	if errors.As(err, &all) {
		for _, one := range all.Errors {
			name, fault := parseFault(one)
			unparsed[name] = true
			faults = append(faults, fault)
		}
	} else if err != nil {
		faults = append(faults, err.Error())
	}
	for _, fault := range c.check() {
		if name, _, _ := strings.Cut(fault, " "); !unparsed[strings.TrimSuffix(name, ":")] {
			faults = append(faults, fault)
		}
	}
	if slices.Contains(needs, needQueue) || slices.Contains(needs, needService) {
		faults = append(faults, c.queueFaults()...)
	}
	if slices.Contains(needs, needDatabase) || slices.Contains(needs, needService) {
		if c.DatabaseURL == "" {
			faults = append(faults, "DATABASE_URL is not set: give postgres://... or sqlite:FILE")
		}
	}
	return c, configurationFault(faults)
}

// configurationFault is all faults in one error; nil where there is none.
func configurationFault(faults []string) error {
	if len(faults) == 0 {
		return nil
	}
	return failure{exitConfig, configFaults(faults)}
}

// configFaults are all that is wrong, each with the variable's name.
type configFaults []string

func (f configFaults) Error() string {
	if len(f) == 1 {
		return "configuration: " + f[0]
	}
	return fmt.Sprintf("configuration: %d faults:\n  %s", len(f), strings.Join(f, "\n  "))
}

func (c *config) queueFaults() []string {
	switch {
	case c.ServiceBusConnectionString == "" && c.ServiceBusNamespace == "":
		return []string{"SERVICEBUS_CONNECTION_STRING or SERVICEBUS_NAMESPACE must be set"}
	case c.ServiceBusConnectionString != "" && c.ServiceBusNamespace != "":
		return []string{"SERVICEBUS_CONNECTION_STRING and SERVICEBUS_NAMESPACE are both set: give one"}
	}
	return nil
}

// check looks at what parses but may make no sense, and fills the derived fields.
func (c *config) check() (faults []string) {
	fault := func(format string, args ...any) { faults = append(faults, fmt.Sprintf(format, args...)) }
	var err error
	c.identity = sync.OnceValues(func() (azcore.TokenCredential, error) { return newIdentity(c.AzureClientID) })
	if c.clinic, err = time.LoadLocation(c.ClinicTimeZone); err != nil || c.ClinicTimeZone == "" {
		fault("CLINIC_TIME_ZONE %q is no time zone: give a name such as Europe/London", c.ClinicTimeZone)
	}
	if c.ReleaseAt != "" {
		at, err := time.Parse("15:04", c.ReleaseAt)
		if err != nil {
			fault("RELEASE_AT %q is no time of day: give HH:MM", c.ReleaseAt)
		}
		c.releaseAt = time.Duration(at.Hour())*time.Hour + time.Duration(at.Minute())*time.Minute
	}
	if c.Concurrency < 1 || c.Concurrency > 1000 {
		fault("CONCURRENCY %d is not between 1 and 1000", c.Concurrency)
	}
	if c.MaxAttempts < 1 {
		fault("MAX_ATTEMPTS %d is not above 0", c.MaxAttempts)
	}
	for name, d := range map[string]time.Duration{
		"CONNECT_TIMEOUT": c.ConnectTimeout, "TLS_TIMEOUT": c.TLSTimeout, "HANDSHAKE_TIMEOUT": c.HandshakeTimeout,
		"ACK_TIMEOUT": c.AckTimeout, "IDLE_TIMEOUT": c.IdleTimeout, "UPDATE_LIMIT": c.UpdateLimit, "CLAIM_LEASE": c.ClaimLease,
		"BREAKER_SPAN": c.BreakerSpan, "SHUTDOWN_GRACE": c.ShutdownGrace,
	} {
		if d <= 0 {
			fault("%s %s is not above 0", name, d)
		}
	}
	for name, list := range map[string][]duration{"RETRY_DELAYS": c.RetryDelays, "POSTPONE_DELAYS": c.PostponeDelays, "PROBE_DELAYS": c.ProbeDelays} {
		if slices.ContainsFunc(list, func(d duration) bool { return d <= 0 }) {
			fault("%s holds a delay that is not above 0", name)
		}
	}
	if slowest := c.ConnectTimeout + c.TLSTimeout + c.HandshakeTimeout; c.ClaimLease > 0 && c.ClaimLease <= slowest {
		fault("CLAIM_LEASE %s is not above the slowest connect, %s", c.ClaimLease, slowest)
	}
	if _, err := c.entra(); err != nil { // asks for nothing
		fault("%v", err)
	} else if c.ServiceBusConnectionString != "" || c.ServiceBusNamespace != "" {
		if _, err := c.connect(); err != nil { // dials nothing
			fault("%v", err)
		}
	}
	if strings.EqualFold(c.OutcomeQueue, c.ServiceBusQueue) {
		fault("OUTCOME_QUEUE %q is the queue that actions come from: give another", c.OutcomeQueue)
	}
	if err := c.checkAdminURL(); err != nil {
		fault("SERVICEBUS_ADMIN_URL %v", err)
	}
	if c.ReconcileInterval < time.Second {
		fault("RECONCILE_INTERVAL %s is below 1s", c.ReconcileInterval)
	}
	if c.DatabaseURL != "" {
		faults = append(faults, c.databaseFaults()...)
	}
	if _, _, err := net.SplitHostPort(c.HTTPAddr); c.HTTPAddr != "" && err != nil {
		fault("HTTP_ADDR %q is not host:port", c.HTTPAddr)
	}
	for _, host := range c.RelayPlainHosts {
		if err := (&relay.Client{PlainHosts: []string{host}}).Allowed(host); err != nil {
			fault("RELAY_PLAIN_HOSTS: %v", err)
		}
	}
	if c.LogFormat != "json" && c.LogFormat != "text" {
		fault("LOG_FORMAT %q is neither json nor text", c.LogFormat)
	}
	if c.RelayCAFile != "" {
		if c.roots, err = readRoots(c.RelayCAFile); err != nil {
			fault("RELAY_CA_FILE: %v", err)
		}
	}
	slices.Sort(faults)
	return faults
}

// databaseFaults are those of a database URL that is set. It is not repeated: it
// may hold a password.
func (c *config) databaseFaults() []string {
	if !hasAnyPrefix(c.DatabaseURL, "postgres://", "postgresql://", "sqlite:") {
		return []string{"DATABASE_URL is neither postgres://... nor sqlite:FILE"}
	}
	if _, err := store.ServerOf(c.DatabaseURL); err != nil {
		return []string{fmt.Sprintf("DATABASE_URL: %v", err)}
	}
	if !c.DatabaseEntra {
		return nil
	}
	if err := store.TakesPassword(c.DatabaseURL); err != nil {
		return []string{"DATABASE_ENTRA with this DATABASE_URL: " + strings.ReplaceAll(err.Error(), "\n", "; ")}
	}
	return nil
}

func readRoots(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", file)
	}
	return pool, nil
}

// parseFault names the variable, where the parser names the struct's field.
func parseFault(err error) (name, fault string) {
	var parse env.ParseError
	if errors.As(err, &parse) {
		for _, v := range variables() {
			if v.field == parse.Name {
				return v.Name, v.Name + " is not a " + v.kind
			}
		}
	}
	return "", err.Error()
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// variable is one row of the configuration table.
type variable struct {
	Name, Default, Doc string
	field, kind        string
}

// variables lists the environment variables in the order of config's fields.
func variables() (list []variable) {
	for f := range reflect.TypeFor[config]().Fields() {
		if name := f.Tag.Get("env"); name != "" {
			list = append(list, variable{
				Name: name, Default: f.Tag.Get("envDefault"), Doc: f.Tag.Get("doc"),
				field: f.Name, kind: kindOf(f.Type),
			})
		}
	}
	return list
}

func kindOf(t reflect.Type) string {
	switch t {
	case reflect.TypeFor[time.Duration](), reflect.TypeFor[[]duration]():
		return "duration such as 35s"
	case reflect.TypeFor[int]():
		return "whole number"
	case reflect.TypeFor[bool]():
		return "true or false"
	case reflect.TypeFor[slog.Level]():
		return "log level: debug, info, warn or error"
	}
	return t.String()
}

// environmentHelp is the configuration table as --help shows it.
func environmentHelp() string {
	var b strings.Builder
	b.WriteString("Environment:\n")
	for _, v := range variables() {
		text := v.Doc
		if v.Default != "" {
			text += " (" + v.Default + ")"
		}
		fmt.Fprintf(&b, "  %s\n%s\n", v.Name, hanging("      ", text))
	}
	return b.String()
}

func (c config) retryPolicy() consumer.RetryPolicy {
	return consumer.RetryPolicy{
		Delays: delays(c.RetryDelays), Postponements: delays(c.PostponeDelays),
		MostArrived: c.MaxAttempts, UpdateLimit: c.UpdateLimit,
	}
}

func delays(list []duration) []time.Duration {
	out := make([]time.Duration, len(list))
	for i, d := range list {
		out[i] = time.Duration(d)
	}
	return out
}
