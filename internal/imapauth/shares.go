package imapauth

import (
	"crypto/tls"
	"slices"
	"sync"
	"time"
)

// sharesFor is for how long it is believed that a server has no post-quantum key
// exchange.
const sharesFor = 10 * time.Minute

// classical are the key exchanges that no post-quantum one is part of.
var classical = []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384, tls.CurveP521}

// Shares knows which upstreams have chosen a classical key exchange although they were
// offered a post-quantum one. They are spared the offer for a while, since its key
// costs an eighth of all that a login does.
//
// What counts is what a handshake has come to that was offered everything. Nobody in
// between can have a hand in that: both sides have proven that they saw the same offer.
type Shares struct {
	classical *tls.Config

	mu sync.Mutex
	// until is by address.
	until map[string]time.Time
}

// NewShares returns what is known of upstreams with these settings, which are not to
// be changed any more. It is nil, which knows nothing, if they say which key exchanges
// are to be offered.
func NewShares(cfg *tls.Config) *Shares {
	if len(cfg.CurvePreferences) > 0 {
		return nil
	}
	s := &Shares{classical: cfg.Clone(), until: make(map[string]time.Time)}
	s.classical.CurvePreferences = classical
	return s
}

// offer returns the settings for a handshake at an address; cfg is for those with
// every offer.
func (s *Shares) offer(cfg *tls.Config, address string, now time.Time) *tls.Config {
	if s == nil {
		return cfg
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Before(s.until[address]) {
		return s.classical
	}
	return cfg
}

// note learns from a handshake that had every offer.
func (s *Shares) note(state *tls.ConnectionState, address string, now time.Time) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	// An address that a name no longer has is not kept for good.
	for a, until := range s.until {
		if !now.Before(until) {
			delete(s.until, a)
		}
	}
	if state.Version < tls.VersionTLS13 || slices.Contains(classical, state.CurveID) {
		s.until[address] = now.Add(sharesFor)
	}
}
