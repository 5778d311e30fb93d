package consumer

// Waits are the durations that the program fixes.
type Waits = waits

// AsUsual undoes [pace.Hurry].
func (p *pace) AsUsual() { p.own = nil }

// Hurry lets a test shorten those of p alone, before p is used.
func (p *pace) Hurry(change func(*Waits)) {
	own := *p.waits()
	change(&own)
	p.own = &own
}
