package relaytest

// Refuse answers the next sender dials of a path with this status line, before
// any token is looked at; times < 0 does so until Refuse(path, 0, 0, ""). The
// phrase may be empty and nothing is added to it. The path need not exist.
func (s *Server) Refuse(path string, times, code int, phrase string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep := s.endpoint(path)
	ep.refusals, ep.refuseWith = times, &refusal{code: code, phrase: phrase, own: true}
}

// Stall accepts the next sender dials of a path on TCP (and TLS) and never
// answers them; times < 0 does so until Stall(path, 0). Stalled dials are let go
// when the sender leaves or the server closes.
func (s *Server) Stall(path string, times int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.endpoint(path).stallsAhead = times
}

// fault counts a sender's dial and says what is to go wrong with it.
func (s *Server) fault(ep *endpoint) (stall bool, no *refusal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep.stats.Dials++
	switch {
	case ep.stallsAhead != 0:
		ep.stallsAhead = countDown(ep.stallsAhead)
		return true, nil
	case ep.refusals != 0:
		ep.refusals = countDown(ep.refusals)
		return false, ep.refuseWith
	case ep.gone:
		return false, refuseNoEndpoint
	}
	return false, nil
}

// countDown leaves a negative count, which means always, as it is.
func countDown(n int) int {
	if n > 0 {
		return n - 1
	}
	return n
}

// DropListeners cuts the control channels of a path without a close frame. From
// its return on, and until a listener comes back, senders are answered that no
// listener is connected. Open rendezvous are not touched.
func (s *Server) DropListeners(path string) {
	s.mu.Lock()
	ep := s.endpoint(path)
	listeners := ep.listeners
	ep.listeners = nil
	s.mu.Unlock()
	for _, c := range listeners {
		c.cut()
	}
}

// DropSenders cuts every open rendezvous of a path, on both sides and without a
// close frame: either end sees 1006.
func (s *Server) DropSenders(path string) {
	s.mu.Lock()
	open := s.endpoint(path).open()
	s.mu.Unlock()
	for _, r := range open {
		r.cut()
	}
}

// CloseSenders closes every open rendezvous of a path with this code, on both
// sides, such as 1008 for an expired token or 1011 for trouble in the service.
func (s *Server) CloseSenders(path string, code int) {
	s.mu.Lock()
	open := s.endpoint(path).open()
	s.mu.Unlock()
	for _, r := range open {
		r.close(code)
	}
}
