package imaptest

import (
	"crypto/tls"
	"strings"
	"testing"
)

// Profile says what a Fake looks like. Lines are given without tag and CRLF.
type Profile struct {
	// Greeting is the whole first line. Default: "* OK ready."
	Greeting string
	// Before, Inside and After are the capabilities before TLS, inside TLS and
	// after login. Inside defaults to "IMAP4rev1 AUTH=PLAIN", Before to
	// "IMAP4rev1 STARTTLS LOGINDISABLED", After to Inside.
	Before, Inside, After string
	// TLS answers STARTTLS. Without it STARTTLS is refused.
	TLS *tls.Config
	// Implicit makes the handshake the first thing on a connection.
	Implicit bool
	// Clear takes passwords without TLS; otherwise they are refused, and noted.
	Clear bool
	// Login answers an attempt with the text behind the tag, such as "NO LOGIN
	// failed."; an empty answer closes the connection. Default: everybody gets
	// "OK <command> completed."
	Login func(l Login) string
	// Announce puts the capabilities into an untagged line before the OK of a
	// login, as Dovecot does and Exchange never does.
	Announce bool
	// Namespace is the tagged text that answers NAMESPACE and STATUS after
	// login. Default: OK, with the data in front.
	Namespace string
	// Session plays the connection from the OK of the login on. Default: it
	// answers CAPABILITY, NAMESPACE, STATUS, NOOP and LOGOUT, and anything else
	// with BAD.
	Session func(c *Conn, l Login)
}

// Fake is an IMAP server that behaves, as its profile says, until the login,
// and knows a few commands after it. It notes each login in Logins.
type Fake struct {
	*Script
	p Profile
}

// NewFake starts a Fake on 127.0.0.1.
func NewFake(tb testing.TB, p Profile) *Fake {
	tb.Helper()
	return NewFakeAt(tb, "127.0.0.1:0", p)
}

// NewFakeAt is NewFake at an address of the loopback.
func NewFakeAt(tb testing.TB, addr string, p Profile) *Fake {
	tb.Helper()
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&p.Greeting, "* OK ready.")
	set(&p.Before, "IMAP4rev1 STARTTLS LOGINDISABLED")
	set(&p.Inside, "IMAP4rev1 AUTH=PLAIN")
	set(&p.After, p.Inside)
	if p.Login == nil {
		p.Login = func(l Login) string { return "OK " + l.Command + " completed." }
	}
	f := &Fake{p: p}
	f.Script = NewScriptAt(tb, addr, f.play)
	return f
}

// Exchange is the profile of an Exchange 2016 or 2019 with STARTTLS and the
// given certificate. Set Login and Namespace to make it fail in its ways.
func Exchange(cfg *tls.Config) Profile {
	return Profile{
		Greeting: "* OK The Microsoft Exchange IMAP4 service is ready.",
		Before:   "IMAP4 IMAP4rev1 LOGINDISABLED STARTTLS SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+",
		Inside:   "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+",
		After:    "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI SASL-IR UIDPLUS MOVE ID UNSELECT CLIENTNETWORKPRESENCELOCATION CHILDREN IDLE NAMESPACE LITERAL+",
		TLS:      cfg,
	}
}

// ExchangeNotConnected is what Exchange answers to every command of a user whose
// login it has confirmed but not carried out.
const ExchangeNotConnected = "BAD User is authenticated but not connected."

// ExchangeThrottled is the tagged answer of an Exchange that wants to be left
// alone for a minute and a half.
const ExchangeThrottled = "BAD Request is throttled. Suggested Backoff Time: 90000 milliseconds"

func (f *Fake) play(c *Conn) {
	if f.p.Implicit && c.StartTLS(f.p.TLS) != nil {
		return
	}
	c.Send(f.p.Greeting + "\r\n")
	for {
		line, ok := c.ReadLine()
		if !ok {
			return
		}
		tag, name, args := SplitCommand(line)
		switch name = strings.ToUpper(name); name {
		case "CAPABILITY":
			caps := f.p.Before
			if c.TLS() {
				caps = f.p.Inside
			}
			c.Sendf("* CAPABILITY %s\r\n%s OK CAPABILITY completed.", caps, tag)
		case "STARTTLS":
			if f.p.TLS == nil || c.TLS() {
				c.Sendf("%s BAD Command received in Invalid state.", tag)
				continue
			}
			c.Sendf("%s OK Begin TLS negotiation now.", tag)
			if c.StartTLS(f.p.TLS) != nil {
				return
			}
		case "ID":
			c.Sendf("* ID (\"name\" \"fake\")\r\n%s OK ID completed.", tag)
		case "NOOP":
			c.Sendf("%s OK NOOP completed.", tag)
		case "LOGOUT":
			c.Sendf("* BYE signing off.\r\n%s OK LOGOUT completed.", tag)
			return
		case "LOGIN", "AUTHENTICATE":
			if f.login(c, tag, name, args) {
				return
			}
		default:
			c.Sendf("%s BAD Command Error. 10", tag)
		}
	}
}

// login tells whether the connection is done for.
func (f *Fake) login(c *Conn, tag, name, args string) bool {
	l, ok := c.Credentials(name, args)
	if !ok {
		return true
	}
	if !c.TLS() && !f.p.Clear {
		c.Sendf("%s BAD Command received in Invalid state.", tag)
		return false
	}
	answer := f.p.Login(l)
	if answer == "" {
		return true
	}
	granted := strings.HasPrefix(answer, "OK")
	if granted && f.p.Announce {
		c.Sendf("* CAPABILITY %s", f.p.After)
	}
	c.Sendf("%s %s", tag, answer)
	if !granted {
		return false
	}
	if f.p.Session != nil {
		f.p.Session(c, l)
	} else {
		f.session(c)
	}
	return true
}

func (f *Fake) session(c *Conn) {
	for {
		line, ok := c.ReadLine()
		if !ok {
			return
		}
		tag, name, _ := SplitCommand(line)
		switch strings.ToUpper(name) {
		case "CAPABILITY":
			c.Sendf("* CAPABILITY %s\r\n%s OK CAPABILITY completed.", f.p.After, tag)
		case "NAMESPACE", "STATUS":
			switch {
			case f.p.Namespace != "":
				c.Sendf("%s %s", tag, f.p.Namespace)
			case strings.EqualFold(name, "STATUS"):
				c.Sendf("* STATUS INBOX (MESSAGES 0)\r\n%s OK STATUS completed.", tag)
			default:
				c.Sendf("* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n%s OK NAMESPACE completed.", tag)
			}
		case "NOOP":
			c.Sendf("%s OK NOOP completed.", tag)
		case "LOGOUT":
			c.Sendf("* BYE signing off.\r\n%s OK LOGOUT completed.", tag)
			return
		default:
			c.Sendf("%s BAD Command Error. 10", tag)
		}
	}
}
