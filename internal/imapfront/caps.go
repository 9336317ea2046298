package imapfront

import (
	"slices"
	"strings"

	"github.com/emersion/go-imap/v2"
)

// relayedCaps returns the capabilities of a backend that hold for a client that
// has logged in through us. UNAUTHENTICATE (RFC 8437) would let a client guess
// passwords behind our back; the others have had their time.
func relayedCaps(caps []string) []string {
	var out []string
	for _, c := range caps {
		upper := strings.ToUpper(c)
		switch imap.Cap(upper) {
		case imap.CapStartTLS, imap.CapLoginDisabled, imap.CapUnauthenticate:
			continue
		}
		if !strings.HasPrefix(upper, "AUTH=") && !slices.Contains(out, c) && isCap(c) {
			out = append(out, c)
		}
	}
	if !slices.Contains(out, string(imap.CapIMAP4rev1)) {
		out = append([]string{string(imap.CapIMAP4rev1)}, out...)
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

// amend applies the operator's additions and removals.
func (f *front) amend(caps []string) []string {
	caps = slices.DeleteFunc(caps, func(c string) bool { return containsFold(f.cfg.RemoveCaps, c) })
	for _, c := range f.cfg.AddCaps {
		if !containsFold(caps, c) {
			caps = append(caps, c)
		}
	}
	return caps
}

func containsFold(list []string, s string) bool {
	return slices.ContainsFunc(list, func(t string) bool { return strings.EqualFold(s, t) })
}
