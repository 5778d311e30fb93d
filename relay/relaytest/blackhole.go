package relaytest

import (
	"errors"
	"fmt"
	"net"
	"time"
)

// BlackHole is an address of this machine that swallows connections, as one
// does behind a firewall that drops packets, or an approved private endpoint
// once did: dialling it is neither accepted nor refused, and takes as long as
// the dialler's patience. It must be closed.
type BlackHole struct {
	addr  string
	close func() error
	full  []net.Conn // what its backlog holds
}

const (
	fillTime = 100 * time.Millisecond // without an answer, twice: the backlog is full, and not the machine
	mostFill = 16
)

// NewBlackHole makes one that swallows everything from now on. The error wraps
// [errors.ErrUnsupported] on a system that has no way to.
func NewBlackHole() (*BlackHole, error) {
	addr, closeListener, err := listenDeaf()
	if err != nil {
		return nil, fmt.Errorf("relaytest: black hole: %w", err)
	}
	b := &BlackHole{addr: addr, close: closeListener}
	silent := 0 // of the last dials
	for range mostFill {
		conn, err := net.DialTimeout("tcp", addr, fillTime)
		if slow := net.Error(nil); errors.As(err, &slow) && slow.Timeout() {
			if silent++; silent == 2 {
				return b, nil
			}
			continue
		}
		silent = 0
		if err != nil {
			return nil, errors.Join(fmt.Errorf("relaytest: black hole: %w", err), b.Close())
		}
		b.full = append(b.full, conn)
	}
	return nil, errors.Join(fmt.Errorf("relaytest: black hole: connections beyond the backlog: %w", errors.ErrUnsupported), b.Close())
}

// Addr returns host:port.
func (b *BlackHole) Addr() string { return b.addr }

// Close makes the address refuse connections.
func (b *BlackHole) Close() error {
	for _, conn := range b.full {
		conn.Close()
	}
	return b.close()
}
