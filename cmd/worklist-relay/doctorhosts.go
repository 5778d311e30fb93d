package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"

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

// resolve asks DNS, and says whether the addresses are of a private network: a
// private endpoint shows there.
func (d *doctor) resolve(ctx context.Context, name string) ([]netip.Addr, finding) {
	if literal, err := netip.ParseAddr(name); err == nil {
		return []netip.Addr{literal}, finding{Check: "dns", Target: name, State: fine, Found: "an address, no name"}
	}
	limited, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(limited, "ip", name)
	if err != nil {
		what, unknown := "no name server answered", "Does DNS work where this runs? Look at the network's DNS servers, and at firewalls for port 53."
		if fault, ok := errors.AsType[*net.DNSError](err); ok && fault.IsNotFound {
			what, unknown = "no such host", "Compare the name with the portal. If it has a private endpoint, link the private DNS zone (privatelink.servicebus.windows.net, or privatelink.postgres.database.azure.com) to the network that this runs in."
		}
		return nil, d.bad(ctx, "dns", name, what, unknown)
	}
	var private, public int
	texts := make([]string, 0, len(addresses))
	for i, a := range addresses {
		addresses[i] = a.Unmap()
		if isPrivate(addresses[i]) {
			private++
		} else {
			public++
		}
		texts = append(texts, addresses[i].String())
	}
	slices.Sort(texts)
	f := finding{Check: "dns", Target: name, State: fine, Found: strings.Join(slices.Compact(texts), ", ") + " (public)"}
	switch {
	case private > 0 && public > 0:
		f.State, f.Found = warning, strings.TrimSuffix(f.Found, "(public)")+"(private and public)"
		f.Mend = "Some connections go to the private endpoint and some to the public one. A private DNS zone should give the private address alone."
	case private > 0:
		f.Found = strings.TrimSuffix(f.Found, "(public)") + "(private)"
	}
	return addresses, f
}

func isPrivate(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || sharedSpace.Contains(a)
}

var sharedSpace = netip.MustParsePrefix("100.64.0.0/10") // RFC 6598: of carriers, and of some private networks

// dial connects to every address: of several, one that is broken costs every
// other connection its timeout. The connection is to the first that answered, and
// nil where none did.
func (d *doctor) dial(ctx context.Context, target, port string, addresses []netip.Addr) (net.Conn, finding) {
	limited, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	conns, errs := make([]net.Conn, len(addresses)), make([]error, len(addresses))
	done := make(chan struct{})
	for i, a := range addresses {
		go func() {
			conns[i], errs[i] = new(net.Dialer).DialContext(limited, "tcp", net.JoinHostPort(a.String(), port))
			done <- struct{}{}
		}()
	}
	for range addresses {
		<-done
	}
	var open net.Conn
	var broken []string
	mend := ""
	for i, err := range errs {
		switch {
		case err == nil && open == nil:
			open = conns[i]
		case err == nil:
			_ = conns[i].Close()
		case addresses[i].Is6() && errors.Is(err, syscall.ENETUNREACH) && len(addresses) > 1: // no IPv6 here, which is usual
		default:
			what, remedy := d.whyNotDialled(err, port, addresses[i])
			broken, mend = append(broken, addresses[i].String()+" "+what), remedy
		}
	}
	switch text := strings.Join(broken, "; "); {
	case open == nil && text == "":
		return nil, d.bad(ctx, "tcp", target, "unreachable: only IPv6 addresses, and no route for them", "Look at the name's addresses, and at the network.")
	case open == nil:
		return nil, d.bad(ctx, "tcp", target, text, mend)
	case text != "":
		return open, finding{Check: "tcp", Target: target, State: warning, Found: "answers, but not everywhere: " + text, Mend: mend}
	}
	return open, finding{Check: "tcp", Target: target, State: fine, Found: "answers"}
}

// whyNotDialled tells apart what "cannot connect" may mean.
func (d *doctor) whyNotDialled(err error, port string, a netip.Addr) (what, mend string) {
	var slow net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused", fmt.Sprintf("Something is there, but nothing listens at port %s: compare host and port, and see whether the server runs. Some firewalls refuse like this, too.", port)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "unreachable", "There is no way to it: look at the routes and the network security groups of the network that this runs in."
	case errors.As(err, &slow) && slow.Timeout() && isPrivate(a):
		return fmt.Sprintf("swallowed: no answer within %s", d.timeout), fmt.Sprintf("A private endpoint may be Approved and swallow packets all the same: look at the network security groups and routes between here and its subnet for TCP port %s, and make the private endpoint anew if they are right.", port)
	case errors.As(err, &slow) && slow.Timeout():
		return fmt.Sprintf("swallowed: no answer within %s", d.timeout), fmt.Sprintf("A firewall drops outgoing TCP port %s: open it. If the service has a private endpoint, DNS should have given its private address.", port)
	}
	return "not connected: " + lastOf(err.Error(), 120), "Look at the network that this runs in."
}
