package relaytest_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/relay/relaytest"
)

// TestFrames passes payloads of each length that has a header of its own.
func TestFrames(t *testing.T) {
	t.Parallel()
	for _, tls := range []bool{false, true} {
		s := newServer(t, relaytest.Config{TLS: tls})
		control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
		sender, listener := join(t, s, control, "hc-leeds", nil, nil)
		for _, size := range []int{0, 1, 7, 8, 125, 126, 127, 4096, 65535, 65536, 1 << 20} {
			for _, kind := range []int{websocket.TextMessage, websocket.BinaryMessage} {
				t.Run(fmt.Sprintf("tls=%t/%d bytes/opcode %d", tls, size, kind), func(t *testing.T) {
					payload := make([]byte, size)
					for i := range payload {
						payload[i] = byte(rand.Uint32())
					}
					passes(t, sender, listener, kind, payload)
					passes(t, listener, sender, kind, payload)
				})
			}
		}
	}
}

// TestLongFrames sends each message in one frame, which gorilla's client does
// not do with long ones.
func TestLongFrames(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	conn := rawUpgrade(t, s, "/$hc/hc-leeds")
	listener := mustDial(t, s, readAccept(t, control).Address, nil)
	skipResponse(t, conn)
	for _, size := range []int{125, 126, 65535, 65536, 65537, 1 << 20} {
		payload := strings.Repeat("0123456789", size/10+1)[:size]
		sent := make(chan error, 1)
		go func() { _, err := conn.Write(clientFrame(0x82, payload)); sent <- err }()
		kind, got, err := listener.ReadMessage()
		if err != nil || kind != websocket.BinaryMessage || string(got) != payload {
			t.Errorf("%d bytes: opcode %d, %d bytes, %v", size, kind, len(got), err)
		}
		if err := suite.Receive(t, "an answer", sent); err != nil {
			t.Error(err)
		}
	}
}

func passes(t *testing.T, from, to *websocket.Conn, kind int, payload []byte) {
	t.Helper()
	sent := make(chan error, 1)
	go func() { sent <- from.WriteMessage(kind, payload) }()
	gotKind, got, err := to.ReadMessage()
	if err != nil || gotKind != kind || !bytes.Equal(got, payload) {
		t.Errorf("opcode %d, %d bytes, %v", gotKind, len(got), err)
	}
	if err := suite.Receive(t, "an answer", sent); err != nil {
		t.Error(err)
	}
}

// TestFragments sees to it that the relay neither joins nor splits.
func TestFragments(t *testing.T) {
	t.Parallel()
	s := newServer(t, relaytest.Config{})
	control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
	conn := rawUpgrade(t, s, "/$hc/hc-leeds")
	listener := mustDial(t, s, readAccept(t, control).Address, nil)
	skipResponse(t, conn)
	conn.Write(bytes.Join([][]byte{
		clientFrame(0x01, "one "), // text, not final
		clientFrame(0x89, "ping"), // between fragments
		clientFrame(0x00, "two "),
		clientFrame(0x80, "three"), // final
		clientFrame(0x82, "four"),
	}, nil))
	kind, text, err := listener.ReadMessage()
	if err != nil || kind != websocket.TextMessage || string(text) != "one two three" {
		t.Errorf("opcode %d %q: %v", kind, text, err)
	}
	kind, text, err = listener.ReadMessage()
	if err != nil || kind != websocket.BinaryMessage || string(text) != "four" {
		t.Errorf("opcode %d %q: %v", kind, text, err)
	}
	pong := make([]byte, 6)
	if _, err := io.ReadFull(conn, pong); err != nil || string(pong) != "\x8a\x04ping" {
		t.Errorf("pong %q: %v", pong, err)
	}
}

// clientFrame is one masked frame.
func clientFrame(first byte, payload string) []byte {
	mask := [4]byte{1, 2, 3, 4}
	frame := []byte{first}
	switch {
	case len(payload) <= 125:
		frame = append(frame, 0x80|byte(len(payload)))
	case len(payload) <= 65535:
		frame = binary.BigEndian.AppendUint16(append(frame, 0x80|126), uint16(len(payload)))
	default:
		frame = binary.BigEndian.AppendUint64(append(frame, 0x80|127), uint64(len(payload)))
	}
	frame = append(frame, mask[:]...)
	for i := range len(payload) {
		frame = append(frame, payload[i]^mask[i%4])
	}
	return frame
}

// skipResponse reads up to the end of the 101 and not a byte more.
func skipResponse(t *testing.T, conn net.Conn) {
	t.Helper()
	conn.SetReadDeadline(time.Now().Add(patience))
	var head []byte
	for one := make([]byte, 1); !bytes.HasSuffix(head, []byte("\r\n\r\n")); head = append(head, one[0]) {
		if _, err := conn.Read(one); err != nil {
			t.Fatalf("after %q: %v", head, err)
		}
	}
}

// TestBadFrames are closed with a code rather than passed on.
func TestBadFrames(t *testing.T) {
	t.Parallel()
	huge := binary.BigEndian.AppendUint64([]byte{0x82, 0xff}, relaytest.MaxFrame+1)
	for _, test := range []struct {
		name  string
		frame []byte
		want  int
	}{
		{"not masked", []byte("\x81\x01x"), 1002},
		{"reserved bit", clientFrame(0xc1, "x"), 1002},
		{"reserved opcode", clientFrame(0x83, "x"), 1002},
		{"ping in fragments", clientFrame(0x09, "x"), 1002},
		{"too long", append(huge, 0, 0, 0, 0), 1009},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := newServer(t, relaytest.Config{})
			control := mustDial(t, s, "hc-leeds?sb-hc-action=listen", nil)
			conn := rawUpgrade(t, s, "/$hc/hc-leeds")
			listener := mustDial(t, s, readAccept(t, control).Address, nil)
			skipResponse(t, conn)
			conn.Write(test.frame)
			if code := closeCode(t, listener); code != test.want {
				t.Errorf("listener's close code %d", code)
			}
			want := []byte{0x88, 2, byte(test.want >> 8), byte(test.want)}
			got := make([]byte, len(want))
			if _, err := io.ReadFull(conn, got); err != nil || !bytes.Equal(got, want) {
				t.Errorf("sender got % x: %v", got, err)
			}
		})
	}
}

// FuzzFrame feeds the relay's frame reader and checks what it lets through.
func FuzzFrame(f *testing.F) {
	f.Add(clientFrame(0x81, "hello"))
	f.Add(clientFrame(0x88, "\x03\xe8"))
	for _, size := range []int{0, 125, 126, 65535, 65536} {
		f.Add(clientFrame(0x82, strings.Repeat("x", size)))
	}
	f.Add([]byte{0x82, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, wire []byte) {
		got, err := relaytest.UnmaskFrame(bytes.NewReader(wire))
		if err != nil {
			return
		}
		size := int(got[1])
		payload := got[2:]
		switch size {
		case 126:
			size, payload = int(binary.BigEndian.Uint16(got[2:])), got[4:]
		case 127:
			size, payload = int(binary.BigEndian.Uint64(got[2:])), got[10:]
		}
		if got[0] != wire[0] || got[0]&0x70 != 0 || len(payload) != size {
			t.Fatalf("% x became % x", wire, got)
		}
		head := 2
		switch wire[1] & 0x7f {
		case 126:
			head = 4
		case 127:
			head = 10
		}
		mask, masked := wire[head:head+4], wire[head+4:]
		for i := range payload {
			if payload[i] != masked[i]^mask[i%4] {
				t.Fatalf("byte %d of % x became % x", i, wire, got)
			}
		}
	})
}
