package amqp

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// readers tells for each descriptor how its fields are read.
var readers = map[uint64]func(*columns) Performative{
	descOpen:        readOpen,
	descBegin:       readBegin,
	descAttach:      readAttach,
	descFlow:        readFlow,
	descTransfer:    readTransfer,
	descDisposition: readDisposition,
	descDetach:      readDetach,
	descEnd:         func(c *columns) Performative { return &End{Err: c.fault()} },
	descClose:       func(c *columns) Performative { return &Close{Err: c.fault()} },
	descMechanisms:  readMechanisms,
	descInit:        readInit,
	descOutcome:     readOutcome,
}

// columns reads the fields of a composite in their order. Fields that the peer left out at the end read as null (section 1.4).
type columns struct {
	d    *Decoder
	left int
}

// composite reads the descriptor and the head of a described list.
func (d *Decoder) composite() (uint64, *columns) {
	if code := d.byte(); d.err == nil && code != codeDescribed {
		d.wrong("described list", code)
	}
	descriptor := d.Ulong()
	code := d.byte()
	if code == codeList0 || d.err != nil {
		return descriptor, &columns{d: &Decoder{err: d.err}}
	}
	body, count := d.compound(code, codeList8, codeList32, 1)
	return descriptor, &columns{d: body, left: count}
}

// next moves to the next field and reports whether it has a value.
func (c *columns) next() bool {
	if c.left == 0 || c.d.err != nil {
		return false
	}
	c.left--
	return !c.d.Null()
}

func (c *columns) skip(n int) {
	for range n {
		if c.next() {
			c.d.Skip()
		}
	}
}

// required notes a fault if a mandatory field is missing.
func (c *columns) required(name string) bool {
	ok := c.next()
	if !ok && c.d.err == nil {
		c.d.fail(fmt.Errorf("%s is missing", name))
	}
	return ok
}

func (c *columns) bool() bool {
	return c.next() && c.d.Bool()
}

func (c *columns) text() string {
	if !c.next() {
		return ""
	}
	return c.d.text()
}

func (c *columns) uint(otherwise uint32) uint32 {
	if !c.next() {
		return otherwise
	}
	return c.d.Uint()
}

func (c *columns) mandatory(name string) uint32 {
	if !c.required(name) {
		return 0
	}
	return c.d.Uint()
}

func (c *columns) optional() Uint32 {
	if !c.next() {
		return Uint32{}
	}
	return Some(c.d.Uint())
}

func (c *columns) small(otherwise, most uint32) uint32 {
	n := c.uint(otherwise)
	if n > most {
		c.d.fail(fmt.Errorf("%d where at most %d is due", n, most))
		return 0
	}
	return n
}

func (c *columns) properties() Map {
	if !c.next() {
		return nil
	}
	return c.d.Map()
}

func (c *columns) fault() *Error {
	if !c.next() {
		return nil
	}
	return c.d.fault()
}

func readOpen(c *columns) Performative {
	o := &Open{}
	if c.required("container-id") {
		o.ContainerID = c.d.text()
	}
	o.Hostname = c.text()
	o.MaxFrameSize = c.uint(math.MaxUint32)
	o.ChannelMax = uint16(c.small(math.MaxUint16, math.MaxUint16))
	o.IdleTimeout = time.Duration(c.uint(0)) * time.Millisecond
	return o
}

func readBegin(c *columns) Performative {
	return &Begin{
		RemoteChannel:  c.optional(),
		NextOutgoingID: c.mandatory("next-outgoing-id"),
		IncomingWindow: c.mandatory("incoming-window"),
		OutgoingWindow: c.mandatory("outgoing-window"),
		HandleMax:      c.uint(math.MaxUint32),
	}
}

func readAttach(c *columns) Performative {
	a := &Attach{}
	if c.required("name") {
		a.Name = c.d.text()
	}
	a.Handle = c.mandatory("handle")
	if c.required("role") {
		a.Role = Role(c.d.Bool())
	}
	a.SenderSettle = uint8(c.small(uint32(SenderMixed), uint32(SenderMixed)))
	a.ReceiverSettle = uint8(c.small(uint32(ReceiverFirst), uint32(ReceiverSecond)))
	if c.next() {
		a.Source = c.d.source()
	}
	if c.next() {
		a.Target = c.d.target()
	}
	c.skip(2)
	a.InitialDeliveryCount = c.uint(0)
	if c.next() {
		a.MaxMessageSize = c.d.Ulong()
	}
	c.skip(2)
	a.Properties = c.properties()
	return a
}

func readFlow(c *columns) Performative {
	return &Flow{
		NextIncomingID: c.optional(),
		IncomingWindow: c.mandatory("incoming-window"),
		NextOutgoingID: c.mandatory("next-outgoing-id"),
		OutgoingWindow: c.mandatory("outgoing-window"),
		Handle:         c.optional(),
		DeliveryCount:  c.optional(),
		LinkCredit:     c.optional(),
		Available:      c.optional(),
		Drain:          c.bool(),
		Echo:           c.bool(),
	}
}

func readTransfer(c *columns) Performative {
	t := &Transfer{Handle: c.mandatory("handle"), DeliveryID: c.optional()}
	if c.next() {
		t.Tag = append([]byte{}, c.d.Binary()...)
	}
	t.Format = c.optional()
	t.Settled = c.bool()
	t.More = c.bool()
	c.skip(3)
	t.Aborted = c.bool()
	return t
}

func readDisposition(c *columns) Performative {
	p := &Disposition{}
	if c.required("role") {
		p.Role = Role(c.d.Bool())
	}
	p.First = c.mandatory("first")
	p.Last = c.uint(p.First)
	p.Settled = c.bool()
	if c.next() {
		p.State = c.d.state()
	}
	return p
}

func readDetach(c *columns) Performative {
	return &Detach{Handle: c.mandatory("handle"), Closed: c.bool(), Err: c.fault()}
}

func readMechanisms(c *columns) Performative {
	m := &Mechanisms{}
	if !c.required("sasl-server-mechanisms") {
		return m
	}
	switch v := c.d.Value().(type) {
	case Symbol:
		m.Names = append(m.Names, string(v))
	case Array:
		for _, name := range v {
			text, _ := Text(name)
			m.Names = append(m.Names, text)
		}
	default:
		c.d.fail(errors.New("sasl-server-mechanisms are no symbols"))
	}
	return m
}

func readInit(c *columns) Performative {
	p := &Init{}
	if c.required("mechanism") {
		p.Mechanism = c.d.text()
	}
	if c.next() {
		p.Response = append([]byte{}, c.d.Binary()...)
	}
	p.Hostname = c.text()
	return p
}

func readOutcome(c *columns) Performative {
	return &Outcome{Code: uint8(c.mandatory("code"))}
}
