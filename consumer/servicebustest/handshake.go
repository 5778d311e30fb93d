package servicebustest

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"

	"github.com/worklist-relay/worklist-relay/consumer/servicebustest/internal/amqp"
)

// handshake exchanges the protocol headers and, if the client begins with it, the SASL dialogue (sections 2.2 and 5.3.2).
// Without SASL the client is as anonymous as with it.
func (c *conn) handshake() error {
	header, err := c.readHeader()
	if err != nil {
		return err
	}
	if header == amqp.HeaderSASL {
		if err := c.authenticate(); err != nil {
			return err
		}
		if header, err = c.readHeader(); err != nil {
			return err
		}
	}
	// The right header is the answer to a wrong one too, and then the connection ends.
	if _, err := io.WriteString(c.net, amqp.HeaderAMQP); err != nil {
		return err
	}
	if header != amqp.HeaderAMQP {
		return errors.New("protocol header is not that of AMQP 1.0")
	}
	return nil
}

func (c *conn) readHeader() (string, error) {
	var header [8]byte
	_, err := io.ReadFull(c.in, header[:])
	return string(header[:]), err
}

// authenticate leaves authorisation to tokens, with one exception: PLAIN with the shared access key opens every entity.
func (c *conn) authenticate() error {
	out := amqp.AppendFrame([]byte(amqp.HeaderSASL), amqp.FrameSASL, 0,
		&amqp.Mechanisms{Names: []string{"MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"}})
	if _, err := c.net.Write(out); err != nil {
		return err
	}
	frame, err := c.frames.Read()
	if err != nil {
		return err
	}
	p, err := amqp.Decode(frame.Body)
	if err != nil {
		return err
	}
	init, ok := p.(*amqp.Init)
	if !ok || frame.Type != amqp.FrameSASL {
		return fmt.Errorf("%T where a SASL init is due", p)
	}
	code := amqp.SASLAuth
	if c.accepts(init) {
		code = amqp.SASLOK
	}
	if _, err := c.net.Write(amqp.AppendFrame(nil, amqp.FrameSASL, 0, &amqp.Outcome{Code: code})); err != nil {
		return err
	}
	if code != amqp.SASLOK {
		return errors.New("SASL credentials refused")
	}
	return nil
}

func (c *conn) accepts(init *amqp.Init) bool {
	switch init.Mechanism {
	case "MSSBCBS", "ANONYMOUS", "EXTERNAL":
		return true
	case "PLAIN":
		config := c.server.config
		parts := bytes.Split(init.Response, []byte{0}) // RFC 4616: authorisation identity, name, password
		if len(parts) != 3 {
			return false
		}
		if c.server.open() {
			return true
		}
		c.claims.all = config.Key != "" && string(parts[1]) == config.KeyName && subtle.ConstantTimeCompare(parts[2], []byte(config.Key)) == 1
		return c.claims.all
	}
	return false
}
