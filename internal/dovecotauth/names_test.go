package dovecotauth

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestNames pins who is asked about, and as whom the client is told of him. The
// password is right for everybody.
func TestNames(t *testing.T) {
	for _, tc := range []struct {
		authzid, user string
		// plain and delegates are the answers without and with
		// AllowDelegates; the second is left out where it is the same.
		plain, delegates string
	}{
		{"", "alice", "OK alice", ""},
		{"", "Alice@Example.TEST", "OK alice@example.test", ""},
		{"", `CORP\Alice`, `OK corp\alice`, ""},
		{"", `CORP\alice@example.test`, `OK corp\alice@example.test`, ""},
		{"", `o'brien"x`, `OK o'brien"x`, ""},
		{"", "JÖRG", "OK jörg", ""},
		{"", "J\xd6RG", "OK j\xd6rg", ""},
		{"", "{imap.user}", "OK {imap.user}", ""},
		// Lower case of the Kelvin sign is k, of a dotted capital I is i.
		{"", "\u212Aarl", "OK \u212Aarl", ""},
		{"", "\u0130da", "OK \u0130da", ""},

		{"alice", "alice", "OK alice", ""},
		{"bob", "alice", "FAIL alice", "OK alice"},
		{"ALICE", "alice", "FAIL alice", "OK alice"},
		{"", "alice/shared", "FAIL alice/shared", "OK alice/shared"},
		{"", "alice@example.test/bob@example.test", "FAIL alice@example.test/bob@example.test", "OK alice@example.test/bob@example.test"},
		{"", `CORP\alice\shared`, `FAIL corp\alice\shared`, `OK corp\alice\shared`},
		{"", `alice@example.test\shared`, `FAIL alice@example.test\shared`, `OK alice@example.test\shared`},
		{"", `CORP/alice`, `FAIL corp/alice`, `OK corp/alice`},

		{"", "", "FAIL user=", ""},
		{"", "alice smith", "FAIL", ""},
		{"", "alice\u00a0smith", "FAIL", ""},
		{"", "alice\u0085", "FAIL", ""},
		{"", "alice\x7f", "FAIL", ""},
		{"", strings.Repeat("a", 512), "OK " + strings.Repeat("a", 512), ""},
		{"", strings.Repeat("a", 513), "FAIL", ""},
		{"bob\n", "alice", "FAIL alice", ""},
	} {
		t.Run(tc.authzid+" "+tc.user, func(t *testing.T) {
			for _, allow := range []bool{false, true} {
				want := tc.plain
				if allow && tc.delegates != "" {
					want = tc.delegates
				}
				var line string
				switch word, name, found := strings.Cut(want, " "); {
				case name == "user=":
					line = "FAIL\t1\tuser=\toriginal_user=\n"
				case !found:
					line = word + "\t1\n"
				default:
					line = word + "\t1\tuser=" + name + "\n"
				}
				synctest.Test(t, func(t *testing.T) {
					p := start(t, &Server{Check: granted, AllowDelegates: allow})
					p.send("AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain(tc.authzid, tc.user, "x") + "\n")
					p.expect(line)
					_ = p.hangUp()
				})
			}
		})
	}
}

// TestIdentity pins that the caller's identity is used, and checked.
func TestIdentity(t *testing.T) {
	for _, tc := range []struct {
		identity string
		err      error
		want     string
	}{
		{"alice@example.org", nil, "OK\t1\tuser=alice@example.org\n"},
		{"", nil, "FAIL\t1\n"},
		{"a b", nil, "FAIL\t1\n"},
		{"a\tuser=root", nil, "FAIL\t1\n"},
		{"alice", errors.New("no such domain"), "FAIL\t1\n"},
	} {
		synctest.Test(t, func(t *testing.T) {
			p := start(t, &Server{
				Check:    granted,
				Identity: func(*login.Attempt) (string, error) { return tc.identity, tc.err },
			})
			p.send("AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "alice", "x") + "\n")
			p.expect(tc.want)
			_ = p.hangUp()
		})
	}
}
