package amqp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// Descriptors of the sections of a message (section 3.2).
const (
	descHeader                = 0x70
	descDeliveryAnnotations   = 0x71
	descMessageAnnotations    = 0x72
	descProperties            = 0x73
	descApplicationProperties = 0x74
	descData                  = 0x75
	descSequence              = 0x76
	descValue                 = 0x77
	descFooter                = 0x78
)

// Indexes of fields in the properties section, for Message.Property (section 3.2.4).
const (
	PropertyMessageID     = 0
	PropertyReplyTo       = 4
	PropertyCorrelationID = 5
	PropertyGroupID       = 10
)

// Message is a message taken apart. The sections that a broker must pass on unaltered are kept as they came, and share memory
// with the bytes that ParseMessage was given.
type Message struct {
	Header Header

	// Annotations are the message annotations; their values are Raw.
	Annotations Map

	// Properties is the content of the properties section, nil if there was none.
	Properties Raw

	// ApplicationProperties is the content of the section of that name, nil if there was none.
	ApplicationProperties Raw

	// Body is the data, sequence or value sections, and the footer, complete with their descriptors.
	Body Raw
}

// Header tells how a message is to be transferred (section 3.2.1).
type Header struct {
	Durable       bool
	Priority      uint8
	TTL           time.Duration // whole milliseconds; meaningful if HasTTL
	HasTTL        bool
	DeliveryCount uint32 // earlier deliveries that failed
}

// ParseMessage takes an encoded message apart. Delivery annotations are dropped: they are meant for the receiver of this transfer.
func ParseMessage(b []byte) (Message, error) {
	m := Message{Header: Header{Priority: 4}}
	d := NewDecoder(b)
	for d.Len() > 0 {
		section := d.buf
		descriptor := d.descriptor()
		content := d.Raw()
		if d.err != nil {
			return Message{}, fmt.Errorf("message: %w", d.err)
		}
		n := len(section) - d.Len()
		if err := m.add(descriptor, content, section[:n:n]); err != nil {
			return Message{}, fmt.Errorf("message section 0x%02x: %w", descriptor, err)
		}
	}
	return m, nil
}

// descriptor reads the head of a described value up to the value.
func (d *Decoder) descriptor() uint64 {
	if code := d.byte(); d.err == nil && code != codeDescribed {
		d.wrong("described value", code)
	}
	return d.Ulong()
}

func (m *Message) add(descriptor uint64, content, whole Raw) error {
	d := NewDecoder(content)
	switch descriptor {
	case descHeader:
		d = NewDecoder(whole)
		m.Header = d.header()
	case descDeliveryAnnotations:
	case descMessageAnnotations:
		m.Annotations = d.Map()
	case descProperties:
		_, d = d.listBody()
		m.Properties = content
	case descApplicationProperties:
		d.Map()
		m.ApplicationProperties = content
	case descData:
		d.Binary()
		m.addBody(whole)
	case descSequence, descValue, descFooter:
		m.addBody(whole)
	default:
		return errors.New("is not known")
	}
	return d.err
}

// addBody shares the memory of the first section: most messages have no other.
func (m *Message) addBody(section Raw) {
	if m.Body == nil {
		m.Body = section
		return
	}
	m.Body = append(m.Body, section...)
}

func (d *Decoder) header() Header {
	_, c := d.composite()
	h := Header{Durable: c.bool(), Priority: uint8(c.small(4, 255))}
	if ttl := c.optional(); ttl.Set {
		h.TTL, h.HasTTL = time.Duration(ttl.Value)*time.Millisecond, true
	}
	c.skip(1)
	h.DeliveryCount = c.uint(0)
	d.adopt(c.d)
	return h
}

// Append encodes the header section.
func (h *Header) Append(b []byte) []byte {
	f := composite(b, descHeader)
	f.bool(h.Durable)
	f.ubyte(h.Priority)
	if h.HasTTL {
		f.uint(uint32(h.TTL.Milliseconds()))
	} else {
		f.null()
	}
	f.bool(h.DeliveryCount == 0)
	f.uint(h.DeliveryCount)
	return f.end()
}

func (d *Decoder) listBody() (int, *Decoder) {
	code := d.byte()
	if code == codeList0 {
		return 0, &Decoder{err: d.err}
	}
	body, count := d.compound(code, codeList8, codeList32, 1)
	return count, body
}

// Property returns the field at index of the properties section, nil if it is absent or null.
func (m *Message) Property(index int) Raw {
	if m.Properties == nil {
		return nil
	}
	count, d := NewDecoder(m.Properties).listBody()
	if index >= count {
		return nil
	}
	for range index {
		d.Skip()
	}
	if d.Null() {
		return nil
	}
	return d.Raw()
}

// Value returns the content of the first section of the body if that is an amqp-value, else nil.
func (m *Message) Value() any {
	d := NewDecoder(m.Body)
	if len(m.Body) == 0 || d.descriptor() != descValue {
		return nil
	}
	return d.Value()
}

// Data returns the content of each data section of the body. They share memory with the message.
func (m *Message) Data() [][]byte {
	var parts [][]byte
	for d := NewDecoder(m.Body); d.Len() > 0; {
		if d.descriptor() != descData {
			d.Skip()
			continue
		}
		parts = append(parts, d.Binary())
	}
	return parts
}

// AppendBare appends the sections that pass through a broker unaltered.
func (m *Message) AppendBare(b []byte) []byte {
	if m.Properties != nil {
		b = append(append(b, codeDescribed, codeSmallUlong, descProperties), m.Properties...)
	}
	if m.ApplicationProperties != nil {
		b = append(append(b, codeDescribed, codeSmallUlong, descApplicationProperties), m.ApplicationProperties...)
	}
	return append(b, m.Body...)
}

// AnnotationWriter writes a section of annotations entry by entry, without building a Map first.
type AnnotationWriter struct {
	b     []byte
	body  int
	count uint32
}

// DeliveryAnnotations begins a delivery-annotations section at the end of b (section 3.2.2).
func DeliveryAnnotations(b []byte) AnnotationWriter { return annotations(b, descDeliveryAnnotations) }

// MessageAnnotations begins a message-annotations section at the end of b (section 3.2.3).
func MessageAnnotations(b []byte) AnnotationWriter { return annotations(b, descMessageAnnotations) }

func annotations(b []byte, descriptor byte) AnnotationWriter {
	b = append(b, codeDescribed, codeSmallUlong, descriptor, codeMap32, 0, 0, 0, 0, 0, 0, 0, 0)
	return AnnotationWriter{b: b, body: len(b)}
}

func (w *AnnotationWriter) key(name Symbol) {
	w.b = AppendSymbol(w.b, name)
	w.count += 2
}

// Long writes an entry whose value is a long.
func (w *AnnotationWriter) Long(name Symbol, v int64) {
	w.key(name)
	w.b = binary.BigEndian.AppendUint64(append(w.b, codeLong), uint64(v))
}

// Int writes an entry whose value is an int.
func (w *AnnotationWriter) Int(name Symbol, v int32) {
	w.key(name)
	w.b = binary.BigEndian.AppendUint32(append(w.b, codeInt), uint32(v))
}

// Time writes an entry whose value is a timestamp.
func (w *AnnotationWriter) Time(name Symbol, t time.Time) {
	w.key(name)
	w.b = AppendTimestamp(w.b, t)
}

// Text writes an entry whose value is a string.
func (w *AnnotationWriter) Text(name Symbol, v string) {
	w.key(name)
	w.b = AppendString(w.b, v)
}

// UUID writes an entry whose value is a UUID.
func (w *AnnotationWriter) UUID(name Symbol, v UUID) {
	w.key(name)
	w.b = append(append(w.b, codeUUID), v[:]...)
}

// Entry writes an entry as it stands.
func (w *AnnotationWriter) Entry(e Entry) {
	w.b = AppendValue(AppendValue(w.b, e.Key), e.Value)
	w.count += 2
}

// End completes the section and returns the bytes.
func (w *AnnotationWriter) End() []byte {
	binary.BigEndian.PutUint32(w.b[w.body-8:], uint32(len(w.b)-w.body+4))
	binary.BigEndian.PutUint32(w.b[w.body-4:], w.count)
	return w.b
}

// ValueBody returns the body of a message that is the single value v (section 3.2.8).
func ValueBody(v any) Raw {
	return AppendValue(Raw{codeDescribed, codeSmallUlong, descValue}, v)
}
