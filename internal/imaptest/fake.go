package imaptest

import (
	"crypto/tls"
	"slices"
	"strings"
	"sync"
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
	// Proxy wants a PROXY header before that.
	Proxy bool
	// Clear takes passwords without TLS; otherwise they are refused, and noted.
	Clear bool
	// Login answers an attempt with the text behind the tag, such as "NO LOGIN
	// failed.", and with a line of its own in front of it or behind it, if there
	// is one. An answer that begins with "* " has no tag, and closes the
	// connection, as an empty one does. Default: everybody gets "OK <command>
	// completed."
	Login func(l Login) string
	// MaxSessions is how many sessions a user may have at a time. Further logins
	// fail, as for a wrong password. Default: no limit.
	MaxSessions int
	// MaxCommand is how many bytes a command line or a line of a SASL exchange
	// may have. One that is longer is BAD. Default: no limit.
	MaxCommand int
	// Announce puts the capabilities into an untagged line before the OK of a
	// login, as Dovecot does and Exchange never does.
	Announce bool
	// Namespace is the tagged text that answers NAMESPACE and STATUS after
	// login. Default: OK, with the data in front.
	Namespace string
	// Unconnected says for which logins the OK is not meant: each command behind
	// it, except for CAPABILITY and LOGOUT, is BAD, and the second one ends the
	// connection. Default: none.
	Unconnected func(l Login) bool
	// ID is the list that answers ID, and Bye the text that answers LOGOUT.
	ID, Bye string
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

	sessionsMu sync.Mutex
	sessions   map[string]int
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
	set(&p.ID, `("name" "fake")`)
	set(&p.Bye, "signing off.")
	f := &Fake{p: p, sessions: make(map[string]int)}
	f.Script = NewScriptAt(tb, addr, f.play)
	return f
}

func (f *Fake) play(c *Conn) {
	if f.p.Proxy {
		c.proxy = c.Proxied()
	}
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
		if f.p.MaxCommand > 0 && len(line) > f.p.MaxCommand {
			c.Sendf("%s BAD Command Argument Error. 12", tag)
			continue
		}
		switch name = strings.ToUpper(name); name {
		case "CAPABILITY":
			c.Sendf("* CAPABILITY %s\r\n%s OK CAPABILITY completed.", f.caps(c), tag)
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
			c.id = args
			c.Sendf("* ID %s\r\n%s OK ID completed.", f.p.ID, tag)
		case "NOOP":
			c.Sendf("%s OK NOOP completed.", tag)
		case "LOGOUT":
			c.Sendf("* BYE %s\r\n%s OK LOGOUT completed.", f.p.Bye, tag)
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

// caps are the capabilities before login.
func (f *Fake) caps(c *Conn) string {
	if c.TLS() {
		return f.p.Inside
	}
	return f.p.Before
}

// initial tells whether a SASL response may come with its command.
func (f *Fake) initial(c *Conn) bool {
	return slices.ContainsFunc(strings.Fields(f.caps(c)), func(name string) bool { return name == "SASL-IR" || name == "IMAP4rev2" })
}

// login tells whether the connection is done for.
func (f *Fake) login(c *Conn, tag, name, args string) bool {
	if name == "AUTHENTICATE" && strings.Contains(args, " ") && !f.initial(c) {
		c.Sendf("%s BAD Command Argument Error. 11", tag)
		return false
	}
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
	if strings.HasPrefix(answer, "* ") {
		c.Sendf("%s", answer)
		return true
	}
	granted := strings.HasPrefix(answer, "OK")
	if !granted && l.isToken() && !c.explainToken(l) {
		return true
	}
	if granted && !f.begin(l) {
		answer, granted = "NO "+l.Command+" failed.", false
	}
	if granted {
		defer f.end(l)
	}
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
		f.session(c, l)
	}
	return true
}

// begin counts a session, unless the user has as many as he may have; end counts
// it no longer.
func (f *Fake) begin(l Login) bool {
	f.sessionsMu.Lock()
	defer f.sessionsMu.Unlock()
	user := strings.ToLower(l.User)
	if f.p.MaxSessions > 0 && f.sessions[user] >= f.p.MaxSessions {
		return false
	}
	f.sessions[user]++
	return true
}

func (f *Fake) end(l Login) {
	f.sessionsMu.Lock()
	defer f.sessionsMu.Unlock()
	f.sessions[strings.ToLower(l.User)]--
}

func (f *Fake) session(c *Conn, l Login) {
	unconnected, refused := f.p.Unconnected != nil && f.p.Unconnected(l), 0
	for {
		line, ok := c.ReadLine()
		if !ok {
			return
		}
		tag, name, _ := SplitCommand(line)
		name = strings.ToUpper(name)
		if unconnected && name != "CAPABILITY" && name != "LOGOUT" {
			c.Sendf("%s %s", tag, ExchangeNotConnected)
			if refused++; refused == 2 {
				c.Sendf("%s", ExchangeClosed)
				return
			}
			continue
		}
		switch name {
		case "CAPABILITY":
			c.Sendf("* CAPABILITY %s\r\n%s OK CAPABILITY completed.", f.p.After, tag)
		case "NAMESPACE", "STATUS":
			switch {
			case f.p.Namespace != "":
				c.Sendf("%s %s", tag, f.p.Namespace)
			case name == "STATUS":
				c.Sendf("* STATUS INBOX (MESSAGES 0)\r\n%s OK STATUS completed.", tag)
			default:
				c.Sendf("* NAMESPACE ((\"\" \"/\")) NIL NIL\r\n%s OK NAMESPACE completed.", tag)
			}
		case "NOOP":
			c.Sendf("%s OK NOOP completed.", tag)
		case "LOGOUT":
			c.Sendf("* BYE %s\r\n%s OK LOGOUT completed.", f.p.Bye, tag)
			return
		default:
			c.Sendf("%s BAD Command Error. 10", tag)
		}
	}
}
