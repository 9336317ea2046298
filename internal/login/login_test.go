package login

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// TestSecretStaysSecret pins that only a conversion reveals a password, and nothing what a
// client says in an exchange.
func TestSecretStaysSecret(t *testing.T) {
	const secret = "hunter2"
	a := Attempt{User: "alice", Secret: secret, Relay: &Relay{Initial: []byte(secret), Proof: []byte(secret)}}
	asJSON, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	shown := string(asJSON)
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%100s"} {
		shown += fmt.Sprintf(verb, a) + fmt.Sprintf(verb, &a) + fmt.Sprintf(verb, a.Secret) + fmt.Sprintf(verb, a.Relay)
	}
	shown += fmt.Sprint(a.Secret) + fmt.Errorf("wrapping: %v", a.Secret).Error()
	if strings.Contains(shown, secret) || strings.Contains(shown, fmt.Sprintf("%x", secret)) {
		t.Errorf("revealed in %q", shown)
	}
	if string(a.Secret) != secret || !strings.Contains(string(asJSON), redacted) {
		t.Error("the secret is lost")
	}
}

func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name string
		a    Attempt
		safe bool
	}{
		{"sound", Attempt{User: "alice", Secret: "pw"}, true},
		{"sound, for somebody else", Attempt{User: "alice", AuthzID: "bob", Secret: "pw"}, true},
		{"anything printable", Attempt{User: `CORP\a "b" {3}`, Secret: "p w\t\x01\x7f\xff"}, true},
		{"no user", Attempt{Secret: "pw"}, false},
		{"no password", Attempt{User: "alice"}, false},
		{"NUL", Attempt{User: "alice", Secret: "p\x00w"}, false},
		{"CR", Attempt{User: "alice\r", Secret: "pw"}, false},
		{"LF", Attempt{User: "alice", Secret: "\npw"}, false},
		{"a control character", Attempt{User: "alice\x01", Secret: "pw"}, false},
		{"TAB", Attempt{User: "al\tice", Secret: "pw"}, false},
		{"DEL", Attempt{User: "alice\x7f", Secret: "pw"}, false},
		{"a C1 control character", Attempt{User: "\u0085alice", Secret: "pw"}, false},
		{"a control character for somebody else", Attempt{User: "alice", AuthzID: "b\x1bob", Secret: "pw"}, false},
		{"bytes that are no characters", Attempt{User: "gr\xfcn\x85", Secret: "pw"}, true},
		{"LF for somebody else", Attempt{User: "alice", AuthzID: "b\nob", Secret: "pw"}, false},
	} {
		err := tc.a.Check()
		if (err == nil) != tc.safe || err != nil && !errors.Is(err, ErrUnsafe) {
			t.Errorf("%s: %v", tc.name, err)
		}
	}
}

// TestVerdicts pins that a verdict without words lets nobody in and accuses
// nobody, and that a refusal always has a code.
func TestVerdicts(t *testing.T) {
	if (Verdict{}).Result != Unavailable {
		t.Error("the zero verdict decides")
	}
	if v := DeniedWith(""); v.Result != Denied || v.Code != "AUTHENTICATIONFAILED" {
		t.Errorf("%s with %s", v.Result, v.Code)
	}
	if v := DeniedWith("EXPIRED"); v.Result != Denied || v.Code != "EXPIRED" {
		t.Errorf("%s with %s", v.Result, v.Code)
	}
	if v := UnavailableFor(ErrUnsafe); v.Result != Unavailable || v.Code != "UNAVAILABLE" || v.Err != ErrUnsafe {
		t.Errorf("%s with %s", v.Result, v.Code)
	}
	words := fmt.Sprint(Granted, Denied, Throttled, Unavailable, Result(9))
	if words != "granted denied throttled unavailable unavailable" {
		t.Error(words)
	}
}
