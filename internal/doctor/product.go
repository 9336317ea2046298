package doctor

import (
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
)

// products are known by a part of their greeting, in lower case.
var products = []struct{ sign, name string }{
	{"dovecot", "Dovecot"},
	{"cyrus", "Cyrus IMAP"},
	{"courier", "Courier IMAP"},
	{"zimbra", "Zimbra"},
	{"gimap", "Gmail"},
	{"stalwart", "Stalwart"},
	{"mdaemon", "MDaemon"},
	{"hmailserver", "hMailServer"},
	{"domino", "HCL Domino"},
	{"groupwise", "GroupWise"},
	{"axigen", "Axigen"},
}

// product recognises a server. It is empty if that is none of those we know.
func product(greeting string, caps []string) string {
	if imapauth.LooksLikeExchange(greeting, caps) {
		return "Exchange"
	}
	lower := strings.ToLower(greeting)
	for _, p := range products {
		if strings.Contains(lower, p.sign) {
			return p.name
		}
	}
	return ""
}

// greeted tells of a greeting.
func greeted(greeting string) finding {
	text := "it says " + quoted(greeting)
	if name := product(greeting, nil); name != "" {
		text = "looks like " + name + "; " + text
	}
	return fine(text)
}

func quoted(text string) string { return `"` + foreign(text) + `"` }
