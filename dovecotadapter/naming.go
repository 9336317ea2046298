package dovecotadapter

import (
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

// naming finds out by which name users log in at the backend.
type naming struct {
	t *translation
	// first is what the first line that says something makes of a name, if it is
	// not the name itself.
	first template
	at    *dovecotconf.Node
}

// add takes a line that says what name to log in with, if there is one.
func (m *naming) add(value string, n *dovecotconf.Node) {
	if n == nil || value == "" {
		return
	}
	made, err := parseTemplate(value)
	switch {
	case err != nil:
		m.t.refuse(n, "the name to log in with: %w; write it with the option username of a backend, in a Caddyfile", err)
		return
	case made.users == 0:
		m.t.refuse(n, "all users would log in at the backend as the same; this is not the proxy that Caddy can be")
		return
	case made.cased:
		m.t.warn(n, "%s: upper and lower case stay as the user typed them", NoEqual)
	}
	switch {
	case m.at == nil:
		m.first, m.at = made, n
	case m.first.text != made.text:
		m.t.warn(n, "%s: users log in at the backend as %s:%d says", NoEffect, m.at.File, m.at.Line)
	}
}

// result returns the options username of the backend and identity of dovecot_auth; empty
// are their defaults.
func (m *naming) result() (username, identity string) {
	made := m.first
	if m.at == nil {
		made = template{text: wholeUser, users: 1}
	}
	format, n := m.t.top.text("auth_username_format")
	if n != nil && format != "" {
		before, err := parseTemplate(format)
		switch {
		case err != nil:
			m.t.drop(n, "%v; names go to the backend as they were typed", err)
		case before.cased:
			m.t.warn(n, "carried over, but for upper and lower case: names go to the backend as typed")
		}
		switch {
		case err != nil:
		case before.text != wholeUser:
			made.text = strings.ReplaceAll(made.text, wholeUser, before.text)
			m.at = n
		}
	}
	if made.text == wholeUser {
		return "", ""
	}
	if made.usesDomain() {
		return made.text, ""
	}
	// Nobody verifies the domain that was typed, so it must not reach a mail server.
	identity = made.text
	if strings.ContainsAny(identity, "\\ ") {
		identity = localUser
	}
	m.t.safe(m.at, "Postfix is told the user name %s, without the domain that was typed, since the backend does not verify that", identity)
	return made.text, identity
}
