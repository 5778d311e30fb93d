package relaytest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// GatewayConfig describes a [Gateway].
type GatewayConfig struct {
	Name  string  // for people
	Relay *Server // the relay it listens on
	Path  string  // its hybrid connection; empty: Name
	Key   Key     // signs its tokens; zero: it sends none
	Mode  Mode    // empty: one-shot

	// Release is the version of its software. 0: the current one.
	Release Release

	// RTT is a pause between a frame and its reply.
	RTT time.Duration

	// Slots is how many rendezvous it serves at once. 0: one, as the real one
	// does; with more, MaxOpen tells whether a sender ever used two at once.
	Slots int

	// ReconnectDelay passes between the loss of its control channel and the next
	// attempt. 0: 5 s.
	ReconnectDelay time.Duration

	// IdleTimeout is how long it waits for a frame before it closes with 1000.
	// 0: 30 s.
	IdleTimeout time.Duration

	// CloseStall is how long it waits for an answer to its Close frame, and serves
	// nobody. 0: 10 s.
	CloseStall time.Duration

	// CloseDelay is a pause between a reply and the Close after it, during which
	// nothing is read. 0: none.
	CloseDelay time.Duration

	// TokenLife is how long its tokens are good; it renews them when eleven
	// twelfths have passed. 0: an hour.
	TokenLife time.Duration

	// DiscardFrames keeps no frames, so that long runs do not fill memory:
	// Frames returns none.
	DiscardFrames bool

	// Replied is told of each reply that was given to the relay, and of the
	// action that it answers; "" where the frame names none that was applied. It is
	// called by whoever serves the rendezvous, which waits for it; calls of several
	// gateways may overlap. Nil: nobody is told.
	Replied func(actionID string)
}

// Gateway is a hospital's imaging gateway: it listens on a hybrid connection,
// keeps a worklist in memory, and serves one rendezvous at a time in order of
// arrival. An open one, even a silent one, blocks those behind it. It listens
// again a while after any loss of its control channel.
//
// Its methods may be called concurrently. It must be closed.
type Gateway struct {
	config GatewayConfig

	switching sync.Mutex // held while line changes
	line      *line      // nil: offline; guarded by switching

	mu          sync.Mutex // guards what follows
	mode        Mode
	script      []Reply
	rejections  int // rendezvous still to be rejected; negative: all
	rejectWith  *refusal
	ignored     int // rendezvous still to be ignored; negative: all
	acceptDelay time.Duration
	frames      [][]byte
	dials       int
	exchanges   int
	open        int
	maxOpen     int
	worklist    *worklist
}

// Snapshot is what a gateway has seen and stored. It holds no participant's
// details.
type Snapshot struct {
	Name      string `json:"name"`
	Mode      Mode   `json:"mode"`
	Dials     int    `json:"dials"`     // rendezvous it joined
	Exchanges int    `json:"exchanges"` // request frames it received
	MaxOpen   int    `json:"max_open"`  // most rendezvous open at once, not counting those it was closing
	Items     []Item `json:"items"`     // in order of creation
}

// NewGateway starts a gateway and returns once it listens, or at once when its
// mode is offline.
func NewGateway(config GatewayConfig) (*Gateway, error) {
	if config.Relay == nil {
		return nil, errors.New("relaytest: gateway without a relay")
	}
	mode, err := ParseMode(string(config.Mode))
	if err != nil {
		return nil, fmt.Errorf("relaytest: %w", err)
	}
	if config.Path == "" {
		config.Path = config.Name
	}
	config.Slots = max(config.Slots, 1)
	for value, usual := range map[*time.Duration]time.Duration{
		&config.ReconnectDelay: 5 * time.Second,
		&config.IdleTimeout:    30 * time.Second,
		&config.CloseStall:     10 * time.Second,
		&config.TokenLife:      time.Hour,
	} {
		if *value == 0 {
			*value = usual
		}
	}
	g := &Gateway{config: config, mode: ModeOffline, worklist: newWorklist(config.Release)}
	if err := g.change(mode); err != nil {
		g.Close()
		return nil, fmt.Errorf("relaytest: gateway %s: listen: %w", config.Name, err)
	}
	return g, nil
}

// Close ends the gateway's connections and waits until nothing of it runs. What
// it has seen and stored can still be read.
func (g *Gateway) Close() error {
	g.SetMode(ModeOffline)
	return nil
}

// Name returns the configured name.
func (g *Gateway) Name() string { return g.config.Name }

// Mode returns the mode.
func (g *Gateway) Mode() Mode {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.mode
}

// SetMode changes the mode for the frames and rendezvous that follow. Going
// offline cuts every connection and forgets who waits; coming back waits for
// the first attempt to listen, and goes on trying if that is refused.
func (g *Gateway) SetMode(mode Mode) { g.change(mode) }

// change returns what became of the first attempt to listen.
func (g *Gateway) change(mode Mode) error {
	g.switching.Lock()
	defer g.switching.Unlock()
	g.mu.Lock()
	g.mode = mode
	g.mu.Unlock()
	switch {
	case mode == ModeOffline && g.line != nil:
		g.line.end()
		g.line = nil
	case mode != ModeOffline && g.line == nil:
		var first <-chan error
		g.line, first = g.connect(context.Background())
		return <-first
	}
	return nil
}

// Script sets what becomes of the next frames, one reply each, before the mode's
// own behaviour. More calls add to the end.
func (g *Gateway) Script(replies ...Reply) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.script = append(g.script, replies...)
}

// RejectNext rejects the next rendezvous with a status of the gateway's own,
// from 400 to 599; times < 0 does so until RejectNext(0, 0, "").
func (g *Gateway) RejectNext(times, code int, text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.rejections, g.rejectWith = times, &refusal{code: code, phrase: text}
}

// IgnoreNext never dials the accept address of the next rendezvous, and serves
// those after it; times < 0 does so until IgnoreNext(0).
func (g *Gateway) IgnoreNext(times int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ignored = times
}

// AcceptDelay makes the gateway wait that long before it dials each accept
// address, as one that is busy with another sender does. 0: not at all.
func (g *Gateway) AcceptDelay(d time.Duration) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.acceptDelay = d
}

// Snapshot returns what the gateway has seen and stored.
func (g *Gateway) Snapshot() Snapshot {
	g.mu.Lock()
	defer g.mu.Unlock()
	return Snapshot{
		Name: g.config.Name, Mode: g.mode,
		Dials: g.dials, Exchanges: g.exchanges, MaxOpen: g.maxOpen,
		Items: g.worklist.list(),
	}
}

// Frames returns every request frame received, in order.
func (g *Gateway) Frames() [][]byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.frames)
}

// receive counts and treats one frame: the reply to give, with its text.
func (g *Gateway) receive(request []byte) Reply {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.exchanges++
	if !g.config.DiscardFrames {
		g.frames = append(g.frames, bytes.Clone(request))
	}
	reply := g.mode.reply()
	if len(g.script) > 0 {
		reply = g.script[0].ending(g.mode)
		g.script = g.script[1:]
	}
	if !reply.Apply && !reply.Honest {
		return reply
	}
	answer, ok := g.worklist.handle(request)
	reply.write = g.worklist.last
	switch {
	case reply.Honest && ok:
		reply.Text = string(answer)
	case reply.Honest:
		reply.Text, reply.Drop, reply.Close = "", false, closeNormal
	}
	return reply
}

// opened and closing keep the count of open rendezvous.
func (g *Gateway) opened() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dials++
	g.open++
	g.maxOpen = max(g.maxOpen, g.open)
}

func (g *Gateway) closing() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open--
}
