package caddyimap

import (
	"errors"
	"fmt"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestOthersMailboxIsNoGuess pins that whoever asks for somebody else's mailbox, where
// nobody has checked whether he may, is refused before anything is counted: with such
// names he could have an account held without a password being looked at.
func TestOthersMailboxIsNoGuess(t *testing.T) {
	w := newWorld(t)
	s := newTokens(t)
	fake, directory := w.online(s), w.fake()
	g := strict()
	g.SourceFailures = 2
	c := w.loaded(t, g, map[string]*Backend{
		"online":    w.byTokens(s, &OAuth2{Grant: "client_credentials", Verify: "directory"}, fake.Addr()),
		"directory": w.backend(directory.Addr()),
	})
	ref := c.ref("online")
	for i := range 5 {
		for _, change := range []func(*login.Attempt){
			func(a *login.Attempt) { a.User = fmt.Sprintf("%s/x%d", testUser, i) },
			func(a *login.Attempt) { a.User = fmt.Sprintf(`example.org\alice\x%d`, i) },
			func(a *login.Attempt) { a.AuthzID = fmt.Sprint("x", i) },
		} {
			a := from("198.51.100.1", testUser, fmt.Sprint("wrong-guess-", i))
			change(a)
			v := check(t, ref, a, login.Denied)
			if v.Code != imap.ResponseCodeAuthorizationFailed || !errors.Is(v.Err, errOwnMailbox) {
				t.Errorf("%s for %s: %+v", a.User, a.AuthzID, v)
			}
		}
	}
	if n, asked := len(directory.Logins()), s.questions(); n != 0 || asked != 0 {
		t.Errorf("%d logins at the directory, and %d questions", n, asked)
	}
	check(t, ref, from("198.51.100.1", testUser, testSecret), login.Granted)
}
