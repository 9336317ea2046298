package imapauth

import (
	"bytes"
	"context"
	"fmt"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Exchange has answered LOGIN with OK and afterwards every command with "BAD
// User is authenticated but not connected.", for users who may not get in. So
// what looks like Exchange is asked once more. It is better to ask in vain than
// to let somebody in, which is why the signs are taken generously.
var (
	// exchangeCaps are offered by nobody else.
	exchangeCaps = []imap.Cap{
		"XPROXY3", "CLIENTACCESSRULES", "CLIENTNETWORKPRESENCELOCATION", "BACKENDAUTHENTICATE",
		imap.AuthCap("NTLM"),
	}
	// bareIMAP4 is what Exchange lists beside IMAP4rev1, and few others do.
	bareIMAP4 imap.Cap = "IMAP4"
	// foreignCaps are offered by others and by no version of Exchange.
	foreignCaps = []imap.Cap{
		imap.CapEnable, imap.CapSort, imap.CapCondStore, imap.CapESearch, imap.CapQuota, imap.CapACL, imap.CapSpecialUse,
	}
)

// exchangeGreetings are parts of the greeting, in lower case. Administrators
// change the rest of it.
var exchangeGreetings = [][]byte{[]byte("microsoft exchange"), []byte("imap4 service is ready")}

func exchangeGreeting(text []byte) bool {
	text = bytes.ToLower(text)
	for _, g := range exchangeGreetings {
		if bytes.Contains(text, g) {
			return true
		}
	}
	return false
}

func (caps capabilities) lookLikeExchange() bool {
	return caps.hasAny(exchangeCaps) || caps.has(bareIMAP4) && !caps.hasAny(foreignCaps)
}

// wantsProbe reports whether a granted login needs a second look.
func (c *Client) wantsProbe() bool {
	switch c.cfg.Probe {
	case ProbeOn:
		return true
	case ProbeOff:
		return false
	default:
		return c.exchange
	}
}

// probe asks for something that only a user with a mailbox gets. What it is
// told is not for the client.
func (c *Client) probe(ctx context.Context) login.Verdict {
	question := "NAMESPACE"
	if !c.caps.has(imap.CapNamespace) {
		question = "STATUS INBOX (MESSAGES)"
	}
	r, err := c.ask(ctx, question, maxLoginLine)
	if err != nil {
		return login.UnavailableFor(fmt.Errorf("probing the mailbox: %w", err))
	}
	v := classifyProbe(&r)
	if v.Err != nil {
		v.Err = fmt.Errorf("probing the mailbox: %w", v.Err)
	}
	return v
}
