package main

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"strings"

	"github.com/worklist-relay/worklist-relay/store"
)

// host is one address that run connects to.
type host struct {
	address string // host:port
	secured secured
	roots   func() (*x509.CertPool, error) // that its certificate must come from; a nil pool is the system's
	trust   string                         // how to name another authority; a sentence
	noTLS   string                         // why there is none; "": there is
	lax     string                         // why run looks at no certificate; "": it does
	anyName bool                           // run takes a certificate for another name
}

// secured is how TLS begins on a connection.
type secured int

const (
	atOnce     secured = iota // with its first byte
	afterAsked                // as PostgreSQL does it
)

// lookAtHosts goes to Service Bus and PostgreSQL. Relays come later: the
// database knows them.
func (d *doctor) lookAtHosts(ctx context.Context) []finding {
	var probes []probe
	var whose []string
	var findings []finding
	add := func(whom string, hosts []host, err error) {
		if err != nil {
			d.cut[whom] = whom + " is not configured as it must be"
			findings = append(findings, finding{Check: "dns", Target: whom, State: skipped, Found: d.cut[whom]})
		}
		for _, h := range hosts {
			whose = append(whose, whom)
			probes = append(probes, d.hostProbe(h))
		}
	}
	bus, err := d.config.serviceBusHost()
	add("Service Bus", bus, err)
	databases, err := d.config.databaseHosts()
	add("the database", databases, err)
	reached, tried := map[string]bool{}, map[string]bool{}
	for i, list := range d.together(ctx, 0, probes...) {
		tried[whose[i]] = true
		reached[whose[i]] = reached[whose[i]] || !anyFailed(list)
		findings = append(findings, list...)
	}
	for whom := range tried {
		if !reached[whom] {
			d.cut[whom] = whom + " cannot be reached"
		}
	}
	return findings
}

// hostProbe looks at one host; its three steps have the timeout each.
func (d *doctor) hostProbe(h host) probe {
	return probe{check: "tcp", target: h.address, limit: 3 * d.timeout, look: func(ctx context.Context) []finding { return d.lookAtHost(ctx, h) }}
}

// serviceBusHost is where AMQP is spoken; an error where nothing usable is configured.
func (c config) serviceBusHost() ([]host, error) {
	if _, err := c.connect(); err != nil || len(c.queueFaults()) > 0 {
		return nil, errors.New("not configured")
	}
	h := host{trust: "To trust an authority of your own, name its certificate's file in SSL_CERT_FILE."}
	name, port := c.ServiceBusNamespace, "5671"
	for part := range strings.SplitSeq(c.ServiceBusConnectionString, ";") {
		key, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch {
		case strings.EqualFold(key, "Endpoint"):
			_, name, _ = strings.Cut(value, "://")
			name = strings.TrimRight(name, "/")
		case strings.EqualFold(key, "UseDevelopmentEmulator") && strings.EqualFold(value, "true"):
			port, h.noTLS = "5672", "an emulator is spoken to without"
		}
	}
	h.address = withPort(name, port)
	return []host{h}, nil
}

// databaseHosts are those of PostgreSQL; none for SQLite or a socket.
func (c config) databaseHosts() (hosts []host, err error) {
	if c.DatabaseURL == "" {
		return nil, errors.New("not configured")
	}
	server, err := store.ServerOf(c.DatabaseURL)
	for _, address := range server.Addresses {
		h := host{
			address: address, secured: afterAsked, trust: "Name the authority's file in the URL as sslrootcert=FILE.",
			roots: func() (*x509.CertPool, error) {
				if server.RootCert == "" || server.RootCert == "system" {
					return nil, nil
				}
				return readRoots(server.RootCert)
			},
		}
		switch mode := "sslmode=" + server.TLSMode + " in DATABASE_URL"; server.TLSMode {
		case "disable", "allow", "prefer":
			h.noTLS = mode
		case "require":
			h.lax = mode
		case "verify-ca":
			h.anyName = true
		}
		hosts = append(hosts, h)
	}
	return hosts, err
}

// withPort is name with a port, its own if it has one.
func withPort(name, port string) string {
	if _, _, err := net.SplitHostPort(name); err == nil {
		return name
	}
	return net.JoinHostPort(strings.Trim(name, "[]"), port)
}

// lookAtHost goes step by step; after one that failed the rest says nothing.
func (d *doctor) lookAtHost(ctx context.Context, h host) []finding {
	name, port, err := net.SplitHostPort(h.address)
	if err != nil {
		return []finding{d.bad(ctx, "dns", h.address, "no host name and port", "Compare it with the portal.")}
	}
	addresses, found := d.resolve(ctx, name)
	findings := []finding{found}
	if len(addresses) == 0 {
		return findings
	}
	conn, found := d.dial(ctx, h.address, port, addresses)
	findings = append(findings, found)
	if conn == nil {
		return findings
	}
	defer conn.Close()
	return append(findings, d.secure(ctx, h, name, conn))
}
