package relaytest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
)

// Opcodes of RFC 6455 section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xA
)

const (
	maxHeader  = 10       // of a frame without a mask
	maxControl = 125      // payload of a control frame
	maxFrame   = 16 << 20 // payload of any frame; far above what a gateway takes
	keepBuffer = 64 << 10 // larger buffers are not kept for the next rendezvous
)

var (
	errFrame       = errors.New("not a frame a client may send")
	errFrameTooBig = errors.New("frame too big")
)

// frame is one websocket frame as it goes out: without a mask.
type frame struct {
	opcode byte
	wire   []byte // header and payload; valid until the buffer's next read
}

// frameBuffer holds one frame at a time. The payload is read behind room for
// the longest header, so that a frame leaves in a single write.
type frameBuffer struct{ b []byte }

// read takes one frame from a client and unmasks it. Fragments stay fragments.
func (fb *frameBuffer) read(br *bufio.Reader) (frame, error) {
	header, length, mask, err := readHeader(br)
	if err != nil {
		return frame{}, err
	}
	if need := maxHeader + length; cap(fb.b) < need {
		fb.b = make([]byte, need)
	}
	fb.b = fb.b[:maxHeader+length]
	payload := fb.b[maxHeader:]
	if _, err := io.ReadFull(br, payload); err != nil {
		return frame{}, err
	}
	unmask(payload, mask)
	start := putHeader(fb.b[:maxHeader], header, length)
	return frame{opcode: header & 0x0f, wire: fb.b[start:]}, nil
}

// readHeader returns the first byte, with FIN and opcode, the payload's length
// and the mask.
func readHeader(br *bufio.Reader) (first byte, length int, mask [4]byte, err error) {
	head, err := br.Peek(2)
	if err != nil {
		return 0, 0, mask, err
	}
	first = head[0]
	masked, short := head[1]&0x80 != 0, head[1]&0x7f
	size := 2 + 4
	switch short {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	if !masked || first&0x70 != 0 || !known(first&0x0f) {
		return 0, 0, mask, errFrame
	}
	if head, err = br.Peek(size); err != nil {
		return 0, 0, mask, err
	}
	long := uint64(short)
	switch short {
	case 126:
		long = uint64(binary.BigEndian.Uint16(head[2:]))
	case 127:
		long = binary.BigEndian.Uint64(head[2:])
	}
	copy(mask[:], head[size-4:])
	if control := first&0x08 != 0; control && (long > maxControl || first&0x80 == 0) {
		return 0, 0, mask, errFrame
	}
	if long > maxFrame {
		return 0, 0, mask, errFrameTooBig
	}
	br.Discard(size)
	return first, int(long), mask, nil
}

func known(opcode byte) bool { return opcode <= opBinary || opcode >= opClose && opcode <= opPong }

// putHeader writes a header that ends where room ends, and returns its start.
func putHeader(room []byte, first byte, length int) int {
	start := len(room)
	switch {
	case length <= maxControl:
		start -= 2
		room[start+1] = byte(length)
	case length <= 0xffff:
		start -= 4
		room[start+1] = 126
		binary.BigEndian.PutUint16(room[start+2:], uint16(length))
	default:
		start -= 10
		room[start+1] = 127
		binary.BigEndian.PutUint64(room[start+2:], uint64(length))
	}
	room[start] = first
	return start
}

// unmask is its own inverse (RFC 6455 section 5.3).
func unmask(payload []byte, mask [4]byte) {
	word := uint64(binary.LittleEndian.Uint32(mask[:]))
	word |= word << 32
	for len(payload) >= 8 {
		binary.LittleEndian.PutUint64(payload, binary.LittleEndian.Uint64(payload)^word)
		payload = payload[8:]
	}
	for i := range payload {
		payload[i] ^= mask[i%4]
	}
}

// closeFrame is a whole Close frame from the server's side.
func closeFrame(code int) []byte {
	return binary.BigEndian.AppendUint16([]byte{0x80 | opClose, 2}, uint16(code))
}
