package amqp

import "fmt"

const (
	descError       = 0x1d
	descSource      = 0x28
	descTarget      = 0x29
	descCoordinator = 0x30
)

// Source is where a link takes its messages from (section 3.5.3). Its other fields are left as the peer's defaults.
type Source struct {
	Address string
	Filter  Map // values are described; empty: no filter
}

// Target is where a link brings its messages (section 3.5.4).
type Target struct {
	Address string

	// Coordinator is set if the target is a transaction coordinator (section 4.5) and has no address.
	Coordinator bool
}

// Append encodes the source.
func (s *Source) Append(b []byte) []byte {
	f := composite(b, descSource)
	f.string(s.Address)
	for range 6 {
		f.null()
	}
	f.properties(s.Filter)
	return f.end()
}

// Append encodes the target.
func (t *Target) Append(b []byte) []byte {
	if t.Coordinator {
		f := composite(b, descCoordinator)
		return f.end()
	}
	f := composite(b, descTarget)
	f.string(t.Address)
	return f.end()
}

func (d *Decoder) source() *Source {
	descriptor, c := d.composite()
	if d.err == nil && descriptor != descSource {
		d.fail(fmt.Errorf("source of type 0x%02x", descriptor))
		return nil
	}
	s := &Source{Address: c.text()}
	c.skip(6)
	s.Filter = c.properties()
	d.adopt(c.d)
	return s
}

func (d *Decoder) target() *Target {
	descriptor, c := d.composite()
	if d.err == nil && descriptor == descCoordinator {
		return &Target{Coordinator: true}
	}
	if d.err == nil && descriptor != descTarget {
		d.fail(fmt.Errorf("target of type 0x%02x", descriptor))
		return nil
	}
	t := &Target{Address: c.text()}
	d.adopt(c.d)
	return t
}

// Error is the reason that a peer gives for a detach, an end, a close or a rejection (section 2.8.14).
type Error struct {
	Condition   Symbol
	Description string
	Info        Map
}

// Error returns the condition and the description.
func (e *Error) Error() string {
	return fmt.Sprintf("%s: %s", e.Condition, e.Description)
}

// Append encodes the error.
func (e *Error) Append(b []byte) []byte {
	f := composite(b, descError)
	f.value(e.Condition)
	f.string(e.Description)
	f.properties(e.Info)
	return f.end()
}

func (d *Decoder) fault() *Error {
	descriptor, c := d.composite()
	if d.err == nil && descriptor != descError {
		d.fail(fmt.Errorf("error of type 0x%02x", descriptor))
		return nil
	}
	e := &Error{Condition: Symbol(c.text()), Description: c.text(), Info: c.properties()}
	d.adopt(c.d)
	return e
}

// Kinds of delivery state, by their descriptors (section 3.4).
const (
	StateNone     uint64 = 0
	StateReceived uint64 = 0x23
	StateAccepted uint64 = 0x24
	StateRejected uint64 = 0x25
	StateReleased uint64 = 0x26
	StateModified uint64 = 0x27
)

// State is the state of a delivery. The zero value is none.
type State struct {
	Kind uint64

	Err                       *Error // of a rejection
	Failed, UndeliverableHere bool   // of a modification
	Annotations               Map    // of a modification
}

// Append encodes the state.
func (s *State) Append(b []byte) []byte {
	switch s.Kind {
	case StateNone:
		return append(b, codeNull)
	case StateRejected:
		f := composite(b, byte(s.Kind))
		f.fault(s.Err)
		return f.end()
	case StateModified:
		f := composite(b, byte(s.Kind))
		f.bool(s.Failed)
		f.bool(s.UndeliverableHere)
		f.properties(s.Annotations)
		return f.end()
	}
	return append(b, codeDescribed, codeSmallUlong, byte(s.Kind), codeList0)
}

func (d *Decoder) state() State {
	descriptor, c := d.composite()
	s := State{Kind: descriptor}
	switch descriptor {
	case StateAccepted, StateReleased, StateReceived:
	case StateRejected:
		s.Err = c.fault()
	case StateModified:
		s.Failed, s.UndeliverableHere, s.Annotations = c.bool(), c.bool(), c.properties()
	default:
		if d.err == nil {
			d.fail(fmt.Errorf("delivery state 0x%02x", descriptor))
		}
	}
	d.adopt(c.d)
	return s
}
