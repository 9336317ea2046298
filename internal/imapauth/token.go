package imapauth

import (
	"errors"

	"github.com/emersion/go-imap/v2"
)

var (
	// ErrNoTokens says that the backend does not take tokens in the way that is wanted.
	ErrNoTokens = errors.New("the backend does not offer the mechanism that the option oauth2 is to show tokens with")
	// errNoToken keeps a password from a backend that is to see none.
	errNoToken = errors.New("this backend is shown tokens, and a password was to be sent there")
)

// takesWhatWeHave says whether users with a password can be logged in: with that, or
// with a token.
func (c *Client) takesWhatWeHave() bool {
	if c.cfg.Token != "" {
		return c.caps.has(imap.AuthCap(c.cfg.Token))
	}
	return c.caps.takePasswords()
}
