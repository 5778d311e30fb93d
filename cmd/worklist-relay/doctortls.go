package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"
)

// expiresSoon is when a certificate's end is worth a warning.
const expiresSoon = 7 * 24 * time.Hour

// secure makes a TLS session and judges the certificate, as run does and for
// any reason it may refuse it. Nothing is sent through the session.
func (d *doctor) secure(ctx context.Context, h host, name string, conn net.Conn) finding {
	if h.noTLS != "" {
		f := finding{Check: "tls", Target: h.address, State: note, Found: "none: " + h.noTLS}
		if remote, ok := conn.RemoteAddr().(*net.TCPAddr); !ok || !remote.IP.IsLoopback() {
			f.State, f.Mend = warning, "What goes to another machine needs TLS: use sslmode=verify-full."
		}
		return f
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if h.secured == afterAsked {
		if f, ok := d.askForTLS(ctx, h, conn); !ok {
			return f
		}
	}
	// The certificate is judged below, where each fault can be named.
	session := tls.Client(conn, &tls.Config{ServerName: name, MinVersion: tls.VersionTLS12, InsecureSkipVerify: true})
	if err := session.HandshakeContext(ctx); err != nil {
		what, mend := d.whyNoTLS(err)
		return d.bad(ctx, "tls", h.address, what, mend)
	}
	state := session.ConnectionState()
	return d.judge(ctx, h, name, state)
}

// askForTLS sends PostgreSQL's SSLRequest (its documentation, "Message Formats").
func (d *doctor) askForTLS(ctx context.Context, h host, conn net.Conn) (finding, bool) {
	answer := make([]byte, 1)
	_, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47})
	if err == nil {
		_, err = io.ReadFull(conn, answer)
	}
	switch {
	case err != nil:
		what, mend := d.whyNoTLS(err)
		return d.bad(ctx, "tls", h.address, what, mend), false
	case answer[0] != 'S':
		return d.bad(ctx, "tls", h.address, "the server takes no TLS", "Switch TLS on at the server; on one machine, sslmode=disable in DATABASE_URL does without."), false
	}
	return finding{}, true
}

func (d *doctor) whyNoTLS(err error) (what, mend string) {
	var slow net.Error
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &slow) && slow.Timeout(), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Sprintf("swallowed: connected, but no answer within %s", d.timeout), "Something takes connections and then says nothing: a firewall that opens TLS, a private endpoint that goes nowhere, or a server that hangs."
	case errors.As(err, &record):
		return "what answers does not speak TLS", "Compare host and port: another program listens there."
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), strings.Contains(err.Error(), "reset by peer"):
		return "hung up during the TLS handshake", "A firewall may cut connections that it does not know, or the server does not know this host name. Compare the name with the portal."
	}
	return "no TLS session: " + lastOf(err.Error(), 120), "Look at what stands between here and the host: a firewall may open TLS."
}

// judge looks at the certificate with the eyes of run.
func (d *doctor) judge(ctx context.Context, h host, name string, state tls.ConnectionState) finding {
	leaf := state.PeerCertificates[0]
	by := issuerOf(leaf)
	until := leaf.NotAfter.UTC().Format("2006-01-02")
	var roots *x509.CertPool
	if h.roots != nil {
		var err error
		if roots, err = h.roots(); err != nil {
			return d.bad(ctx, "tls", h.address, "the trusted certificates cannot be read: "+err.Error(), h.trust)
		}
	}
	between := x509.NewCertPool()
	for _, c := range state.PeerCertificates[1:] {
		between.AddCert(c)
	}
	if h.anyName {
		name = ""
	}
	_, err := leaf.Verify(x509.VerifyOptions{DNSName: name, Roots: roots, Intermediates: between})
	var wrongName x509.HostnameError
	var invalid x509.CertificateInvalidError
	switch {
	case h.lax != "":
		return finding{Check: "tls", Target: h.address, State: warning, Found: fmt.Sprintf("%s, and the certificate by %s is not looked at: %s", tls.VersionName(state.Version), by, h.lax),
			Mend: "Anybody in between could answer: use sslmode=verify-full."}
	case errors.As(err, &wrongName):
		return d.bad(ctx, "tls", h.address, fmt.Sprintf("wrong name: the certificate by %s is for %s", by, namesOf(leaf)),
			"The host name is not this server's own: compare it with the portal, and use the full name of the namespace or server, not an address or an alias of yours.")
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return d.bad(ctx, "tls", h.address, fmt.Sprintf("the certificate by %s is valid from %s until %s, and not now", by, leaf.NotBefore.UTC().Format("2006-01-02"), until),
			"If it is out of date, have it renewed. If it should be valid, this machine's clock is wrong.")
	case err != nil:
		return d.bad(ctx, "tls", h.address, "unknown authority: the certificate by "+by+" is not trusted here",
			"Does a firewall open TLS in between, with certificates of its own? Except this host from that. "+h.trust)
	case time.Until(leaf.NotAfter) < expiresSoon:
		return finding{Check: "tls", Target: h.address, State: warning, Found: fmt.Sprintf("the certificate by %s expires soon, on %s", by, until), Mend: "Have it renewed."}
	}
	return finding{Check: "tls", Target: h.address, State: fine, Found: fmt.Sprintf("%s, certificate by %s until %s", tls.VersionName(state.Version), by, until)}
}

func issuerOf(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return lastOf(c.Issuer.CommonName, 60)
	}
	return lastOf(c.Issuer.String(), 60)
}

func namesOf(c *x509.Certificate) string {
	names := c.DNSNames
	for _, ip := range c.IPAddresses {
		names = append(names, ip.String())
	}
	if len(names) > 4 {
		names = append(names[:4:4], "...")
	}
	if len(names) == 0 {
		return c.Subject.CommonName
	}
	return strings.Join(names, ", ")
}
