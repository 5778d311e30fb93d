package amqp

import (
	"encoding/binary"
	"fmt"
	"time"
)

// Descriptors of the performatives (sections 2.7 and 5.3.3).
const (
	descOpen        = 0x10
	descBegin       = 0x11
	descAttach      = 0x12
	descFlow        = 0x13
	descTransfer    = 0x14
	descDisposition = 0x15
	descDetach      = 0x16
	descEnd         = 0x17
	descClose       = 0x18
	descMechanisms  = 0x40
	descInit        = 0x41
	descOutcome     = 0x44
)

// Role is what one end of a link does (section 2.8.1).
type Role bool

// The two roles.
const (
	RoleSender   Role = false
	RoleReceiver Role = true
)

// Settlement modes (sections 2.8.2 and 2.8.3).
const (
	SenderUnsettled uint8 = 0
	SenderSettled   uint8 = 1
	SenderMixed     uint8 = 2 // the default

	ReceiverFirst  uint8 = 0 // the default: settles as it decides
	ReceiverSecond uint8 = 1 // settles once the sender has
)

// Open starts a connection (section 2.7.1).
type Open struct {
	ContainerID, Hostname string
	MaxFrameSize          uint32 // bytes
	ChannelMax            uint16
	IdleTimeout           time.Duration // whole milliseconds; 0: none
}

// Begin starts a session on a channel (section 2.7.2).
type Begin struct {
	RemoteChannel                                             Uint32 // set in the answer to a Begin
	NextOutgoingID, IncomingWindow, OutgoingWindow, HandleMax uint32
}

// Attach attaches a link to a session (section 2.7.3).
type Attach struct {
	Name                         string
	Handle                       uint32
	Role                         Role
	SenderSettle, ReceiverSettle uint8
	Source                       *Source // nil in an answer that refuses
	Target                       *Target // nil in an answer that refuses
	InitialDeliveryCount         uint32  // sent by senders only
	MaxMessageSize               uint64  // bytes; 0: no limit
	Properties                   Map
}

// Flow updates the windows of a session, and with a Handle the credit of a link (section 2.7.4).
type Flow struct {
	NextIncomingID                                 Uint32
	IncomingWindow, NextOutgoingID, OutgoingWindow uint32
	Handle, DeliveryCount, LinkCredit, Available   Uint32
	Drain, Echo                                    bool
}

// Transfer carries a message or a part of one (section 2.7.5).
type Transfer struct {
	Handle                 uint32
	DeliveryID             Uint32
	Tag                    []byte
	Format                 Uint32
	Settled, More, Aborted bool
	Payload                []byte
}

// Disposition tells the state of the deliveries First to Last (section 2.7.6).
type Disposition struct {
	Role        Role
	First, Last uint32
	Settled     bool
	State       State
}

// Detach detaches a link (section 2.7.7).
type Detach struct {
	Handle uint32
	Closed bool
	Err    *Error
}

// End ends a session (section 2.7.8).
type End struct{ Err *Error }

// Close ends a connection (section 2.7.9).
type Close struct{ Err *Error }

// fields writes the fields of a composite in their order. Nulls at the end are written too: they cost a byte each.
type fields struct {
	b     []byte
	body  int // where the fields begin; the size and the count are in the eight bytes before
	count uint32
}

// composite begins a described list; end fills in its size and count, so that performatives need no second buffer.
func composite(b []byte, descriptor byte) fields {
	b = append(b, codeDescribed, codeSmallUlong, descriptor, codeList32, 0, 0, 0, 0, 0, 0, 0, 0)
	return fields{b: b, body: len(b)}
}

func (f *fields) end() []byte {
	binary.BigEndian.PutUint32(f.b[f.body-8:], uint32(len(f.b)-f.body+4))
	binary.BigEndian.PutUint32(f.b[f.body-4:], f.count)
	return f.b
}

func (f *fields) null()             { f.b = append(f.b, codeNull); f.count++ }
func (f *fields) bool(v bool)       { f.b = AppendBool(f.b, v); f.count++ }
func (f *fields) uint(v uint32)     { f.b = AppendUint(f.b, v); f.count++ }
func (f *fields) ulong(v uint64)    { f.b = AppendUlong(f.b, v); f.count++ }
func (f *fields) ubyte(v uint8)     { f.b = append(f.b, codeUbyte, v); f.count++ }
func (f *fields) ushort(v uint16)   { f.b = append(f.b, codeUshort, byte(v>>8), byte(v)); f.count++ }
func (f *fields) binary(v []byte)   { f.b = AppendBinary(f.b, v); f.count++ }
func (f *fields) value(v any)       { f.b = AppendValue(f.b, v); f.count++ }
func (f *fields) string(v string)   { f.b = AppendString(f.b, v); f.count++ }
func (f *fields) nested(v appender) { f.b = v.Append(f.b); f.count++ }

type appender interface{ Append([]byte) []byte }

func (f *fields) optional(v Uint32) {
	if !v.Set {
		f.null()
		return
	}
	f.uint(v.Value)
}

func (f *fields) properties(m Map) {
	if len(m) == 0 {
		f.null()
		return
	}
	f.value(m)
}

func (f *fields) fault(e *Error) {
	if e == nil {
		f.null()
		return
	}
	f.nested(e)
}

// Append encodes the performative.
func (o *Open) Append(b []byte) []byte {
	f := composite(b, descOpen)
	f.string(o.ContainerID)
	f.string(o.Hostname)
	f.uint(o.MaxFrameSize)
	f.ushort(o.ChannelMax)
	if o.IdleTimeout > 0 {
		f.uint(uint32(o.IdleTimeout.Milliseconds()))
	}
	return f.end()
}

// Append encodes the performative.
func (p *Begin) Append(b []byte) []byte {
	f := composite(b, descBegin)
	if p.RemoteChannel.Set {
		f.ushort(uint16(p.RemoteChannel.Value))
	} else {
		f.null()
	}
	f.uint(p.NextOutgoingID)
	f.uint(p.IncomingWindow)
	f.uint(p.OutgoingWindow)
	f.uint(p.HandleMax)
	return f.end()
}

// Append encodes the performative.
func (a *Attach) Append(b []byte) []byte {
	f := composite(b, descAttach)
	f.string(a.Name)
	f.uint(a.Handle)
	f.bool(bool(a.Role))
	f.ubyte(a.SenderSettle)
	f.ubyte(a.ReceiverSettle)
	if a.Source != nil {
		f.nested(a.Source)
	} else {
		f.null()
	}
	if a.Target != nil {
		f.nested(a.Target)
	} else {
		f.null()
	}
	f.null() // unsettled: links are not resumed
	f.null()
	if a.Role == RoleSender {
		f.uint(a.InitialDeliveryCount)
	} else {
		f.null()
	}
	f.ulong(a.MaxMessageSize)
	f.null()
	f.null()
	f.properties(a.Properties)
	return f.end()
}

// Append encodes the performative.
func (p *Flow) Append(b []byte) []byte {
	f := composite(b, descFlow)
	f.optional(p.NextIncomingID)
	f.uint(p.IncomingWindow)
	f.uint(p.NextOutgoingID)
	f.uint(p.OutgoingWindow)
	f.optional(p.Handle)
	f.optional(p.DeliveryCount)
	f.optional(p.LinkCredit)
	f.optional(p.Available)
	f.bool(p.Drain)
	f.bool(p.Echo)
	return f.end()
}

// Append encodes the performative and its payload.
func (t *Transfer) Append(b []byte) []byte {
	f := composite(b, descTransfer)
	f.uint(t.Handle)
	f.optional(t.DeliveryID)
	if t.Tag == nil {
		f.null()
	} else {
		f.binary(t.Tag)
	}
	f.optional(t.Format)
	f.bool(t.Settled)
	f.bool(t.More)
	f.null()
	f.null()
	f.bool(false)
	f.bool(t.Aborted)
	return append(f.end(), t.Payload...)
}

// Append encodes the performative.
func (p *Disposition) Append(b []byte) []byte {
	f := composite(b, descDisposition)
	f.bool(bool(p.Role))
	f.uint(p.First)
	f.uint(p.Last)
	f.bool(p.Settled)
	f.nested(&p.State)
	return f.end()
}

// Append encodes the performative.
func (p *Detach) Append(b []byte) []byte {
	f := composite(b, descDetach)
	f.uint(p.Handle)
	f.bool(p.Closed)
	f.fault(p.Err)
	return f.end()
}

// Append encodes the performative.
func (p *End) Append(b []byte) []byte {
	f := composite(b, descEnd)
	f.fault(p.Err)
	return f.end()
}

// Append encodes the performative.
func (p *Close) Append(b []byte) []byte {
	f := composite(b, descClose)
	f.fault(p.Err)
	return f.end()
}

// Decode reads the performative of a frame's body. A transfer's payload shares memory with body.
func Decode(body []byte) (Performative, error) {
	d := NewDecoder(body)
	descriptor, c := d.composite()
	read, known := readers[descriptor]
	if d.err == nil && !known {
		return nil, fmt.Errorf("performative 0x%02x is not known", descriptor)
	}
	if d.err != nil {
		return nil, fmt.Errorf("performative: %w", d.err)
	}
	p := read(c)
	if c.d.err != nil {
		return nil, fmt.Errorf("performative 0x%02x: %w", descriptor, c.d.err)
	}
	if t, ok := p.(*Transfer); ok {
		t.Payload = d.Rest()
	}
	return p, nil
}
