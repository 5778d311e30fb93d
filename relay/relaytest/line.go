package relaytest

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/gorilla/websocket"
)

const closeNormal = 1000

// line is a gateway's presence on the relay: its control channel, those who
// wait, and those being served. It ends as a whole when the gateway goes offline.
type line struct {
	g      *Gateway
	cancel context.CancelFunc
	conns  connSet
	wg     sync.WaitGroup
	dialer websocket.Dialer
	queue  chan accept // in order of arrival
}

// maxWaiting is the service's limit of connections to a namespace.
const maxWaiting = 5000

// connect starts a line. The channel tells what became of the first attempt.
func (g *Gateway) connect(ctx context.Context) (*line, <-chan error) {
	ctx, cancel := context.WithCancel(ctx)
	l := &line{
		g:      g,
		cancel: cancel,
		queue:  make(chan accept, maxWaiting),
		dialer: websocket.Dialer{
			HandshakeTimeout: 30 * time.Second,
			TLSClientConfig:  &tls.Config{RootCAs: g.config.Relay.CertPool(), ServerName: "localhost"},
		},
	}
	first := make(chan error, 1)
	l.wg.Go(func() { l.listen(ctx, first) })
	for range g.config.Slots {
		l.wg.Go(func() { l.serve(ctx) })
	}
	return l, first
}

func (l *line) end() {
	l.cancel()
	l.conns.closeAll()
	l.wg.Wait()
}

// listen keeps a control channel open. It sends the first attempt's result.
func (l *line) listen(ctx context.Context, first chan<- error) {
	for {
		issued := l.clock().now()
		ws, err := l.dial(ctx, l.listenURL(), l.authorization())
		select {
		case first <- err:
		default:
		}
		if err == nil {
			l.control(ctx, ws, issued)
		}
		if !l.clock().pause(ctx, l.clock().now().Add(l.g.config.ReconnectDelay)) {
			return
		}
	}
}

// clock is the relay's.
func (l *line) clock() *clock { return &l.g.config.Relay.clock }

// control reads the channel until it ends, and renews its token meanwhile.
func (l *line) control(ctx context.Context, ws *websocket.Conn, issued time.Time) {
	defer l.conns.end(ws.NetConn())
	ctx, cancel := context.WithCancel(ctx)
	var renewing sync.WaitGroup
	defer renewing.Wait()
	defer cancel()
	if l.g.config.Key != (Key{}) {
		renewing.Go(func() { l.renew(ctx, ws, issued) })
	}
	for {
		_, text, err := ws.ReadMessage()
		if err != nil {
			return
		}
		var message acceptMessage
		if json.Unmarshal(text, &message) != nil || message.Accept.Address == "" {
			continue
		}
		select {
		case l.queue <- message.Accept:
		case <-ctx.Done():
			return
		}
	}
}

// renew is the only writer of data frames on the control channel.
func (l *line) renew(ctx context.Context, ws *websocket.Conn, issued time.Time) {
	for l.clock().pause(ctx, issued.Add(l.g.config.TokenLife*11/12)) {
		issued = l.clock().now()
		var message struct {
			RenewToken struct {
				Token string `json:"token"`
			} `json:"renewToken"`
		}
		message.RenewToken.Token = l.authorization().Get("ServiceBusAuthorization")
		if ws.WriteJSON(message) != nil {
			return
		}
	}
}

// serve takes up those who wait, one after the other.
func (l *line) serve(ctx context.Context) {
	for {
		select {
		case a := <-l.queue:
			l.answer(ctx, a)
		case <-ctx.Done():
			return
		}
	}
}

func (l *line) answer(ctx context.Context, a accept) {
	delay, ignore, reject := l.g.reception()
	if !pause(ctx, delay) || ignore {
		return
	}
	address := a.Address
	if reject != nil {
		address += "&sb-hc-statusCode=" + strconv.Itoa(reject.code) +
			"&sb-hc-statusDescription=" + url.QueryEscape(reject.phrase)
	}
	ws, err := l.dial(ctx, address, nil)
	if err != nil {
		return // rejected, which the relay answers 410, or the sender is gone
	}
	defer l.conns.end(ws.NetConn())
	defer l.clock().forget(ws.NetConn())
	idle := l.idle()
	l.g.opened()
	code := l.converse(ctx, ws, idle)
	l.g.closing()
	if code != 0 {
		l.close(ws, code)
	}
}

// reception says how the next rendezvous is received.
func (g *Gateway) reception() (delay time.Duration, ignore bool, reject *refusal) {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.ignored != 0:
		g.ignored = countDown(g.ignored)
		return g.acceptDelay, true, nil
	case g.rejections != 0:
		g.rejections = countDown(g.rejections)
		return g.acceptDelay, false, g.rejectWith
	}
	return g.acceptDelay, false, nil
}

// maxRequest is the longest request a gateway takes, in bytes.
const maxRequest = 1 << 20

// converse answers frames until the rendezvous is to end, and returns the code
// to close it with; 0: cut it. It is idle if the first does not come by then.
func (l *line) converse(ctx context.Context, ws *websocket.Conn, idle time.Time) int {
	ws.SetReadLimit(maxRequest)
	for {
		l.clock().deadline(ws.NetConn(), idle)
		_, request, err := ws.ReadMessage()
		switch {
		case errors.Is(err, websocket.ErrReadLimit):
			return closeTooBig // which the read has sent already
		case timedOut(err):
			return closeNormal
		case err != nil:
			return 0 // the sender's Close has been answered by the read
		}
		reply := l.g.receive(request)
		ended := !pause(ctx, l.g.config.RTT+reply.After) || !reply.due(ctx)
		idle = time.Time{} // unanswered: until the sender goes
		if reply.Text != "" {
			idle = l.idle()
		}
		ended = ended || l.send(ws, reply) != nil
		if ended || reply.Text == "" {
			l.g.loseAck(reply.write)
		} else {
			l.g.tell(reply.write)
		}
		if ended || reply.Drop {
			return 0
		}
		if !reply.KeepOpen || reply.Close != 0 {
			pause(ctx, l.g.config.CloseDelay)
			return reply.Close
		}
	}
}

// idle is when a rendezvous is, if nothing happens on it from now on.
func (l *line) idle() time.Time { return l.clock().now().Add(l.g.config.IdleTimeout) }

// due waits until the reply may be given, and reports whether ctx outlived that.
func (r Reply) due(ctx context.Context) bool {
	if r.Until == nil {
		return true
	}
	select {
	case <-r.Until:
		return true
	case <-ctx.Done():
		return false
	}
}

// tell says that a reply was given.
func (g *Gateway) tell(applied *Write) {
	if g.config.Replied == nil {
		return
	}
	id := ""
	if applied != nil {
		id = applied.ActionID
	}
	g.config.Replied(id)
}

func (l *line) send(ws *websocket.Conn, reply Reply) error {
	kind := websocket.TextMessage
	if reply.Binary {
		kind = websocket.BinaryMessage
	}
	texts := reply.Extra
	if reply.Text != "" {
		texts = append([]string{reply.Text}, texts...)
	}
	for _, text := range texts {
		if err := ws.WriteMessage(kind, []byte(text)); err != nil {
			return err
		}
	}
	return nil
}

// close sends a Close frame and reads on, discarding, until the other side has
// answered it, which the relay shows by ending the connection.
func (l *line) close(ws *websocket.Conn, code int) {
	until := time.Now().Add(l.g.config.CloseStall)
	ws.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, ""), until)
	conn := ws.NetConn()
	l.clock().forget(conn)
	conn.SetReadDeadline(until)
	io.Copy(io.Discard, conn)
}

func (l *line) dial(ctx context.Context, address string, header http.Header) (*websocket.Conn, error) {
	ws, response, err := l.dialer.DialContext(ctx, address, header)
	if err != nil {
		if response != nil {
			err = errors.New(response.Status)
		}
		return nil, err
	}
	if !l.conns.add(ws.NetConn()) {
		return nil, net.ErrClosed
	}
	return ws, nil
}

func (l *line) listenURL() string {
	relay := l.g.config.Relay
	u := url.URL{
		Scheme: relay.scheme(), Host: relay.Addr(), Path: "/$hc/" + l.g.config.Path,
		RawQuery: "sb-hc-action=listen&sb-hc-id=" + uuid.NewString(),
	}
	return u.String()
}

// authorization is a fresh token, where a token never ends up in a log.
func (l *line) authorization() http.Header {
	header := http.Header{}
	if key := l.g.config.Key; key != (Key{}) {
		resource := "http://" + l.g.config.Relay.Addr() + "/" + l.g.config.Path
		// A token counts whole seconds: rounded up, a short one outlives its renewal.
		expires := l.clock().now().Add(l.g.config.TokenLife + time.Second)
		header.Set("ServiceBusAuthorization", SAS(resource, key, expires))
	}
	return header
}
