package relaytest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Mode is how a [Gateway] treats those who want something of it.
type Mode string

const (
	ModeOneShot    Mode = "one-shot"   // answers one frame, then closes with 1000: the real one
	ModePersistent Mode = "persistent" // answers, and stays open for more
	ModeOffline    Mode = "offline"    // not listening
	ModeSilent     Mode = "silent"     // takes a frame, does nothing, and holds the rendezvous until the sender goes
	ModeReject     Mode = "reject"     // answers every frame with an error, stores nothing, then closes with 1000
	ModeHangUp     Mode = "hangup"     // takes a frame, does nothing, and closes with 1000 without a reply
)

var modes = []Mode{ModeOneShot, ModePersistent, ModeOffline, ModeSilent, ModeReject, ModeHangUp}

// ParseMode reads a mode's name; empty is one-shot. The error lists the names.
func ParseMode(name string) (Mode, error) {
	if name == "" {
		return ModeOneShot, nil
	}
	if !slices.Contains(modes, Mode(name)) {
		return "", fmt.Errorf("unknown gateway mode %q: one of %s", name, strings.Trim(fmt.Sprint(modes), "[]"))
	}
	return Mode(name), nil
}

// rejectingReply is what a gateway in reject mode answers: the wording of a refused
// transition, which says nothing about whom it was for.
const rejectingReply = `{"status":"error","message":"Cannot transition to 'X'"}`

// reply is the mode in the terms of a scripted reply.
func (m Mode) reply() Reply {
	switch m {
	case ModePersistent:
		return Reply{Apply: true, Honest: true, KeepOpen: true}
	case ModeSilent:
		return Reply{KeepOpen: true}
	case ModeHangUp:
		return Reply{Close: closeNormal}
	case ModeReject:
		return Reply{Text: rejectingReply, Close: closeNormal}
	default:
		return Reply{Apply: true, Honest: true, Close: closeNormal}
	}
}

// Reply scripts what a [Gateway] does with one frame. The zero value ignores it
// and ends as the mode does.
type Reply struct {
	// Apply stores or changes the item as the gateway would, before the reply.
	Apply bool

	// Text is the reply. Empty: none.
	Text string

	// Honest replies what the gateway really says to the request, and so applies
	// it, in place of Text. A malformed request has no honest reply.
	Honest bool

	// Binary sends the reply and Extra as binary frames rather than text.
	Binary bool

	// Extra frames follow the reply.
	Extra []string

	// After is a pause between the frame and the reply, added to the gateway's RTT.
	// The gateway reads nothing meanwhile.
	After time.Duration

	// Until is waited for too, before the reply. Nil: nothing is.
	Until <-chan struct{}

	// How it ends, the first that is set counting. None: as the mode does.
	Drop     bool // cut the connection without a close frame
	Close    int  // send a Close frame with this code
	KeepOpen bool // stay open: for another frame after a reply, without one until the sender goes

	write *Write // what the frame changed; nil: nothing
}

// ending completes a scripted reply with the way the mode ends.
func (r Reply) ending(m Mode) Reply {
	if !r.Drop && r.Close == 0 && !r.KeepOpen {
		as := m.reply()
		r.Drop, r.Close, r.KeepOpen = as.Drop, as.Close, as.KeepOpen
	}
	return r
}

// Release is a version of the gateway's software. They differ in what they
// answer to a duplicate and to what they do not know.
type Release int

const (
	// ReleaseCurrent answers a duplicate with "exists", knows
	// worklist.update_status, echo and health, and says so when it does not know an
	// action.
	ReleaseCurrent Release = iota

	// ReleaseDuplicate answers a duplicate with "duplicate", knows
	// worklist.update_item_status in place of worklist.update_status, and closes
	// without a reply on any action it does not know, echo and health among them.
	ReleaseDuplicate

	// ReleaseFirst is like ReleaseDuplicate, but answers a duplicate with an error
	// that holds the database's text, and puts every error under the key "error".
	ReleaseFirst
)
