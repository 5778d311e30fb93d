package relay

import "time"

// waits are the durations that nobody configures. A test may change those of one
// Client, and none of another's.
type waits struct {
	Ping  time.Duration // from ping to ping: the relay drops a data connection after about two minutes of silence
	Write time.Duration // for one frame
	Close time.Duration // for the peer's answer to our Close, and for the reason of a write that failed
}

var usual = waits{Ping: 30 * time.Second, Write: 10 * time.Second, Close: time.Second}

// pace is embedded by what waits. Its zero value is production's.
type pace struct{ own *waits }

func (p *pace) waits() *waits {
	if p.own == nil {
		return &usual
	}
	return p.own
}
