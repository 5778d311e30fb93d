package amqp

import (
	"errors"
	"fmt"
	"math"
	"time"
)

// maxDepth bounds how deeply described values, lists, maps and arrays may lie in each other.
const maxDepth = 32

var errShort = errors.New("value is longer than its bytes")

// Decoder reads values from a byte slice. The first fault sticks: every later read returns a zero value, and Err tells the fault.
type Decoder struct {
	buf   []byte
	err   error
	depth int
}

// NewDecoder returns a decoder of b.
func NewDecoder(b []byte) *Decoder { return &Decoder{buf: b} }

// Err returns the first fault, nil if all reads were good.
func (d *Decoder) Err() error { return d.err }

// Len returns how many bytes are left.
func (d *Decoder) Len() int { return len(d.buf) }

// Rest returns the bytes that are left; they share memory with the input.
func (d *Decoder) Rest() []byte { return d.buf }

func (d *Decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.buf = nil
}

// next takes n bytes; zeros of that length are never made up: at a fault it returns nil.
func (d *Decoder) next(n int) []byte {
	if n < 0 || n > len(d.buf) {
		d.fail(errShort)
		return nil
	}
	b := d.buf[:n:n]
	d.buf = d.buf[n:]
	return b
}

func (d *Decoder) byte() byte {
	if b := d.next(1); b != nil {
		return b[0]
	}
	return 0
}

// number takes an unsigned number of width 1, 2, 4 or 8 bytes.
func (d *Decoder) number(width int) uint64 {
	var n uint64
	for _, b := range d.next(width) {
		n = n<<8 | uint64(b)
	}
	return n
}

// Null consumes a null, if there is one.
func (d *Decoder) Null() bool {
	if len(d.buf) > 0 && d.buf[0] == codeNull {
		d.buf = d.buf[1:]
		return true
	}
	return false
}

// Bool reads a boolean.
func (d *Decoder) Bool() bool {
	switch code := d.byte(); code {
	case codeTrue:
		return true
	case codeFalse:
		return false
	case codeBool:
		return d.byte() != 0
	default:
		d.wrong("boolean", code)
		return false
	}
}

// Uint reads an unsigned number of at most 32 bits.
func (d *Decoder) Uint() uint32 {
	n := d.Ulong()
	if n > math.MaxUint32 {
		d.fail(fmt.Errorf("%d is more than a uint holds", n))
		return 0
	}
	return uint32(n)
}

// Ulong reads an unsigned number of any width.
func (d *Decoder) Ulong() uint64 {
	switch code := d.byte(); code {
	case codeUint0, codeUlong0:
		return 0
	case codeUbyte, codeSmallUint, codeSmallUlong:
		return d.number(1)
	case codeUshort:
		return d.number(2)
	case codeUint:
		return d.number(4)
	case codeUlong:
		return d.number(8)
	default:
		d.wrong("unsigned number", code)
		return 0
	}
}

// text reads a string or a symbol: peers are not strict about which of the two they send.
func (d *Decoder) text() string {
	switch code := d.byte(); code {
	case codeString8, codeSymbol8:
		return string(d.next(int(d.number(1))))
	case codeString32, codeSymbol32:
		return string(d.next(int(d.number(4))))
	default:
		d.wrong("string", code)
		return ""
	}
}

// Binary reads binary data; it shares memory with the input.
func (d *Decoder) Binary() []byte {
	switch code := d.byte(); code {
	case codeBinary8:
		return d.next(int(d.number(1)))
	case codeBinary32:
		return d.next(int(d.number(4)))
	default:
		d.wrong("binary", code)
		return nil
	}
}

func (d *Decoder) wrong(want string, code byte) {
	d.fail(fmt.Errorf("type 0x%02x where a %s is due", code, want))
}

// Raw takes one complete value as it stands.
func (d *Decoder) Raw() Raw {
	start := d.buf
	d.Skip()
	if d.err != nil {
		return nil
	}
	n := len(start) - len(d.buf)
	return Raw(start[:n:n])
}

// Skip consumes one complete value. It looks only at the outermost lengths.
func (d *Decoder) Skip() {
	for range maxDepth {
		code := d.byte()
		if code != codeDescribed {
			d.skipBody(code)
			return
		}
		d.skipBody(d.byte()) // the descriptor, which skipBody refuses if it is itself described
	}
	d.fail(errors.New("described values lie too deep"))
}

// skipBody uses the layout that constructor codes share: the high nibble tells the width (section 1.2.1).
func (d *Decoder) skipBody(code byte) {
	switch code >> 4 {
	case 0x4:
	case 0x5:
		d.next(1)
	case 0x6:
		d.next(2)
	case 0x7:
		d.next(4)
	case 0x8:
		d.next(8)
	case 0x9:
		d.next(16)
	case 0xa, 0xc, 0xe:
		d.next(int(d.number(1)))
	case 0xb, 0xd, 0xf:
		d.next(int(d.number(4)))
	default:
		d.fail(fmt.Errorf("type 0x%02x is not known", code))
	}
}

// compound reads the head of a list, map or array of the given codes and returns a decoder of its body and its element count.
// No element is smaller than elementSize, so that a count cannot promise more than the bytes can hold.
func (d *Decoder) compound(code, short, long byte, elementSize int) (*Decoder, int) {
	width := 4
	switch code {
	case short:
		width = 1
	case long:
	default:
		d.wrong(fmt.Sprintf("type 0x%02x", long), code)
		return &Decoder{err: d.err}, 0
	}
	body := &Decoder{buf: d.next(int(d.number(width))), depth: d.depth + 1}
	count := int(body.number(width))
	switch {
	case d.err != nil:
	case body.err != nil:
		d.fail(body.err)
	case body.depth > maxDepth:
		d.fail(errors.New("values lie too deep"))
	case count*elementSize > body.Len():
		d.fail(fmt.Errorf("%d elements in %d bytes", count, body.Len()))
	default:
		return body, count
	}
	return &Decoder{err: d.err}, 0
}

// Map reads a map whose keys are decoded and whose values are left Raw, so that they can be passed on untouched.
func (d *Decoder) Map() Map {
	body, count := d.compound(d.byte(), codeMap8, codeMap32, 1)
	if count%2 != 0 {
		d.fail(fmt.Errorf("map of %d elements", count))
		return nil
	}
	m := make(Map, 0, count/2)
	for range count / 2 {
		m = append(m, Entry{Key: body.Value(), Value: body.Raw()})
	}
	d.adopt(body)
	return m
}

func (d *Decoder) adopt(body *Decoder) {
	if body.err != nil {
		d.fail(body.err)
	}
}

func (d *Decoder) timestamp() time.Time { return time.UnixMilli(int64(d.number(8))).UTC() }
