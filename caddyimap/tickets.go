package caddyimap

import (
	"bytes"
	"crypto/tls"
	"slices"
	"strings"
)

// bindTickets has TLS sessions resumed only for the name that they were begun for,
// and only those that were begun with IMAP. All of Caddy encrypts tickets with the
// same keys: without this, a session of a web site would be taken up here, and one
// of a name under another (RFC 6066 section 3, RFC 8446 section 4.6.1).
//
// Whoever may not resume a session does a whole handshake, with the certificate and
// the demands of the name.
func bindTickets(cfg *tls.Config) {
	cfg.WrapSession = func(cs tls.ConnectionState, s *tls.SessionState) ([]byte, error) {
		s.Extra = append(s.Extra, ticketMark(cs))
		return cfg.EncryptTicket(cs, s)
	}
	cfg.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		s, err := cfg.DecryptTicket(ticket, cs)
		if err != nil || s == nil {
			return nil, err
		}
		mark := ticketMark(cs)
		if !slices.ContainsFunc(s.Extra, func(extra []byte) bool { return bytes.Equal(extra, mark) }) {
			return nil, nil // no session: the handshake is a whole one
		}
		return s, nil
	}
}

// ticketMark is what a ticket has to hold.
func ticketMark(cs tls.ConnectionState) []byte {
	return []byte("caddy-imap " + strings.ToLower(cs.ServerName))
}
