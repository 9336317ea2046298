package login

import (
	"errors"
	"testing"
)

// What is written is what is read of a client.
func TestWithToken(t *testing.T) {
	const token = "abc.DEF-1_2~3+/=="
	for _, mechanism := range TokenMechanisms {
		for _, user := range []string{"alice@example.org", "a=b,c@example.org", "a=2Cb", "jürgen", `CORP\alice`} {
			for _, authzID := range []string{"", "info@example.org"} {
				a := &Attempt{User: user, AuthzID: authzID, Secret: "password", Mechanism: "LOGIN", Form: FormLogin}
				with, err := a.WithToken(mechanism, token)
				if err != nil {
					t.Fatal(err)
				}
				want := user
				if authzID != "" {
					want = authzID
				}
				read := new(Attempt)
				if proof, err := watcher(mechanism, read).Next(with.Relay.Proof); !proof || err != nil {
					t.Fatalf("%s as %q: proof %v, %v", mechanism, user, proof, err)
				}
				if read.User != want || read.Secret != "Bearer "+token && read.Secret != token {
					t.Errorf("%s as %q for %q: user %q, token %q", mechanism, user, authzID, read.User, string(read.Secret))
				}
				if err := with.Check(); err != nil || with.Mechanism != mechanism || a.Relay != nil || a.Secret != "password" {
					t.Errorf("%s: %+v, %v", mechanism, with, err)
				}
			}
		}
		for _, user := range []string{"bob\x01auth=Bearer x\x01\x01", "a\x7f", "a\tb"} {
			if _, err := (&Attempt{User: user}).WithToken(mechanism, token); !errors.Is(err, ErrUnsafe) {
				t.Errorf("%s as %q: error %v", mechanism, user, err)
			}
			if _, err := (&Attempt{User: "a", AuthzID: user}).WithToken(mechanism, token); !errors.Is(err, ErrUnsafe) {
				t.Errorf("%s for %q: error %v", mechanism, user, err)
			}
		}
	}
	if _, err := new(Attempt).WithToken(ScramSHA1, token); !errors.Is(err, ErrMechanism) {
		t.Errorf("SCRAM: error %v", err)
	}
}
