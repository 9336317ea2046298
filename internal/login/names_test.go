package login

import (
	"runtime"
	"strings"
	"testing"

	"github.com/emersion/go-sasl"
)

// TestNamesAlone pins that the names of an attempt, which are kept for as long as a
// session, keep nothing else of what the client has said: not the token, and not the
// message.
func TestNamesAlone(t *testing.T) {
	const unicode = 0x1
	long := strings.Repeat("x", 48<<10)
	relayed := func(mechanism string, messages ...string) func() *Attempt {
		return func() *Attempt {
			a := relayOf(t, mechanism)
			for _, m := range messages {
				if _, err := a.Relay.Watch.Next([]byte(m)); err != nil {
					t.Fatal(err)
				}
			}
			return a
		}
	}
	served := func(mechanism string, messages ...string) func() *Attempt {
		return func() *Attempt {
			a := new(Attempt)
			s, err := NewSASLServer(mechanism, a, nil)
			for _, m := range messages {
				if err == nil {
					_, _, err = s.Next([]byte(m))
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			return a
		}
	}
	for name, attempt := range map[string]func() *Attempt{
		XOAuth2:     relayed(XOAuth2, "user=alice\x01auth=Bearer "+long+"\x01\x01"),
		OAuthBearer: relayed(OAuthBearer, "n,a=alice,\x01auth=Bearer "+long+"\x01\x01"),
		ScramSHA256: relayed(ScramSHA256, "n,a=shared,n=alice,r="+long),
		NTLM:        relayed(NTLM, ntlm1(unicode), ntlm3(unicode, "CORP", "alice")+long),
		GSSAPI:      relayed(GSSAPI, "\x60"+long, wrapped(1, "alice", 0)),
		sasl.Plain:  served(sasl.Plain, "shared\x00alice\x00"+long),
		sasl.Login:  served(sasl.Login, "alice", long),
	} {
		t.Run(name, func(t *testing.T) {
			const n = 100
			names := make([][2]string, n)
			before := heap()
			for i := range names {
				a := attempt()
				names[i] = [2]string{a.User, a.AuthzID}
			}
			if kept := int(heap()-before) / n; kept > 1<<10 {
				t.Errorf("the names keep %d bytes", kept)
			}
			if user := names[n-1][0]; !strings.HasSuffix(user, "alice") {
				t.Errorf("user %q", user)
			}
			runtime.KeepAlive(names)
		})
	}
}

// heap is how much memory is in use, in bytes.
func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// TestNameless pins who has no name of his own, and that a name which looks like that
// is one all the same.
func TestNameless(t *testing.T) {
	for _, tc := range []struct {
		mechanism string
		messages  []string
		user      string
		nameless  bool
	}{
		{GSSAPI, []string{"\x60ticket", wrapped(1, "", 0)}, "GSSAPI:192.0.2.7", true},
		{GSSAPI, []string{"\x60ticket", wrapped(1, "GSSAPI:192.0.2.7", 0)}, "GSSAPI:192.0.2.7", false},
		{GSSAPI, []string{"\x60ticket"}, "GSSAPI:192.0.2.7", true},
		{NTLM, []string{ntlm1(1)}, "NTLM:192.0.2.7", true},
		{ScramSHA1, []string{"n,,n=NTLM:192.0.2.7,r=x"}, "NTLM:192.0.2.7", false},
		{XOAuth2, []string{"user=alice\x01auth=Bearer t\x01\x01"}, "alice", false},
	} {
		a := relayOf(t, tc.mechanism)
		for _, m := range tc.messages {
			if _, err := a.Relay.Watch.Next([]byte(m)); err != nil {
				t.Fatal(err)
			}
		}
		a.Unproven()
		if a.User != tc.user || a.Nameless != tc.nameless || a.Check() != nil {
			t.Errorf("%s: %q, nameless %v", tc.mechanism, a.User, a.Nameless)
		}
	}
}
