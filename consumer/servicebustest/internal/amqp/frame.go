// Package amqp encodes and decodes the part of AMQP 1.0 that a broker needs: frames (section 2.3), performatives (2.7 and 5.3),
// the type system (1.6) and the sections of a message (3.2).
//
// Encoding appends to a byte slice and cannot go wrong. Decoding reads from a byte slice that came from a peer: it never panics,
// and it allocates in proportion to the bytes that are there, never to a length that a peer claims. Decoded byte slices of type
// Raw, transfer payloads and message sections share memory with their input; everything else is a copy.
package amqp

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
)

// Protocol headers (sections 2.2 and 5.3.1): the first eight bytes that each side sends, before SASL and before AMQP itself.
const (
	HeaderAMQP = "AMQP\x00\x01\x00\x00"
	HeaderSASL = "AMQP\x03\x01\x00\x00"
)

// Frame types (section 2.3.1).
const (
	FrameAMQP byte = 0
	FrameSASL byte = 1
)

// MinMaxFrameSize is the smallest maximum frame size that a peer may announce (section 2.3.1).
const MinMaxFrameSize = 512

const frameHeaderSize = 8

// Frame is one frame as it was read. An empty Body is a heartbeat (section 2.4.5).
type Frame struct {
	Type    byte
	Channel uint16
	Body    []byte // valid until the next Read of the same FrameReader
}

// FrameReader reads frames into one buffer that is used again for each frame.
type FrameReader struct {
	r   *bufio.Reader
	max uint32
	buf []byte
}

// NewFrameReader returns a reader of frames of at most maxSize bytes, the header included.
func NewFrameReader(r *bufio.Reader, maxSize uint32) *FrameReader {
	return &FrameReader{r: r, max: maxSize}
}

// Read returns the next frame. Its error is io.EOF only between two frames.
func (f *FrameReader) Read() (Frame, error) {
	var header [frameHeaderSize]byte
	if _, err := io.ReadFull(f.r, header[:]); err != nil {
		return Frame{}, err
	}
	size := binary.BigEndian.Uint32(header[:4])
	offset := 4 * uint32(header[4])
	if size > f.max || offset < frameHeaderSize || offset > size {
		return Frame{}, fmt.Errorf("frame of %d bytes with its body at %d: the limit is %d", size, offset, f.max)
	}
	if need := int(size - frameHeaderSize); need > cap(f.buf) {
		f.buf = make([]byte, need)
	}
	f.buf = f.buf[:size-frameHeaderSize]
	if _, err := io.ReadFull(f.r, f.buf); err != nil {
		return Frame{}, fmt.Errorf("frame body: %w", noEOF(err))
	}
	return Frame{Type: header[5], Channel: binary.BigEndian.Uint16(header[6:]), Body: f.buf[offset-frameHeaderSize:]}, nil
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// A Performative is what a frame carries: one of the structs of this package with an Append method.
type Performative interface {
	// Append encodes the performative, and for a transfer its payload, at the end of b.
	Append(b []byte) []byte
}

// AppendFrame appends p as one frame. The caller keeps it under the peer's maximum frame size.
func AppendFrame(b []byte, frameType byte, channel uint16, p Performative) []byte {
	start := len(b)
	b = append(b, 0, 0, 0, 0, 2, frameType, byte(channel>>8), byte(channel))
	b = p.Append(b)
	binary.BigEndian.PutUint32(b[start:], uint32(len(b)-start))
	return b
}

// AppendHeartbeat appends an empty frame.
func AppendHeartbeat(b []byte) []byte {
	return append(b, 0, 0, 0, frameHeaderSize, 2, FrameAMQP, 0, 0)
}
