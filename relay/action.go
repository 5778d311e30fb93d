package relay

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// An Action is one frame for a gateway, with what is needed to recognise its ack. The frame holds a participant's details, so an
// Action prints only its type and id, and refuses to be marshalled.
type Action struct {
	// frame is a function, because printing a struct that has an Action in an unexported field calls no method of it.
	frame                 func() []byte
	id, kind, accessionNo string
}

// NewAction makes an action of its JSON frame, which is sent as it is and must not change afterwards, and of the frame's action_id,
// action_type and accession number. The caller has validated them; an id or number that is empty is not compared with the ack's.
func NewAction(frame []byte, id, actionType, accession string) Action {
	return Action{frame: func() []byte { return frame }, id: id, kind: actionType, accessionNo: accession}
}

// body is the frame; nil for the zero Action.
func (a Action) body() []byte {
	if a.frame == nil {
		return nil
	}
	return a.frame()
}

// ID is the action_id.
func (a Action) ID() string { return a.id }

// Type is the action_type.
func (a Action) Type() string { return a.kind }

// AccessionNumber is the worklist item's accession number.
func (a Action) AccessionNumber() string { return a.accessionNo }

// String is the action's type and id.
func (a Action) String() string { return a.kind + " " + a.id }

// Format prints String for every verb.
func (a Action) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, a.String()) }

// LogValue is the action's type and id.
func (a Action) LogValue() slog.Value {
	return slog.GroupValue(slog.String("action_type", a.kind), slog.String("action_id", a.id))
}

// MarshalText refuses, so that no encoder of text or JSON can write an action anywhere.
func (a Action) MarshalText() ([]byte, error) {
	return nil, errors.New("an action is not marshalled")
}

// MarshalJSON refuses as MarshalText does.
func (a Action) MarshalJSON() ([]byte, error) { return a.MarshalText() }

// creates reports whether a second copy of the action makes no second item: the gateway answers "exists" to it.
func (a Action) creates() bool {
	return a.kind == "worklist.create_item" || a.kind == "worklist.create_test_item"
}

// updates reports whether the action moves an item to another status, which a gateway answers with "not found" the second time.
func (a Action) updates() bool {
	return a.kind == "worklist.update_status" || a.kind == "worklist.update_item_status"
}

// repeatable reports whether a second copy of the action does no harm.
func (a Action) repeatable() bool { return a.creates() || a.kind == echoType }
