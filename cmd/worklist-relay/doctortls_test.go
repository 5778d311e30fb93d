package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// A certificate of an authority that RELAY_CA_FILE names is as good as any.
func TestDoctorTrustsAnAuthorityThatIsNamed(t *testing.T) {
	t.Parallel()
	i := newInstallation(t, "sqlite", queueAsItShouldBe())
	server := secureRelay(t, "127.0.0.1:0")
	i.trust(server)
	i.addRelay("york", server.Addr(), "york")
	said := i.examine("--json")
	said.has(t, finding{Check: "tls", Target: server.Addr(), State: "ok", Found: "TLS 1.3, certificate by "})
	if said.code != 0 {
		t.Errorf("exit code %d\n%s", said.code, said.out)
	}
}

// trust lets doctor dial a relay, and trust its certificate.
func (i *installation) trust(server *relaytest.Server) {
	i.t.Helper()
	file := filepath.Join(i.t.TempDir(), "ca.pem")
	i.must(os.WriteFile(file, server.CertificatePEM(), 0o600))
	host, _, err := net.SplitHostPort(server.Addr())
	i.must(err)
	i.env["RELAY_CA_FILE"], i.env["RELAY_ALLOW_HOSTS"] = file, host
}

// A certificate that is out of date, or soon will be, is told by its days.
func TestDoctorTellsWhenCertificatesEnd(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	for name, c := range map[string]struct {
		from, until time.Duration // from now
		code        int
		want        finding
	}{
		"soon":        {-day, 3 * day, 4, finding{"tls", "127.0.0.1:", "warning", "the certificate by own authority expires soon, on ", "renewed"}},
		"out of date": {-3 * day, -day, 1, finding{"tls", "127.0.0.1:", "failed", "and not now", "clock is wrong"}},
		"not yet":     {day, 3 * day, 1, finding{"tls", "127.0.0.1:", "failed", "and not now", "clock is wrong"}},
		"for long":    {-day, 30 * day, 0, finding{"tls", "127.0.0.1:", "ok", "certificate by own authority until ", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := newInstallation(t, "sqlite", queueAsItShouldBe())
			addr, file := certified(t, time.Now().Add(c.from), time.Now().Add(c.until))
			i.env["RELAY_CA_FILE"], i.env["RELAY_ALLOW_HOSTS"] = file, addr
			i.addRelay("york", addr, "york")
			said := i.examine("--json")
			said.has(t, c.want)
			if said.code != c.code {
				t.Errorf("exit code %d, want %d", said.code, c.code)
			}
		})
	}
}

// certified is an address that speaks TLS, with a certificate for these times of
// which it returns the file.
func certified(t *testing.T, from, until time.Time) (addr, file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "own authority"}, NotBefore: from, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "own.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			_ = conn.(*tls.Conn).HandshakeContext(t.Context()) // doctor says what came of it
			_ = conn.Close()
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		serving.Wait()
	})
	return listener.Addr().String(), file
}
