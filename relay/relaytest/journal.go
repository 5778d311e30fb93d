package relaytest

// Write is one create or update that a [Gateway] applied: what its worklist
// cannot tell, which knows an item's first action and how often it changed.
type Write struct {
	ActionID        string `json:"action_id"`
	AccessionNumber string `json:"accession_number"`
	Status          string `json:"status"` // the item's from then on; SCHEDULED: the write created it

	// AckLost says that the ack certainly did not reach the sender: there was
	// none, or it could not be given to the relay. False says nothing: a relay
	// may lose an ack too.
	AckLost bool `json:"ack_lost"`
}

// Writes returns what the gateway applied, in order.
func (g *Gateway) Writes() []Write {
	g.mu.Lock()
	defer g.mu.Unlock()
	writes := make([]Write, len(g.worklist.writes))
	for i, w := range g.worklist.writes {
		writes[i] = *w
	}
	return writes
}

// loseAck notes that the ack of a write was not delivered; nil is no write.
func (g *Gateway) loseAck(w *Write) {
	if w == nil {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	w.AckLost = true
}

// wrote keeps a write. It is last until the next request is handled.
func (w *worklist) wrote(actionID string, item *Item) {
	w.last = &Write{ActionID: actionID, AccessionNumber: item.AccessionNumber, Status: item.Status}
	w.writes = append(w.writes, w.last)
}
