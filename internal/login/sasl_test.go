package login

import (
	"errors"
	"slices"
	"testing"
)

var errStranger = errors.New("stranger")

func TestSASLServer(t *testing.T) {
	type step struct {
		response  []byte
		challenge string
		done      bool
		fails     bool
	}
	for _, tc := range []struct {
		name, mechanism string
		named           func() error
		steps           []step
		want            Attempt
	}{
		{
			"PLAIN in one step", "PLAIN", nil,
			[]step{{response: []byte("\x00alice\x00pw"), done: true}},
			Attempt{User: "alice", Secret: "pw"},
		},
		{
			"PLAIN after a challenge", "PLAIN", nil,
			[]step{{}, {response: []byte("\x00alice\x00pw"), done: true}},
			Attempt{User: "alice", Secret: "pw"},
		},
		{
			"PLAIN for somebody else", "PLAIN", nil,
			[]step{{response: []byte("shared\x00alice\x00pw"), done: true}},
			Attempt{User: "alice", AuthzID: "shared", Secret: "pw"},
		},
		{
			"PLAIN for oneself", "PLAIN", nil,
			[]step{{response: []byte("alice\x00alice\x00pw"), done: true}},
			Attempt{User: "alice", Secret: "pw"},
		},
		{
			"PLAIN with an empty initial response", "PLAIN", nil,
			[]step{{response: []byte{}, fails: true}},
			Attempt{},
		},
		{
			"PLAIN with a NUL too many", "PLAIN", nil,
			[]step{{response: []byte("\x00alice\x00p\x00w"), fails: true}, {response: []byte("\x00alice\x00pw"), fails: true}},
			Attempt{},
		},
		{
			"PLAIN of a stranger", "PLAIN", func() error { return errStranger },
			[]step{{response: []byte("\x00alice\x00pw"), fails: true}},
			Attempt{User: "alice"},
		},
		{
			"LOGIN", "LOGIN", nil,
			[]step{
				{challenge: "Username:"},
				{response: []byte("alice"), challenge: "Password:"},
				{response: []byte("pw"), done: true},
				{response: []byte("other"), fails: true},
			},
			Attempt{User: "alice", Secret: "pw"},
		},
		{
			"LOGIN with an initial response", "LOGIN", nil,
			[]step{{response: []byte("alice"), challenge: "Password:"}, {response: []byte("pw"), done: true}},
			Attempt{User: "alice", Secret: "pw"},
		},
		{
			"LOGIN with an empty initial response", "LOGIN", nil,
			[]step{{response: []byte{}, challenge: "Password:"}, {response: []byte("pw"), done: true}},
			Attempt{Secret: "pw"},
		},
		{
			"LOGIN of a stranger", "LOGIN", func() error { return errStranger },
			[]step{{challenge: "Username:"}, {response: []byte("alice"), fails: true}, {response: []byte("pw"), fails: true}},
			Attempt{User: "alice"},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var got Attempt
			server, err := NewSASLServer(tc.mechanism, &got, tc.named)
			if err != nil {
				t.Fatal(err)
			}
			for i, s := range tc.steps {
				challenge, done, err := server.Next(s.response)
				if s.fails {
					if err == nil {
						t.Errorf("step %d: no error", i)
					}
					continue
				}
				if err != nil || done != s.done || string(challenge) != s.challenge {
					t.Errorf("step %d: challenge %q, done %v, error %v", i, challenge, done, err)
				}
			}
			tc.want.Form, tc.want.Mechanism = FormAuthenticate, tc.mechanism
			if got != tc.want {
				t.Errorf("attempt of %q for %q by %s, password right: %v",
					got.User, got.AuthzID, got.Mechanism, got.Secret == tc.want.Secret)
			}
		})
	}
}

// TestSASLNamed pins that who gets in is asked about before a password is known.
func TestSASLNamed(t *testing.T) {
	for mechanism, responses := range map[string][]string{
		"PLAIN": {"shared\x00alice\x00pw"},
		"LOGIN": {"alice", "pw"},
	} {
		var a Attempt
		var seen []Attempt
		server, err := NewSASLServer(mechanism, &a, func() error { seen = append(seen, a); return nil })
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range responses {
			if _, _, err := server.Next([]byte(r)); err != nil {
				t.Fatal(err)
			}
		}
		want := a
		want.Secret = ""
		if a.Secret != "pw" || !slices.Equal(seen, []Attempt{want}) {
			t.Errorf("%s: named called %d times", mechanism, len(seen))
		}
	}
}

func TestSASLUnknown(t *testing.T) {
	for _, mechanism := range []string{"", "plain", "CRAM-MD5", "XOAUTH2"} {
		if _, err := NewSASLServer(mechanism, new(Attempt), nil); !errors.Is(err, ErrMechanism) {
			t.Errorf("%q: %v", mechanism, err)
		}
	}
}
