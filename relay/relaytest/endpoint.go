package relaytest

import (
	"slices"
	"strings"
)

// HybridConnection is one entity of the namespace.
type HybridConnection struct {
	// Path is its name, such as "hc-leeds". It may have several segments and is
	// matched without case; of several that fit, the longest wins.
	Path string

	// Keys are its shared access keys. None: every token, or none at all, is good.
	Keys []Key
}

// Stats counts what happened at one hybrid connection since the server started.
type Stats struct {
	Listeners  int // control channels connected now
	Dials      int // senders' upgrade requests, refused ones included
	Rendezvous int // times a sender and a listener were joined
	Open       int // joined now
	MaxOpen    int // most that were joined at once
	Renewals   int // new tokens that listeners sent, good ones
}

// endpoint is a hybrid connection and what is connected to it. Server.mu guards
// all of it. It outlives Delete, so that counts and faults do.
type endpoint struct {
	HybridConnection
	gone bool // deleted, or only ever mentioned

	listeners  []*control
	rendezvous map[*rendezvous]struct{}
	stats      Stats // Listeners and Open are computed

	refusals    int // sender dials still to be refused; negative: all
	refuseWith  *refusal
	stallsAhead int // sender dials still to be left unanswered; negative: all
}

// Create adds a hybrid connection, or replaces the keys of one that exists.
func (s *Server) Create(hc HybridConnection) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep := s.endpoint(hc.Path)
	ep.HybridConnection = HybridConnection{Path: trimPath(hc.Path), Keys: slices.Clone(hc.Keys)}
	ep.gone = false
}

// Delete removes a hybrid connection: its control channels and its connections
// are closed with 1001, and dialling it is answered "Endpoint does not exist".
func (s *Server) Delete(path string) {
	s.mu.Lock()
	ep := s.endpoint(path)
	ep.gone = true
	listeners := ep.listeners
	ep.listeners = nil
	open := ep.open()
	s.mu.Unlock()
	for _, c := range listeners {
		c.close(closeGoingAway)
	}
	for _, r := range open {
		r.close(closeGoingAway)
	}
}

// Stats returns the counts of a hybrid connection. They survive its deletion.
func (s *Server) Stats(path string) Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	ep := s.endpoint(path)
	stats := ep.stats
	stats.Listeners = len(ep.listeners)
	stats.Open = len(ep.rendezvous)
	return stats
}

// endpoint finds the record of exactly this path, making one that counts as
// deleted if there is none. The caller holds s.mu.
func (s *Server) endpoint(path string) *endpoint {
	path = trimPath(path)
	key := strings.ToLower(path)
	ep := s.endpoints[key]
	if ep == nil {
		ep = &endpoint{gone: true, rendezvous: map[*rendezvous]struct{}{}}
		ep.Path = path
		s.endpoints[key] = ep
	}
	return ep
}

// match finds the hybrid connection a dialled path belongs to: the longest that
// is a prefix of it on a segment boundary. One that exists is preferred to one
// that is gone; nil if there is neither.
func (s *Server) match(path string) *endpoint {
	s.mu.Lock()
	defer s.mu.Unlock()
	var best *endpoint
	for prefix := strings.ToLower(trimPath(path)); prefix != ""; prefix, _ = cutLast(prefix) {
		ep := s.endpoints[prefix]
		if ep != nil && !ep.gone {
			return ep
		}
		if best == nil {
			best = ep
		}
	}
	return best
}

func trimPath(path string) string { return strings.Trim(path, "/") }

func cutLast(path string) (before, last string) {
	i := strings.LastIndexByte(path, '/')
	if i < 0 {
		return "", path
	}
	return path[:i], path[i+1:]
}

func (ep *endpoint) open() []*rendezvous {
	open := make([]*rendezvous, 0, len(ep.rendezvous))
	for r := range ep.rendezvous {
		open = append(open, r)
	}
	return open
}
