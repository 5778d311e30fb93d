package amqp

// Outcome codes of SASL (section 5.3.3.6).
const (
	SASLOK   uint8 = 0
	SASLAuth uint8 = 1 // the credentials are no good
)

// Mechanisms is the server's offer (section 5.3.3.1).
type Mechanisms struct{ Names []string }

// Init is the client's choice (section 5.3.3.2). It holds credentials: never print it.
type Init struct {
	Mechanism string
	Response  []byte
	Hostname  string
}

// Outcome ends the SASL dialogue (section 5.3.3.5).
type Outcome struct{ Code uint8 }

// Append encodes the performative.
func (m *Mechanisms) Append(b []byte) []byte {
	names := make(Array, len(m.Names))
	for i, name := range m.Names {
		names[i] = Symbol(name)
	}
	f := composite(b, descMechanisms)
	f.value(names)
	return f.end()
}

// Append encodes the performative.
func (p *Init) Append(b []byte) []byte {
	f := composite(b, descInit)
	f.value(Symbol(p.Mechanism))
	f.binary(p.Response)
	f.string(p.Hostname)
	return f.end()
}

// Append encodes the performative.
func (p *Outcome) Append(b []byte) []byte {
	f := composite(b, descOutcome)
	f.ubyte(p.Code)
	return f.end()
}
