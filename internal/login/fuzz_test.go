package login

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzSASL pins that an exchange ends with a user and a secret that the client has
// sent, and that after an error, or its end, nothing more can be got out of it.
func FuzzSASL(f *testing.F) {
	for _, s := range []string{"\x00bob\x00pw", "bob\x00bob\x00pw", "bob", "", "\x00\x00", "\x00bob\x00p\x00w", "Username:"} {
		f.Add([]byte(s), []byte("pw"), true, false)
		f.Add([]byte(s), []byte(nil), false, true)
	}
	f.Fuzz(func(t *testing.T, first, second []byte, plain, initial bool) {
		mechanism := "LOGIN"
		if plain {
			mechanism = "PLAIN"
		}
		a, named := new(Attempt), 0
		s, err := NewSASLServer(mechanism, a, func() error {
			if named++; a.Secret != "" {
				t.Error("the secret is known before the name was looked at")
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		messages := [][]byte{nil, first, second}
		if initial {
			messages = messages[1:]
		}
		for i, message := range messages {
			challenge, done, err := s.Next(message)
			if bytes.Contains(challenge, []byte("\n")) || len(challenge) > len(askPassword) {
				t.Errorf("challenge %q", challenge)
			}
			if err != nil {
				break
			}
			if !done {
				continue
			}
			if named != 1 {
				t.Errorf("the name was looked at %d times", named)
			}
			sent := string(bytes.Join(messages[:i+1], nil))
			if !strings.Contains(sent, a.User) || !strings.Contains(sent, string(a.Secret)) || !strings.Contains(sent, a.AuthzID) {
				t.Errorf("%q, %q of %q", a.User, a.AuthzID, sent)
			}
			if plain && (strings.Count(sent, "\x00") != 2 || strings.ContainsAny(a.User+a.AuthzID+string(a.Secret), "\x00")) {
				t.Errorf("%q, %q of %q", a.User, a.AuthzID, sent)
			}
			user := a.User
			if _, again, err := s.Next([]byte("\x00mallory\x00x")); err == nil && again || a.User != user {
				t.Errorf("it goes on after its end, for %q", a.User)
			}
			return
		}
	})
}

// FuzzTemplate pins that a name goes into a template once, and comes out as it was.
func FuzzTemplate(f *testing.F) {
	f.Add("{imap.user.local}@example.org", "alice")
	f.Add(`{imap.user.domain}\{imap.user.local}`, "{imap.user}@{env.HOME}")
	f.Add("{imap.user}", `CORP\{imap.user.local}`)
	f.Fuzz(func(t *testing.T, text, user string) {
		local, domain := SplitUser(user)
		if len(local)+len(domain) > len(user) || !strings.Contains(user, local) || !strings.Contains(user, domain) {
			t.Errorf("%q is %q and %q", user, local, domain)
		}
		template, err := ParseTemplate(text)
		if err != nil {
			return
		}
		const mark = "\x01"
		want := strings.NewReplacer("{imap.user}", mark+"0", "{imap.user.local}", mark+"1", "{imap.user.domain}", mark+"2").Replace(text)
		if strings.Count(text, mark) > 0 || strings.Count(want, "{") > 0 {
			t.Fatalf("template %q was taken", text)
		}
		var out strings.Builder
		parts := strings.Split(want, mark)
		out.WriteString(parts[0])
		for _, part := range parts[1:] {
			out.WriteString([]string{user, local, domain}[part[0]-'0'] + part[1:])
		}
		if got := template.Expand(user); got != out.String() {
			t.Errorf("%q of %q is %q, want %q", text, user, got, out.String())
		}
	})
}
