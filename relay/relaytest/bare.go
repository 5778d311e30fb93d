package relaytest

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"time"

	"github.com/gorilla/websocket"
)

// Bare is a sender that dials, exchanges and does nothing else: what it costs,
// no sender can do without. It is for measuring others against. It is not safe
// for concurrent use, and must be closed.
type Bare struct {
	ws *websocket.Conn
}

// DialBare joins a rendezvous at a hybrid connection of the relay. key signs a
// token for it; a zero one sends none. sessions, where it is not nil, lets TLS
// sessions be resumed. A refusal is an error with the status line in it.
func DialBare(ctx context.Context, s *Server, path string, key Key, sessions tls.ClientSessionCache) (*Bare, error) {
	dialer := websocket.Dialer{}
	if s.TLS() {
		dialer.TLSClientConfig = &tls.Config{RootCAs: s.CertPool(), ClientSessionCache: sessions, MinVersion: tls.VersionTLS12}
	}
	header := http.Header{}
	if key != (Key{}) {
		header.Set("ServiceBusAuthorization", SAS("http://"+s.Addr()+"/"+path, key, time.Now().Add(time.Hour)))
	}
	ws, response, err := dialer.DialContext(ctx, s.scheme()+"://"+s.Addr()+"/$hc/"+path+"?sb-hc-action=connect", header)
	if err != nil {
		if response != nil {
			return nil, fmt.Errorf("dial %s: %s", path, response.Status)
		}
		return nil, fmt.Errorf("dial %s: %w", path, err)
	}
	return &Bare{ws: ws}, nil
}

// Exchange writes one frame and reads one, without a limit on time.
func (b *Bare) Exchange(frame []byte) ([]byte, error) {
	if err := b.ws.WriteMessage(websocket.TextMessage, frame); err != nil {
		return nil, err
	}
	_, reply, err := b.ws.ReadMessage()
	return reply, err
}

// Close says goodbye and waits, a second at most, until the other side has too:
// a gateway whose peer just vanishes serves nobody for a while.
func (b *Bare) Close() error {
	until := time.Now().Add(time.Second)
	b.ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(closeNormal, ""), until)
	b.ws.SetReadDeadline(until)
	for {
		if _, _, err := b.ws.NextReader(); err != nil {
			return b.ws.Close()
		}
	}
}
