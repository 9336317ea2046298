package imaptest

import (
	"encoding/base64"
	"encoding/hex"
	"strconv"
	"strings"
	"testing"
)

// TestRevealed pins that a password is found in all that is sent in its place.
func TestRevealed(t *testing.T) {
	b64 := base64.StdEncoding.EncodeToString
	for _, password := range []string{"hunter2", "hunter-23", "hunter-234", `h "u" \n t`, "p\u00e4ssw\u00f6rt"} {
		for what, data := range map[string]string{
			"as it is":                password,
			"in a log":                strconv.Quote("LOGIN alice " + password),
			"in hexadecimal":          hex.EncodeToString([]byte("x" + password)),
			"as a response of LOGIN":  b64([]byte(password)),
			"without padding":         base64.RawStdEncoding.EncodeToString([]byte(password)),
			"behind an initial name":  "AUTHENTICATE LOGIN " + b64([]byte("alice")) + " " + b64([]byte(password)),
			"as a name, in PLAIN":     b64([]byte("\x00" + password + "\x00secret")),
			"as a mailbox, in PLAIN":  b64([]byte(password + "\x00alice\x00secret")),
			"in a line of a protocol": "AUTH\t1\tPLAIN\tresp=" + b64([]byte("\x00al\x00"+password)) + "\n",
		} {
			if len(Revealed([]byte("before "+data+" behind"), password)) == 0 {
				t.Errorf("%q is not found %s", password, what)
			}
		}
		// Wherever in PLAIN it stands.
		for n := range 7 {
			name := strings.Repeat("a", n)
			if data := b64([]byte("\x00" + name + "\x00" + password)); len(Revealed([]byte(data), password)) == 0 {
				t.Errorf("%q is not found behind a name of %d bytes", password, n)
			}
		}
		if found := Revealed([]byte("a line of "+b64([]byte("something else"))), password); found != nil {
			t.Errorf("%q is found where it is not: %q", password, found)
		}
	}
}
