package servicebustest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"time"
)

// certificate is what a server proves its name with. It signs itself and is never written to a file.
type certificate struct {
	tls  *tls.Config
	pem  []byte
	pool *x509.CertPool
}

// makeCertificate makes the server's certificate, if there is to be TLS.
func (s *Server) makeCertificate() error {
	if !s.config.TLS {
		return nil
	}
	cert, err := newCertificate(time.Now())
	if err != nil {
		return fmt.Errorf("service bus certificate: %w", err)
	}
	s.cert = cert
	return nil
}

func newCertificate(now time.Time) (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		return nil, err
	}
	wanted := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "servicebustest"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(1, 0, 0),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true, // so that it can be trusted as a root
	}
	der, err := x509.CreateCertificate(rand.Reader, wanted, wanted, key.Public(), key)
	if err != nil {
		return nil, err
	}
	made, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(made)
	return &certificate{
		tls:  &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key, Leaf: made}}, MinVersion: tls.VersionTLS12},
		pem:  pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pool: pool,
	}, nil
}

// CertificatePEM returns the server's certificate, PEM encoded; nil without TLS.
func (s *Server) CertificatePEM() []byte {
	if s.cert == nil {
		return nil
	}
	return s.cert.pem
}

// CertPool returns a pool with the server's certificate alone; nil without TLS.
func (s *Server) CertPool() *x509.CertPool {
	if s.cert == nil {
		return nil
	}
	return s.cert.pool
}

// secure puts TLS on a connection, where there is TLS. The handshake is made by the first read or write.
func (s *Server) secure(socket net.Conn) net.Conn {
	if s.cert == nil {
		return socket
	}
	return tls.Server(socket, s.cert.tls)
}

func (s *Server) secureListener(listener net.Listener) net.Listener {
	if s.cert == nil {
		return listener
	}
	return tls.NewListener(listener, s.cert.tls)
}

// scheme is that of the HTTP side.
func (s *Server) scheme() string {
	if s.cert == nil {
		return "http"
	}
	return "https"
}
