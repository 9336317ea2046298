package dovecotauth

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// maxName is the length of a user name in bytes. Exim takes answers of 8192
// bytes, Radicale of 1024.
const maxName = 512

// refusal is why an attempt was turned down without asking the backend.
type refusal struct {
	// fields is what FAIL tells the client, with leading TABs.
	fields string
	// why is for the log and holds nothing that the client sent.
	why string
}

func (r *refusal) Error() string { return r.why }

// admit decides whether the user of an attempt may be asked about, and under which
// name the client is told of it. The error is a refusal.
func (s *Server) admit(a *login.Attempt) (string, error) {
	if a.User == "" {
		return "", &refusal{"\tuser=\toriginal_user=", "empty user name"}
	}
	if !SafeName(a.User) {
		return "", &refusal{"", "user name is too long, or has a space or control character in it"}
	}
	identity := s.Identity
	if identity == nil {
		identity = DefaultIdentity
	}
	name, err := identity(a)
	if err != nil {
		return "", &refusal{"", "making the identity failed: " + err.Error()}
	}
	if !SafeName(name) {
		return "", &refusal{"", "identity is empty, too long, or has a space or control character in it"}
	}
	a.NoDelegates = !s.AllowDelegates
	if a.NoDelegates && (a.AuthzID != "" || login.IsDelegate(a.User)) {
		return name, &refusal{userField(name), "mailbox of somebody else asked for, and delegates are not allowed"}
	}
	return name, nil
}

// complete looks at the request's attempt when the password is known, too.
func (r *request) complete() error {
	if err := r.attempt.Check(); err != nil {
		return &refusal{r.user(), err.Error()}
	}
	return nil
}

// user returns the field that names the user to the client.
func (r *request) user() string { return userField(r.identity) }

func userField(name string) string { return "\tuser=" + name }

// SafeName says whether a name can be told to every client: not empty, not
// longer than 512 bytes, and without spaces and control characters. TAB, LF, CR,
// NUL and \x01 would have to be escaped, and Postfix and Exim do not undo
// that; a space breaks the tables and logs that the name goes into, and Dovecot
// does not allow it either.
func SafeName(name string) bool {
	if name == "" || len(name) > maxName {
		return false
	}
	return !strings.ContainsFunc(name, func(r rune) bool {
		return unicode.IsControl(r) || unicode.IsSpace(r)
	})
}

// DefaultIdentity returns the name that was authenticated, in lower case.
func DefaultIdentity(a *login.Attempt) (string, error) { return Lower(a.User), nil }

// Lower returns a name in lower case, and takes care that nobody gets the name of
// somebody else in the way: bytes that are not UTF-8 stay as they are, and so do
// the few letters outside ASCII whose lower case is in it, like the Kelvin sign.
func Lower(name string) string {
	if !utf8.ValidString(name) {
		b := []byte(name)
		for i, c := range b {
			if 'A' <= c && c <= 'Z' {
				b[i] = c + 'a' - 'A'
			}
		}
		return string(b)
	}
	return strings.Map(func(r rune) rune {
		l := unicode.ToLower(r)
		if r >= utf8.RuneSelf && l < utf8.RuneSelf {
			return r
		}
		return l
	}, name)
}
