package relay

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// A HybridConnection is the rendezvous point in Azure Relay at which one gateway listens.
type HybridConnection struct {
	// Namespace is the relay's host, such as "ns.servicebus.windows.net"; a port may follow.
	Namespace string
	// Path is the hybrid connection's name within the namespace; it may have several segments.
	Path string
}

// String is "namespace/path" in lower case, since neither part is told apart by case: two spellings of one hybrid connection give
// one text, which is how this package shares connections and how SQL names them.
func (hc HybridConnection) String() string {
	return strings.ToLower(hc.Namespace + "/" + strings.Trim(hc.Path, "/"))
}

// SenderURL is what a sender dials. The id names this dial in the relay's logs. No token is ever part of it.
func (hc HybridConnection) SenderURL(id string) *url.URL {
	return &url.URL{
		Scheme:   "wss",
		Host:     hc.Namespace,
		Path:     "/$hc/" + strings.Trim(hc.Path, "/"),
		RawQuery: url.Values{"sb-hc-action": {"connect"}, "sb-hc-id": {id}}.Encode(),
	}
}

// Audience is what a shared access token for this hybrid connection is signed for: an http URI, although no http is spoken.
func (hc HybridConnection) Audience() string {
	u := url.URL{Scheme: "http", Host: hc.Namespace, Path: "/" + strings.Trim(hc.Path, "/")}
	return u.String()
}

// checkPath refuses a path that would change the meaning of the URL it becomes part of.
func (hc HybridConnection) checkPath() error {
	for segment := range strings.SplitSeq(strings.Trim(hc.Path, "/"), "/") {
		if segment == "" || segment == "." || segment == ".." {
			return errors.New("path has an empty or a dot segment")
		}
		for _, r := range segment {
			if r <= ' ' || r == 0x7f || strings.ContainsRune(`?#%\`, r) {
				return errors.New("path has a character that is not allowed")
			}
		}
	}
	return nil
}

// Allowed reports whether c may dial namespace: a host below servicebus.windows.net, one that AllowHosts names, or a loopback host that
// PlainHosts names. The error wraps [ErrHostNotAllowed].
func (c *Client) Allowed(namespace string) error {
	host, err := hostOf(namespace)
	if err != nil {
		return err
	}
	if c.Plain(namespace) {
		if !loopback(host) {
			return fmt.Errorf("%w: %s: without TLS only loopback", ErrHostNotAllowed, host)
		}
		return nil
	}
	if matchHost("*.servicebus.windows.net", host) ||
		slices.ContainsFunc(c.AllowHosts, func(pattern string) bool { return matchHost(pattern, host) }) {
		return nil
	}
	return fmt.Errorf("%w: %s", ErrHostNotAllowed, host)
}

// Plain reports whether PlainHosts names namespace: one entry is a host with any port, another a host with that port.
func (c *Client) Plain(namespace string) bool {
	host, _ := hostOf(namespace)
	return slices.ContainsFunc(c.PlainHosts, func(entry string) bool {
		if _, _, err := net.SplitHostPort(entry); err == nil {
			return strings.EqualFold(entry, namespace)
		}
		return matchHost(entry, host)
	})
}

// matchHost compares host with an exact host, an exact host with a port that is ignored, or "*.suffix", which the bare suffix does not match.
func matchHost(pattern, host string) bool {
	pattern = strings.ToLower(pattern)
	if suffix, found := strings.CutPrefix(pattern, "*"); found {
		return strings.HasPrefix(suffix, ".") && len(host) > len(suffix) && strings.HasSuffix(host, suffix)
	}
	exact, err := hostOf(pattern)
	return err == nil && exact == host
}

// hostOf is the host of "host" or "host:port" in lower case, an IPv6 one without brackets.
// Everything that a URL would read as something other than a host is refused.
func hostOf(namespace string) (string, error) {
	host := strings.ToLower(namespace)
	if h, port, err := net.SplitHostPort(host); err == nil {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", fmt.Errorf("%w: not a port", ErrHostNotAllowed)
		}
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return host, nil
	}
	for label := range strings.SplitSeq(host, ".") {
		if label == "" || len(label) > 63 {
			return "", fmt.Errorf("%w: not a host name", ErrHostNotAllowed)
		}
		for _, r := range label {
			if (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' {
				return "", fmt.Errorf("%w: not a host name", ErrHostNotAllowed)
			}
		}
	}
	return host, nil
}

// loopback reports whether host is this machine by its very name.
func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}
