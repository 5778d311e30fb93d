package amqp_test

import (
	"math"
	"os"
	"testing"
	"time"

	peer "github.com/Azure/go-amqp"
	"github.com/google/go-cmp/cmp"
	"github.com/worklist-relay/worklist-relay/cmd/suite"
	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

func TestMain(m *testing.M) { os.Exit(suite.Tests(m).Run()) }

// values holds one value of every type, beside values at the edges of their encodings.
var values = map[string]any{
	"null": nil, "true": true, "false": false, "ubyte": uint8(200), "byte": int8(-3), "ushort": uint16(60000), "short": int16(-300),
	"uint 0": uint32(0), "uint 255": uint32(255), "uint": uint32(math.MaxUint32), "int": int32(math.MinInt32), "small int": int32(-128),
	"ulong 0": uint64(0), "ulong 255": uint64(255), "ulong": uint64(math.MaxUint64), "long": int64(math.MinInt64), "small long": int64(127),
	"float": float32(1.5), "double": -2.5, "char": amqp.Char('é'), "time": time.UnixMilli(1700000000123).UTC(), "uuid": amqp.UUID{1, 15: 9},
	"binary": []byte{1, 2}, "long binary": make([]byte, 300), "string": "text", "long string": string(make([]byte, 256)),
	"symbol": amqp.Symbol("amqp:accepted:list"), "long symbol": amqp.Symbol(make([]byte, 256)),
	"empty list": amqp.List{}, "list": amqp.List{int64(1), "two", amqp.List{nil}},
	"map":   amqp.Map{{Key: "a", Value: int32(1)}, {Key: []byte{1}, Value: amqp.Map{}}},
	"array": amqp.Array{int64(1), int64(-1)}, "empty array": amqp.Array{}, "strings": amqp.Array{"a", string(make([]byte, 300))},
	"symbols": amqp.Array{amqp.Symbol("a")}, "times": amqp.Array{time.UnixMilli(5).UTC()}, "uuids": amqp.Array{amqp.UUID{3}},
	"booleans": amqp.Array{true, false}, "lists": amqp.Array{amqp.List{"a"}, amqp.List{"b", nil}}, "arrays": amqp.Array{amqp.Array{uint8(1)}},
	"numbers": amqp.Array{uint16(1)}, "floats": amqp.Array{float32(1)}, "doubles": amqp.Array{1.0}, "bytes": amqp.Array{int8(-1)},
	"described": amqp.Described{Descriptor: uint64(0x137000000c), Value: "session"},
}

func TestValuesRoundTrip(t *testing.T) {
	for name, want := range values {
		encoded := amqp.AppendValue(nil, want)
		d := amqp.NewDecoder(encoded)
		got := d.Value()
		if diff := cmp.Diff(want, got); diff != "" || d.Err() != nil || d.Len() != 0 {
			t.Errorf("%s: error %v, %d bytes left:\n%s", name, d.Err(), d.Len(), diff)
		}
		skip := amqp.NewDecoder(append(encoded, 0x40))
		if raw := skip.Raw(); !cmp.Equal([]byte(raw), encoded) || !skip.Null() {
			t.Errorf("%s: raw %x of %x, error %v", name, raw, encoded, skip.Err())
		}
	}
}

func TestDecimalsStayRaw(t *testing.T) {
	encoded := []byte{0x94, 15: 7, 16: 8}
	d := amqp.NewDecoder(encoded)
	if got := d.Value(); !cmp.Equal(got, any(amqp.Raw(encoded))) || d.Err() != nil {
		t.Errorf("decoded %v, error %v", got, d.Err())
	}
}

// TestPeerReadsValues has the client's own library read what we write, and the other way round.
func TestPeerReadsValues(t *testing.T) {
	pairs := []struct{ ours, theirs any }{
		{amqp.Array{time.UnixMilli(5).UTC()}, []time.Time{time.UnixMilli(5).UTC()}},
		{amqp.Array{int64(1), int64(2)}, []int64{1, 2}},
		{amqp.Array{amqp.UUID{1}}, []peer.UUID{{1}}},
		{amqp.Array{amqp.Symbol("a"), amqp.Symbol("b")}, []peer.Symbol{"a", "b"}},
		{amqp.Array{"a"}, []string{"a"}},
		{amqp.List{int32(1), true, nil}, []any{int32(1), true, nil}},
		{amqp.Map{{Key: "k", Value: uint64(9)}}, map[string]any{"k": uint64(9)}},
		{amqp.UUID{7}, peer.UUID{7}},
		{time.UnixMilli(9).UTC(), time.UnixMilli(9).UTC()},
		{float32(2), float32(2)}, {int8(-1), int8(-1)}, {uint16(3), uint16(3)}, {"x", "x"}, {[]byte{1}, []byte{1}}, {3.5, 3.5},
	}
	for _, pair := range pairs {
		ours := amqp.Message{Body: amqp.ValueBody(pair.ours)}
		var read peer.Message
		if err := read.UnmarshalBinary(ours.AppendBare(nil)); err != nil {
			t.Errorf("%v: %v", pair.ours, err)
			continue
		}
		if diff := cmp.Diff(pair.theirs, read.Value); diff != "" {
			t.Errorf("%v as the client reads it:\n%s", pair.ours, diff)
		}
		encoded, err := (&peer.Message{Value: pair.theirs}).MarshalBinary()
		if err != nil {
			t.Fatal(err)
		}
		theirs, err := amqp.ParseMessage(encoded)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(pair.ours, theirs.Value()); diff != "" {
			t.Errorf("%v as we read it:\n%s", pair.theirs, diff)
		}
	}
}

func TestHostileValues(t *testing.T) {
	tests := map[string][]byte{
		"nothing":                    {},
		"unknown code":               {0x10},
		"string longer than bytes":   {0xb1, 0xff, 0xff, 0xff, 0xff, 'x'},
		"list of too many":           {0xd0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40},
		"list longer than bytes":     {0xd0, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 1},
		"list too short for a count": {0xd0, 0, 0, 0, 1, 0},
		"array of nulls":             {0xf0, 0, 0, 0, 5, 0x7f, 0xff, 0xff, 0xff, 0x40},
		"array of described":         {0xe0, 3, 1, 0x00, 0x40},
		"array of decimals":          {0xe0, 6, 1, 0x74, 0, 0, 0, 0},
		"array of too many":          {0xe0, 3, 200, 0x50, 1},
		"map of one":                 {0xc1, 2, 1, 0x40},
		"described by described":     {0x00, 0x00, 0x40, 0x40, 0x40},
		"deep lists":                 deep(100),
		"deep descriptions":          make([]byte, 1000),
	}
	for name, encoded := range tests {
		d := amqp.NewDecoder(encoded)
		if got := d.Value(); d.Err() == nil && name != "described by described" {
			t.Errorf("%s: decoded %v", name, got)
		}
	}
	for _, name := range []string{"described by described", "deep descriptions", "unknown code", "string longer than bytes"} {
		if d := amqp.NewDecoder(tests[name]); d.Raw() != nil || d.Err() == nil {
			t.Errorf("%s: taken as raw", name)
		}
	}
}

func deep(n int) []byte {
	v := any(amqp.List{})
	for range n {
		v = amqp.List{v}
	}
	return amqp.AppendValue(nil, v)
}

func TestMapGetAndSet(t *testing.T) {
	m := amqp.Map{{Key: amqp.Symbol("a"), Value: amqp.Raw(amqp.AppendValue(nil, "raw"))}}
	m = m.Set("b", 1).Set("b", 2)
	if text, ok := amqp.Text(m.Get("a")); !ok || text != "raw" || m.Get("b") != 2 || m.Get("c") != nil || len(m) != 2 {
		t.Errorf("map %v", m)
	}
	for _, v := range []any{nil, 5, amqp.Raw{0x40}, amqp.Raw{}} {
		if text, ok := amqp.Text(v); ok {
			t.Errorf("%v is the text %q", v, text)
		}
	}
}
