package main_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	service "github.com/worklist-relay/worklist-relay/cmd/worklist-relay"
)

// passwordGate stands before a PostgreSQL that trusts everybody, asks whoever
// comes for a password in clear text, and lets in whom judge takes. It speaks as
// much of the protocol (PostgreSQL documentation, 55.7) as that needs.
type passwordGate struct {
	listener net.Listener
	to       string
	judge    func(role, password string) error
	running  sync.WaitGroup

	mu    sync.Mutex // guards what follows
	conns map[net.Conn]bool
}

func startPasswordGate(t *testing.T, to string, judge func(role, password string) error) *passwordGate {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := &passwordGate{listener: listener, to: to, judge: judge, conns: map[net.Conn]bool{}}
	g.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			g.keep(client)
			g.running.Go(func() {
				defer g.end(client)
				g.serve(client)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		g.cut()
		g.running.Wait()
	})
	return g
}

func (g *passwordGate) addr() string { return g.listener.Addr().String() }

func (g *passwordGate) keep(c net.Conn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.conns[c] = true
}

func (g *passwordGate) end(c net.Conn) {
	c.Close()
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.conns, c)
}

// cut ends every connection.
func (g *passwordGate) cut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for c := range g.conns {
		c.Close()
	}
}

func (g *passwordGate) serve(client net.Conn) {
	// Nobody may hold the gate's end up by saying nothing.
	_ = client.SetDeadline(time.Now().Add(service.Patience))
	startup, role, err := readStartup(client)
	if err != nil {
		return
	}
	password, err := askPassword(client)
	if err != nil {
		return
	}
	if err := g.judge(role, password); err != nil {
		_, _ = client.Write(message('E', "SFATAL", "VFATAL", "C28P01", `Mpassword authentication failed for user "`+role+`"`, ""))
		return
	}
	server, err := net.DialTimeout("tcp", g.to, 10*time.Second)
	if err != nil {
		return
	}
	g.keep(server)
	defer g.end(server)
	if _, err := server.Write(startup); err != nil {
		return
	}
	_ = client.SetDeadline(time.Time{})
	var back sync.WaitGroup
	back.Go(func() {
		defer client.Close()
		_, _ = io.Copy(client, server) // begins with AuthenticationOk, which the client waits for
	})
	_, _ = io.Copy(server, client)
	server.Close()
	back.Wait()
}

// readStartup returns a startup message, and the role that it names.
func readStartup(client io.Reader) (startup []byte, role string, err error) {
	startup = make([]byte, 8) // length, and the protocol's version
	if _, err := io.ReadFull(client, startup); err != nil {
		return nil, "", err
	}
	length, version := binary.BigEndian.Uint32(startup), binary.BigEndian.Uint32(startup[4:])
	if version>>16 != 3 || length < 8 || length > 10_000 {
		return nil, "", errors.New("no startup message")
	}
	startup = append(startup, make([]byte, length-8)...)
	_, err = io.ReadFull(client, startup[8:])
	fields := strings.Split(string(startup[8:]), "\x00") // names and values, each ended by a zero
	if at := slices.Index(fields, "user"); at >= 0 && at+1 < len(fields) {
		role = fields[at+1]
	}
	return startup, role, err
}

func askPassword(client io.ReadWriter) (string, error) {
	if _, err := client.Write([]byte{'R', 0, 0, 0, 8, 0, 0, 0, 3}); err != nil { // AuthenticationCleartextPassword
		return "", err
	}
	var header [5]byte
	if _, err := io.ReadFull(client, header[:]); err != nil {
		return "", err
	}
	length := binary.BigEndian.Uint32(header[1:])
	if header[0] != 'p' || length < 5 || length > 10_000 {
		return "", errors.New("no password message")
	}
	text := make([]byte, length-4)
	_, err := io.ReadFull(client, text)
	return string(bytes.TrimSuffix(text, []byte{0})), err
}

// message is one message of a server, its fields each ended by a zero.
func message(kind byte, fields ...string) []byte {
	var body []byte
	for _, field := range fields {
		body = append(append(body, field...), 0)
	}
	return append(binary.BigEndian.AppendUint32([]byte{kind}, uint32(len(body)+4)), body...)
}
