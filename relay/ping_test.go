package relay_test

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/gorilla/websocket"

	"github.com/worklist-relay/worklist-relay/relay"
)

// A connection in use is pinged all the time: the relay drops one after about two minutes of silence.
func TestOpenConnectionIsPinged(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			dialer := websocket.Dialer{NetDial: func(string, string) (net.Conn, error) { return ours, nil }}
			ws, _, err := dialer.Dial("ws://gateway/", nil)
			if err != nil {
				t.Error(err)
				return
			}
			relay.ServeSocket(ws)
		}()
		defer func() {
			_ = theirs.Close()
			<-ended
		}()
		switchProtocols(t, theirs)
		begun := time.Now()
		_ = theirs.SetReadDeadline(begun.Add(2 * time.Minute))
		var pings []time.Duration
		for range 3 {
			var frame [6]byte // header and mask of a frame that holds nothing, RFC 6455 section 5.2
			if _, err := io.ReadFull(theirs, frame[:]); err != nil {
				t.Fatal(err)
			}
			if frame[0] != 0x80|websocket.PingMessage {
				t.Fatalf("frame %x", frame)
			}
			pings = append(pings, time.Since(begun))
		}
		if diff := cmp.Diff([]time.Duration{30 * time.Second, time.Minute, 90 * time.Second}, pings); diff != "" {
			t.Error(diff)
		}
	})
}

// switchProtocols answers the upgrade request on conn, RFC 6455 section 4.2.2.
func switchProtocols(t *testing.T, conn net.Conn) {
	t.Helper()
	request, err := http.ReadRequest(bufio.NewReader(conn))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha1.Sum([]byte(request.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	if err != nil {
		t.Fatal(err)
	}
}
