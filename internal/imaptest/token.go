package imaptest

import (
	"encoding/base64"
	"strings"
)

// TokenError is what a Fake says of a token that it refuses, before its NO.
const TokenError = `{"status":"invalid_token","schemes":"bearer"}`

// isToken says whether the login is one with a token.
func (l *Login) isToken() bool { return l.Mechanism == "XOAUTH2" || l.Mechanism == "OAUTHBEARER" }

// readToken reads the message of a mechanism for tokens, to the letter.
func (c *Conn) readToken(l *Login, message string) bool {
	name, token, found := strings.Cut(message, "\x01auth=Bearer ")
	token, ended := strings.CutSuffix(token, "\x01\x01")
	user, named := strings.CutPrefix(name, "user=")
	if l.Mechanism == "OAUTHBEARER" {
		var closed bool
		user, named = strings.CutPrefix(name, "n,a=")
		user, closed = strings.CutSuffix(user, ",")
		named = named && closed
		user = strings.NewReplacer("=2C", ",", "=3D", "=").Replace(user)
	}
	if !found || !ended || !named {
		c.fail("AUTHENTICATE %s: a message of another form", l.Mechanism)
	}
	l.User, l.Secret = user, token
	return true
}

// explainToken says what is wrong with a token, and waits for the client to take
// note of it. It returns false if the client broke off.
func (c *Conn) explainToken(l Login) bool {
	c.Sendf("+ %s", base64.StdEncoding.EncodeToString([]byte(TokenError)))
	line, ok := c.ReadLine()
	if !ok {
		return false
	}
	want := ""
	if l.Mechanism == "OAUTHBEARER" {
		want = "AQ==" // RFC 7628 section 3.2.3
	}
	if line != want {
		c.fail("AUTHENTICATE %s: the error is answered with %q, want %q", l.Mechanism, line, want)
	}
	return true
}
