package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
)

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
	for i, a := range addresses {
		addresses[i] = a.Unmap()
	}
	return addresses, judgeAddresses(name, addresses)
}

// judgeAddresses lists what a name resolves to, and of which networks it is.
func judgeAddresses(name string, addresses []netip.Addr) finding {
	var texts []string
	private := 0
	for _, a := range addresses {
		texts = append(texts, a.String())
		if isPrivate(a) {
			private++
		}
	}
	slices.Sort(texts)
	f := finding{Check: "dns", Target: name, State: fine, Found: strings.Join(slices.Compact(texts), ", ")}
	switch private {
	case 0:
		f.Found += " (public)"
	case len(addresses):
		f.Found += " (private)"
	default:
		f.State, f.Found = warning, f.Found+" (private and public)"
		f.Mend = "Some connections go to the private endpoint and some to the public one. A private DNS zone should give the private address alone."
	}
	return f
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
	var loopback error
	for i, err := range errs {
		switch {
		case err == nil && open == nil:
			open = conns[i]
		case err == nil:
			_ = conns[i].Close()
		case len(addresses) > 1 && addresses[i].IsLoopback(): // localhost has two, and most servers one
			loopback = err
		case len(addresses) > 1 && addresses[i].Is6() && errors.Is(err, syscall.ENETUNREACH): // no IPv6 here, which is usual
		default:
			what, remedy := d.whyNotDialled(err, port, addresses[i])
			broken, mend = append(broken, addresses[i].String()+" "+what), remedy
		}
	}
	if open == nil && loopback != nil {
		what, remedy := d.whyNotDialled(loopback, port, addresses[0])
		broken, mend = append(broken, what), remedy
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
