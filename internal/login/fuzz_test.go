package login

import (
	"bytes"
	"errors"
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

// FuzzRelay pins that what a client says in a relayed exchange never reveals more than
// it has: with a proof there are names and a secret that a backend may be told, out of
// that client's own bytes. After the proof, and after a message that is none, nothing is
// taken any more.
func FuzzRelay(f *testing.F) {
	for i, messages := range [][2]string{
		{google, ""}, {bearer, "\x01"}, {sha256First, sha256Proof}, {sha1First, sha1Proof}, {cramProof, ""},
		{ntlm1(1), ntlmv2(f)}, {"\x60ticket", wrapped(1, "alice", 12)},
		{"n,a=x,n=a=2Cb,r=x", "c=biws,r=x,p=AAAA"}, {"user=a\x01user=b\x01auth=Bearer t\x01\x01", ""}, {ntlm1(2), ntlm3(2, "CORP", "alice")},
	} {
		for mechanism := range RelayedForIMAP {
			if i == mechanism || i >= len(RelayedForIMAP) {
				f.Add(byte(mechanism), []byte(messages[0]), []byte(messages[1]))
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind byte, first, second []byte) {
		mechanism := RelayedForIMAP[int(kind)%len(RelayedForIMAP)]
		a := relayOf(t, mechanism)
		proven, failed := false, false
		for _, message := range [][]byte{first, second, first, second} {
			user, secret := a.User, a.Secret
			proof, err := a.Relay.Watch.Next(message)
			if err != nil && !errors.Is(err, ErrMessage) || err != nil && proof {
				t.Fatalf("error %v, proof %v", err, proof)
			}
			if (proven || failed) && (err == nil || a.User != user || a.Secret != secret) {
				t.Fatalf("%s goes on after its end, for %q", mechanism, a.User)
			}
			// A name goes to the backend as soon as it is there.
			if strings.ContainsAny(a.User+a.AuthzID, "\x00\r\n") || len(a.User) > maxUser || len(a.AuthzID) > maxUser {
				t.Fatalf("%q for %q", a.User, a.AuthzID)
			}
			proven, failed = proven || proof, failed || err != nil
			if proof {
				checkProof(t, a, first, second)
			}
		}
	})
}

func checkProof(t *testing.T, a *Attempt, first, second []byte) {
	t.Helper()
	if err := a.Check(); err != nil || a.AuthzID == a.User {
		t.Fatalf("%q for %q: %v", a.User, a.AuthzID, err)
	}
	sent := string(first) + "\x01" + string(second)
	switch a.Mechanism {
	case XOAuth2:
		if !strings.HasPrefix(sent, "user="+a.User+"\x01auth=") && !strings.Contains(sent, "\x01user="+a.User+"\x01auth=") ||
			!strings.Contains(sent, " "+string(a.Secret)+"\x01\x01") {
			t.Errorf("%q of %q", a.User, sent)
		}
	case OAuthBearer, ScramSHA1, ScramSHA256:
		escaped := strings.NewReplacer("=", "=3D", ",", "=2C").Replace(a.User)
		if !strings.Contains(sent, "="+escaped+",") {
			t.Errorf("%q of %q", a.User, sent)
		}
	case CramMD5:
		if !strings.Contains(sent, a.User+" ") {
			t.Errorf("%q of %q", a.User, sent)
		}
	}
	if hasToken(a.Mechanism) == a.OneTime || !a.OneTime && !strings.Contains(sent, string(a.Secret)) {
		t.Errorf("once: %v", a.OneTime)
	}
}
