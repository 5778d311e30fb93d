package amqp

// Go types of AMQP values, for Decoder.Value and AppendValue (section 1.6). The others are Go's own: nil, bool, the sized
// integers, float32, float64, string, []byte for binary and time.Time for timestamp (whole milliseconds, UTC).
type (
	// Symbol is a string of ASCII from a constrained domain (section 1.6.21).
	Symbol string

	// UUID is an RFC 4122 identifier in network byte order (section 1.6.18).
	UUID [16]byte

	// Char is one UTF-32 code point (section 1.6.16).
	Char rune

	// List holds values of any types (section 1.6.22).
	List []any

	// Array holds values of one type (section 1.6.24). AppendValue takes that type from the first element.
	Array []any

	// Map keeps its entries in their order on the wire (section 1.6.23), since keys may be of any type.
	Map []Entry

	// Described is a value with a descriptor that tells its meaning (section 1.2).
	Described struct{ Descriptor, Value any }

	// Raw is one complete value in its encoded form; it is written as it stands. Decimals are only known in this form.
	Raw []byte
)

// Entry is one entry of a Map.
type Entry struct{ Key, Value any }

// Get returns the value of the entry whose key is the string or symbol key, nil if there is none.
func (m Map) Get(key string) any {
	for _, e := range m {
		if text, ok := Text(e.Key); ok && text == key {
			return e.Value
		}
	}
	return nil
}

// Set replaces the value of the entry whose key is the string or symbol key, or appends an entry with a string key.
// It returns the map to use from then on and may change m.
func (m Map) Set(key string, value any) Map {
	for i := range m {
		if text, ok := Text(m[i].Key); ok && text == key {
			m[i].Value = value
			return m
		}
	}
	return append(m, Entry{Key: key, Value: value})
}

// Text returns the text of v, if it is a string or a symbol, decoded or Raw.
func Text(v any) (string, bool) {
	switch v := v.(type) {
	case string:
		return v, true
	case Symbol:
		return string(v), true
	case Raw:
		d := NewDecoder(v)
		return d.text(), d.Err() == nil
	}
	return "", false
}

// Uint32 is a number that may be absent. The zero value is absent.
type Uint32 struct {
	Value uint32
	Set   bool
}

// Some returns v as a number that is present.
func Some(v uint32) Uint32 { return Uint32{Value: v, Set: true} }

// Constructor codes of the type system (section 1.6).
const (
	codeDescribed  = 0x00
	codeNull       = 0x40
	codeTrue       = 0x41
	codeFalse      = 0x42
	codeUint0      = 0x43
	codeUlong0     = 0x44
	codeList0      = 0x45
	codeUbyte      = 0x50
	codeByte       = 0x51
	codeSmallUint  = 0x52
	codeSmallUlong = 0x53
	codeSmallInt   = 0x54
	codeSmallLong  = 0x55
	codeBool       = 0x56
	codeUshort     = 0x60
	codeShort      = 0x61
	codeUint       = 0x70
	codeInt        = 0x71
	codeFloat      = 0x72
	codeChar       = 0x73
	codeUlong      = 0x80
	codeLong       = 0x81
	codeDouble     = 0x82
	codeTimestamp  = 0x83
	codeUUID       = 0x98
	codeBinary8    = 0xa0
	codeString8    = 0xa1
	codeSymbol8    = 0xa3
	codeBinary32   = 0xb0
	codeString32   = 0xb1
	codeSymbol32   = 0xb3
	codeList8      = 0xc0
	codeMap8       = 0xc1
	codeList32     = 0xd0
	codeMap32      = 0xd1
	codeArray8     = 0xe0
	codeArray32    = 0xf0
)
