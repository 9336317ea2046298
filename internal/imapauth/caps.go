package imapauth

import (
	"context"
	"fmt"
	"strings"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
)

// capabilities is what a backend offers, as it spells it.
type capabilities []string

// maxCaps is more capabilities than there are; what comes behind them is left out.
const maxCaps = 512

// parseCaps splits a list. Some servers put two blanks between two names
// (Exchange 2010). What cannot be a capability is left out, so that the list can
// be passed on.
func parseCaps(list []byte) capabilities {
	words := strings.Fields(string(list))
	words = words[:min(len(words), maxCaps)]
	caps := make(capabilities, 0, len(words))
	for _, w := range words {
		if isCap(w) {
			caps = append(caps, w)
		}
	}
	return caps
}

func isCap(word string) bool {
	for i := range len(word) {
		c := word[i]
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\]`, c) >= 0 {
			return false
		}
	}
	return true
}

// impliedByRev2 are the capabilities we care for that a server of IMAP4rev2 has
// without listing them (RFC 9051 appendix E).
var impliedByRev2 = []imap.Cap{imap.CapSASLIR, imap.CapLiteralMinus, imap.CapNamespace}

func (caps capabilities) has(name imap.Cap) bool {
	rev2 := false
	for _, c := range caps {
		if strings.EqualFold(c, string(name)) {
			return true
		}
		rev2 = rev2 || strings.EqualFold(c, string(imap.CapIMAP4rev2))
	}
	if rev2 {
		for _, c := range impliedByRev2 {
			if c == name {
				return true
			}
		}
	}
	return false
}

func (caps capabilities) hasAny(names []imap.Cap) bool {
	for _, name := range names {
		if caps.has(name) {
			return true
		}
	}
	return false
}

// askCaps asks for the capabilities. The answer is returned if it is not OK.
func (c *Client) askCaps(ctx context.Context, line int) (imapwire.Response, error) {
	c.caps = nil
	r, err := c.ask(ctx, "CAPABILITY", line)
	if err != nil || r.Status != imap.StatusResponseTypeOK {
		return r, err
	}
	if c.caps == nil {
		return r, fmt.Errorf("%w: no capabilities are listed", ErrProtocol)
	}
	return r, nil
}
