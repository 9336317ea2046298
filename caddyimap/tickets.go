package caddyimap

import (
	"crypto/tls"
	"slices"
	"strings"
)

// ticketOf begins what a session ticket of ours says of itself; the name of the
// server follows.
const ticketOf = "imap "

// bindTickets has TLS sessions resumed only under the name that they began with, and
// only here. Caddy encrypts the tickets of all its listeners with the same keys, and
// a resumed session shows no certificate: somebody on the way could pass a client's
// connection to a web site of this Caddy off to us, or one for another name, and the
// client would not notice.
func bindTickets(cfg *tls.Config) {
	label := func(name string) []byte { return []byte(ticketOf + strings.ToLower(name)) }
	cfg.WrapSession = func(cs tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
		session.Extra = append(session.Extra, label(cs.ServerName))
		return cfg.EncryptTicket(cs, session)
	}
	cfg.UnwrapSession = func(ticket []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		session, err := cfg.DecryptTicket(ticket, cs)
		if err != nil || session == nil {
			return nil, err
		}
		want := string(label(cs.ServerName))
		if !slices.ContainsFunc(session.Extra, func(b []byte) bool { return string(b) == want }) {
			return nil, nil // so that there is a whole handshake
		}
		return session, nil
	}
}
