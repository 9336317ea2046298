package imapfront

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// capabilities lists what we offer in the present state.
func (f *front) capabilities() string {
	caps := make([]string, 0, 16)
	caps = append(caps, string(imap.CapIMAP4rev1), string(imap.CapSASLIR), string(imap.CapLiteralPlus), string(imap.CapID))
	if f.tls == nil && f.cfg.TLS != nil {
		caps = append(caps, string(imap.CapStartTLS))
	}
	if f.mayAuthenticate() {
		for _, mech := range f.mechanisms() {
			caps = append(caps, "AUTH="+mech)
		}
	}
	if !f.mayLogin() {
		caps = append(caps, string(imap.CapLoginDisabled))
	}
	return f.amend(caps)
}

// mechanisms returns the SASL mechanisms that are offered at the moment.
func (f *front) mechanisms() []string {
	if f.cfg.Mechanisms == nil {
		return f.withExternal(login.Mechanisms)
	}
	return f.withExternal(f.cfg.Mechanisms())
}

// relayedCaps returns the capabilities of a backend that hold for a client that
// has logged in through us. UNAUTHENTICATE (RFC 8437) would let a client guess
// passwords behind our back; the others have had their time.
func relayedCaps(caps []string) []string {
	out := make([]string, 0, len(caps)+1)
	for _, c := range caps {
		upper := strings.ToUpper(c)
		switch imap.Cap(upper) {
		case imap.CapStartTLS, imap.CapLoginDisabled, imap.CapUnauthenticate:
			continue
		}
		if !strings.HasPrefix(upper, "AUTH=") && isCap(c) && !containsFold(out, c) {
			out = append(out, c)
		}
	}
	if !containsFold(out, string(imap.CapIMAP4rev1)) {
		out = slices.Insert(out, 0, string(imap.CapIMAP4rev1))
	}
	return out
}

// isCap keeps a backend from writing anything but a capability into our line.
func isCap(c string) bool {
	for i := range len(c) {
		if c[i] <= ' ' || c[i] >= 0x7f || strings.IndexByte(`(){%*"\]`, c[i]) >= 0 {
			return false
		}
	}
	return c != ""
}

// amend applies the operator's additions and removals, and makes a line of it.
func (f *front) amend(caps []string) string {
	caps = slices.DeleteFunc(caps, func(c string) bool { return containsFold(f.cfg.RemoveCaps, c) })
	for _, c := range f.cfg.AddCaps {
		if !containsFold(caps, c) {
			caps = append(caps, c)
		}
	}
	return strings.Join(caps, " ")
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(t string) bool { return strings.EqualFold(s, t) })
}
