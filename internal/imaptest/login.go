package imaptest

import (
	"encoding/base64"
	"strconv"
	"strings"
)

// Login is an attempt to log in, as a server saw it.
type Login struct {
	// Command is LOGIN, or AUTHENTICATE with Mechanism.
	Command, Mechanism string
	// User, AuthzID and Secret are the bytes that arrived, decoded.
	User, AuthzID, Secret string
	// Initial says that an initial response came with the command.
	Initial bool
	// Literals says that LOGIN came with literals.
	Literals bool
	// TLS says that TLS stood.
	TLS bool
	// Proxy is the PROXY header that a Fake has read, as Conn.Proxied has it, and ID
	// the arguments of the last ID before the login.
	Proxy, ID string
}

// Credentials reads the arguments of LOGIN or AUTHENTICATE (PLAIN, LOGIN,
// XOAUTH2 and OAUTHBEARER),
// the rest of the line given, asks for what is missing, and returns what came.
// It notes the attempt. The second value is false if the client broke off.
func (c *Conn) Credentials(command, args string) (Login, bool) {
	l := Login{Command: strings.ToUpper(command)}
	ok := false
	if l.Command == "LOGIN" {
		ok = c.readLogin(&l, args)
	} else {
		ok = c.readAuthenticate(&l, args)
	}
	if ok {
		c.Note(l)
	}
	return l, ok
}

func (c *Conn) readLogin(l *Login, args string) bool {
	for i, field := range []*string{&l.User, &l.Secret} {
		if i > 0 {
			var ok bool
			if args, ok = strings.CutPrefix(args, " "); !ok {
				c.fail("LOGIN: no space between the arguments, but %q", args)
			}
		}
		switch {
		case strings.HasPrefix(args, `"`):
			*field, args = c.unquote(args)
		case strings.HasPrefix(args, "{") && strings.HasSuffix(args, "}"):
			l.Literals = true
			size, nonSync := strings.CutSuffix(args[1:len(args)-1], "+")
			n, err := strconv.ParseUint(size, 10, 16)
			if err != nil {
				c.fail("LOGIN: literal of size %q", args)
			}
			if !nonSync {
				c.Send("+ go on\r\n")
			}
			*field = string(c.Bytes(int(n)))
			rest, ok := c.ReadLine()
			if !ok {
				return false
			}
			args = rest
		default:
			end := strings.IndexByte(args, ' ')
			if end < 0 {
				end = len(args)
			}
			*field, args = args[:end], args[end:]
			if *field == "" || strings.ContainsAny(*field, "(){%*\"\\") {
				c.fail("LOGIN: %q is no atom", *field)
			}
		}
	}
	if args != "" {
		c.fail("LOGIN: %q behind the arguments", args)
	}
	return true
}

// unquote takes a quoted string off the front of s, as strictly as RFC 3501
// section 9 words it.
func (c *Conn) unquote(s string) (value, rest string) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), s[i+1:]
		case '\\':
			i++
			if i == len(s) || (s[i] != '"' && s[i] != '\\') {
				c.fail("LOGIN: backslash escapes nothing in %q", s)
			}
		}
		b.WriteByte(s[i])
	}
	c.fail("LOGIN: unfinished quoted string %q", s)
	return "", ""
}

func (c *Conn) readAuthenticate(l *Login, args string) bool {
	mech, initial, hasInitial := strings.Cut(args, " ")
	l.Mechanism, l.Initial = strings.ToUpper(mech), hasInitial
	next := func(prompt string) (string, bool) {
		if hasInitial {
			hasInitial = false
			if initial == "=" {
				initial = ""
			}
			return c.decode(initial)
		}
		if prompt == "" {
			c.Send("+\r\n")
		} else {
			c.Sendf("+ %s", base64.StdEncoding.EncodeToString([]byte(prompt)))
		}
		line, ok := c.ReadLine()
		if !ok || line == "*" {
			return "", false
		}
		return c.decode(line)
	}
	switch l.Mechanism {
	case "PLAIN":
		resp, ok := next("")
		if !ok {
			return false
		}
		parts := strings.Split(resp, "\x00")
		if len(parts) != 3 {
			c.fail("AUTHENTICATE PLAIN: %d parts in the response", len(parts))
		}
		l.AuthzID, l.User, l.Secret = parts[0], parts[1], parts[2]
		return true
	case "LOGIN":
		var ok bool
		if l.User, ok = next("Username:"); !ok {
			return false
		}
		l.Secret, ok = next("Password:")
		return ok
	case "XOAUTH2", "OAUTHBEARER":
		message, ok := next("")
		return ok && c.readToken(l, message)
	}
	c.fail("AUTHENTICATE with unknown mechanism %q", mech)
	return false
}

func (c *Conn) decode(s string) (string, bool) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		c.fail("SASL response is no base64: %v", err)
	}
	return string(b), true
}
