package relaytest_test

import (
	"errors"
	"net"
	"testing"
	"time"

	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

func TestBlackHole(t *testing.T) {
	t.Parallel()
	hole, err := relaytest.NewBlackHole()
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn, err := net.DialTimeout("tcp", hole.Addr(), 100*time.Millisecond)
		if err == nil {
			conn.Close()
		}
		if slow := net.Error(nil); !errors.As(err, &slow) || !slow.Timeout() {
			t.Fatalf("dialling it: %v", err)
		}
	}
	if err := hole.Close(); err != nil {
		t.Fatal(err)
	}
	conn, err := net.DialTimeout("tcp", hole.Addr(), 10*time.Second)
	if err == nil {
		conn.Close()
	}
	if slow := net.Error(nil); err == nil || errors.As(err, &slow) && slow.Timeout() {
		t.Errorf("dialling it after Close: %v", err)
	}
}
