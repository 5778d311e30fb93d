package amqp

import (
	"errors"
	"math"
)

// Value reads one value of any type and returns it as types.go says. Described values, lists, maps and arrays are decoded
// to the bottom.
func (d *Decoder) Value() any {
	start := d.buf
	code := d.byte()
	if code != codeDescribed {
		return d.valueOf(code, start)
	}
	if d.depth++; d.depth > maxDepth {
		d.fail(errors.New("values lie too deep"))
		return nil
	}
	defer func() { d.depth-- }()
	return Described{Descriptor: d.Value(), Value: d.Value()}
}

// valueOf reads the value that follows the constructor code; start begins at that constructor, and is nil for an element of an
// array, which has no constructor of its own.
func (d *Decoder) valueOf(code byte, start []byte) any {
	switch code {
	case codeList0:
		return List{}
	case codeList8, codeList32:
		return List(d.elements(code, codeList8, codeList32))
	case codeMap8, codeMap32:
		return d.wholeMap(code)
	case codeArray8, codeArray32:
		return d.array(code)
	case codeString8, codeString32, codeSymbol8, codeSymbol32, codeBinary8, codeBinary32:
		return d.variable(code)
	}
	if v, ok := d.fixed(code); ok {
		return v
	}
	// What is left are decimals, and codes that the specification does not give out but whose width is known.
	d.skipBody(code)
	if start == nil {
		d.fail(errors.New("array of a type that can only be kept raw"))
	}
	if d.err != nil {
		return nil
	}
	return append(Raw(nil), start[:len(start)-len(d.buf)]...)
}

func (d *Decoder) variable(code byte) any {
	width := 1
	if code >= codeBinary32 {
		width = 4
	}
	b := d.next(int(d.number(width)))
	switch code {
	case codeString8, codeString32:
		return string(b)
	case codeSymbol8, codeSymbol32:
		return Symbol(b)
	}
	return append([]byte{}, b...)
}

func (d *Decoder) fixed(code byte) (any, bool) {
	switch code {
	case codeNull:
		return nil, true
	case codeTrue, codeFalse:
		return code == codeTrue, true
	case codeBool:
		return d.byte() != 0, true
	case codeUint0:
		return uint32(0), true
	case codeUlong0:
		return uint64(0), true
	case codeUbyte:
		return d.byte(), true
	case codeByte:
		return int8(d.byte()), true
	case codeUshort:
		return uint16(d.number(2)), true
	case codeShort:
		return int16(d.number(2)), true
	case codeSmallUint:
		return uint32(d.byte()), true
	case codeUint:
		return uint32(d.number(4)), true
	case codeSmallInt:
		return int32(int8(d.byte())), true
	case codeInt:
		return int32(d.number(4)), true
	case codeSmallUlong:
		return uint64(d.byte()), true
	case codeUlong:
		return d.number(8), true
	case codeSmallLong:
		return int64(int8(d.byte())), true
	case codeLong:
		return int64(d.number(8)), true
	case codeFloat:
		return math.Float32frombits(uint32(d.number(4))), true
	case codeDouble:
		return math.Float64frombits(d.number(8)), true
	case codeChar:
		return Char(d.number(4)), true
	case codeTimestamp:
		return d.timestamp(), true
	case codeUUID:
		var id UUID
		copy(id[:], d.next(len(id)))
		return id, true
	}
	return nil, false
}

func (d *Decoder) elements(code, short, long byte) []any {
	body, count := d.compound(code, short, long, 1)
	values := make([]any, 0, count)
	for range count {
		values = append(values, body.Value())
	}
	d.adopt(body)
	return values
}

func (d *Decoder) wholeMap(code byte) any {
	values := d.elements(code, codeMap8, codeMap32)
	if len(values)%2 != 0 {
		d.fail(errors.New("map with a key that has no value"))
		return nil
	}
	m := make(Map, 0, len(values)/2)
	for i := 0; i < len(values); i += 2 {
		m = append(m, Entry{Key: values[i], Value: values[i+1]})
	}
	return m
}

// array refuses elements of no width: a few bytes could claim billions of them (section 1.6.24 allows it, nobody sends it).
func (d *Decoder) array(code byte) any {
	body, count := d.compound(code, codeArray8, codeArray32, 0)
	element := body.byte()
	if count == 0 {
		d.adopt(body)
		return Array{}
	}
	if element == codeDescribed || element>>4 == 0x4 || count > body.Len() {
		d.fail(errors.New("array of described or empty elements, or of more than it has bytes"))
		return nil
	}
	values := make(Array, 0, count)
	for range count {
		values = append(values, body.valueOf(element, nil))
		if body.err != nil {
			break
		}
	}
	d.adopt(body)
	return values
}
