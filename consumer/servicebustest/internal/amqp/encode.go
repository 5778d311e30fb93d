package amqp

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// AppendValue encodes v in its shortest form. It panics if v is of a type that types.go does not name: that is a mistake of the
// caller, since every decoded value can be encoded.
func AppendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, codeNull)
	case Raw:
		return append(b, v...)
	case bool:
		return AppendBool(b, v)
	case uint32:
		return AppendUint(b, v)
	case uint64:
		return AppendUlong(b, v)
	case int32:
		if v == int32(int8(v)) {
			return append(b, codeSmallInt, byte(v))
		}
	case int64:
		if v == int64(int8(v)) {
			return append(b, codeSmallLong, byte(v))
		}
	case string:
		return AppendString(b, v)
	case Symbol:
		return AppendSymbol(b, v)
	case []byte:
		return AppendBinary(b, v)
	case List:
		return appendCompound(b, codeList32, len(v), func(b []byte) []byte {
			for _, e := range v {
				b = AppendValue(b, e)
			}
			return b
		})
	case Map:
		return AppendMap(b, v)
	case Array:
		return appendArray(b, v)
	case Described:
		return AppendValue(AppendValue(append(b, codeDescribed), v.Descriptor), v.Value)
	}
	code := fullCode(v)
	return appendFull(append(b, code), v)
}

// AppendBool encodes a boolean in one byte.
func AppendBool(b []byte, v bool) []byte {
	if v {
		return append(b, codeTrue)
	}
	return append(b, codeFalse)
}

// AppendUint encodes a uint in one, two or five bytes.
func AppendUint(b []byte, v uint32) []byte {
	switch {
	case v == 0:
		return append(b, codeUint0)
	case v < 256:
		return append(b, codeSmallUint, byte(v))
	}
	return binary.BigEndian.AppendUint32(append(b, codeUint), v)
}

// AppendUlong encodes a ulong in one, two or nine bytes.
func AppendUlong(b []byte, v uint64) []byte {
	switch {
	case v == 0:
		return append(b, codeUlong0)
	case v < 256:
		return append(b, codeSmallUlong, byte(v))
	}
	return binary.BigEndian.AppendUint64(append(b, codeUlong), v)
}

// AppendString encodes a string.
func AppendString(b []byte, v string) []byte {
	return append(appendSize(b, codeString8, codeString32, len(v)), v...)
}

// AppendSymbol encodes a symbol.
func AppendSymbol(b []byte, v Symbol) []byte {
	return append(appendSize(b, codeSymbol8, codeSymbol32, len(v)), v...)
}

// AppendBinary encodes binary data.
func AppendBinary(b, v []byte) []byte {
	return append(appendSize(b, codeBinary8, codeBinary32, len(v)), v...)
}

// AppendTimestamp encodes a time to the millisecond.
func AppendTimestamp(b []byte, t time.Time) []byte {
	return binary.BigEndian.AppendUint64(append(b, codeTimestamp), uint64(t.UnixMilli()))
}

// AppendMap encodes a map.
func AppendMap(b []byte, m Map) []byte {
	return appendCompound(b, codeMap32, 2*len(m), func(b []byte) []byte {
		for _, e := range m {
			b = AppendValue(AppendValue(b, e.Key), e.Value)
		}
		return b
	})
}

func appendSize(b []byte, short, long byte, n int) []byte {
	if n < 256 {
		return append(b, short, byte(n))
	}
	return binary.BigEndian.AppendUint32(append(b, long), uint32(n))
}

// appendCompound writes a list, map or array in its long form; the size counts what follows the size field.
func appendCompound(b []byte, code byte, count int, body func([]byte) []byte) []byte {
	b = append(b, code)
	start := len(b)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(count))
	b = body(b)
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start-4))
	return b
}

// appendArray gives all elements the constructor of the first in its widest form: in an array there is one for all.
func appendArray(b []byte, a Array) []byte {
	return appendCompound(b, codeArray32, len(a), func(b []byte) []byte {
		if len(a) == 0 {
			return append(b, codeNull)
		}
		code := fullCode(a[0])
		b = append(b, code)
		for _, v := range a {
			if fullCode(v) != code {
				panic(fmt.Sprintf("amqp: array of %T holds a %T", a[0], v))
			}
			b = appendFull(b, v)
		}
		return b
	})
}

// fullCode returns the constructor of the widest encoding of v.
func fullCode(v any) byte {
	switch v.(type) {
	case bool:
		return codeBool
	case uint8:
		return codeUbyte
	case int8:
		return codeByte
	case uint16:
		return codeUshort
	case int16:
		return codeShort
	case uint32:
		return codeUint
	case int32:
		return codeInt
	case uint64:
		return codeUlong
	case int64:
		return codeLong
	case float32:
		return codeFloat
	case float64:
		return codeDouble
	case Char:
		return codeChar
	case time.Time:
		return codeTimestamp
	case UUID:
		return codeUUID
	case []byte:
		return codeBinary32
	case string:
		return codeString32
	case Symbol:
		return codeSymbol32
	case List:
		return codeList32
	case Map:
		return codeMap32
	case Array:
		return codeArray32
	}
	panic(fmt.Sprintf("amqp: %T has no encoding", v))
}

// appendFull writes v without its constructor, in the form that fullCode names.
func appendFull(b []byte, v any) []byte {
	switch v := v.(type) {
	case bool:
		if v {
			return append(b, 1)
		}
		return append(b, 0)
	case uint8:
		return append(b, v)
	case int8:
		return append(b, byte(v))
	case uint16:
		return binary.BigEndian.AppendUint16(b, v)
	case int16:
		return binary.BigEndian.AppendUint16(b, uint16(v))
	case uint32:
		return binary.BigEndian.AppendUint32(b, v)
	case int32:
		return binary.BigEndian.AppendUint32(b, uint32(v))
	case uint64:
		return binary.BigEndian.AppendUint64(b, v)
	case int64:
		return binary.BigEndian.AppendUint64(b, uint64(v))
	case float32:
		return binary.BigEndian.AppendUint32(b, math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(b, math.Float64bits(v))
	case Char:
		return binary.BigEndian.AppendUint32(b, uint32(v))
	case time.Time:
		return binary.BigEndian.AppendUint64(b, uint64(v.UnixMilli()))
	case UUID:
		return append(b, v[:]...)
	case []byte:
		return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	case string:
		return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	case Symbol:
		return append(binary.BigEndian.AppendUint32(b, uint32(len(v))), v...)
	}
	// List, Map and Array are always written in their long form, so that what follows the constructor is what is wanted here.
	start := len(b)
	b = AppendValue(b, v)
	return append(b[:start], b[start+1:]...)
}
