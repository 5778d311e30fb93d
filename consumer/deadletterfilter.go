package consumer

import (
	"slices"
	"strconv"
	"strings"
	"time"
)

// DeadLetterFilter selects dead letters. Zero fields select everything; case
// does not matter.
type DeadLetterFilter struct {
	Reason          string
	ProviderID      string
	Gateway         string // "namespace/path", or the path or its last segments
	ActionID        string
	AccessionNumber string
	Since, Until    time.Time // dead-lettered at or after Since, before Until
	Only            []string  // action ids or sequence numbers; nil: all
}

// Selects reports whether f selects l. One that cannot be read is selected by
// its sequence number, and where nothing is asked for in particular.
func (f DeadLetterFilter) Selects(l DeadLetter) bool {
	if f.Only != nil && !f.names(l) {
		return false
	}
	if l.Unreadable {
		return f.Only != nil || f.isEmpty()
	}
	return alike(f.Reason, l.Reason) && alike(f.ProviderID, l.ProviderID) && alike(f.ActionID, l.ActionID) &&
		alike(f.AccessionNumber, l.AccessionNumber) && f.atGateway(l.Gateway) &&
		(f.Since.IsZero() || !l.DeadLetteredAt.Before(f.Since)) && (f.Until.IsZero() || l.DeadLetteredAt.Before(f.Until))
}

func (f DeadLetterFilter) names(l DeadLetter) bool {
	sequence := strconv.FormatInt(l.SequenceNumber, 10)
	return slices.ContainsFunc(f.Only, func(name string) bool {
		return name == sequence || l.ActionID != "" && strings.EqualFold(name, l.ActionID)
	})
}

func (f DeadLetterFilter) isEmpty() bool {
	return f.Reason == "" && f.ProviderID == "" && f.Gateway == "" && f.ActionID == "" && f.AccessionNumber == "" &&
		f.Since.IsZero() && f.Until.IsZero() && f.Only == nil
}

func (f DeadLetterFilter) atGateway(gateway string) bool {
	wanted := strings.ToLower(strings.Trim(f.Gateway, "/"))
	return wanted == "" || strings.HasSuffix("/"+gateway, "/"+wanted)
}

func alike(wanted, is string) bool { return wanted == "" || strings.EqualFold(wanted, is) }
