package imaptest

import (
	"reflect"
	"strings"
	"testing"
)

func TestFakeLogins(t *testing.T) {
	plain := "AUTHENTICATE"
	tests := []struct {
		name, dialogue string
		want           Login
	}{
		{"atoms", "C: a LOGIN alice secret\nS: a OK LOGIN completed.", Login{Command: "LOGIN", User: "alice", Secret: "secret"}},
		{
			"quoted", `C: a LOGIN "CORP\\al\"ice" ""` + "\nS: a OK LOGIN completed.",
			Login{Command: "LOGIN", User: `CORP\al"ice`},
		},
		{
			"literals", "C: a login {5}\nS: + go on\nC: alice {6+}\nC: sec\xffet\nS: a OK LOGIN completed.",
			Login{Command: "LOGIN", User: "alice", Secret: "sec\xffet", Literals: true},
		},
		{
			"PLAIN", "C: a AUTHENTICATE PLAIN\nS: +\nC: YgBhAHM=\nS: a OK AUTHENTICATE completed.",
			Login{Command: plain, Mechanism: "PLAIN", AuthzID: "b", User: "a", Secret: "s"},
		},
		{
			"PLAIN at once", "C: a AUTHENTICATE plain AGEAcw==\nS: a OK AUTHENTICATE completed.",
			Login{Command: plain, Mechanism: "PLAIN", User: "a", Secret: "s", Initial: true},
		},
		{
			"LOGIN", "C: a AUTHENTICATE LOGIN\nS: + VXNlcm5hbWU6\nC: YQ==\nS: + UGFzc3dvcmQ6\nC: cw==\nS: a OK AUTHENTICATE completed.",
			Login{Command: plain, Mechanism: "LOGIN", User: "a", Secret: "s"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := NewFake(t, Profile{Clear: true})
			cl := dial(t, f.Addr())
			cl.talk("S: * OK ready.")
			cl.talk(tt.dialogue)
			cl.talk("C: b NAMESPACE\nS: * NAMESPACE ((\"\" \"/\")) NIL NIL\nS: b OK NAMESPACE completed.")
			if got := f.Logins(); !reflect.DeepEqual(got, []Login{tt.want}) {
				t.Errorf("got %+v\nwant %+v", got, tt.want)
			}
		})
	}
}

func TestFakeExchange(t *testing.T) {
	ca := NewCA(t)
	profile := Exchange(ca.ServerTLS())
	profile.Namespace = ExchangeNotConnected
	profile.Login = func(l Login) string {
		if l.Secret != "right" {
			return "NO " + l.Command + " failed."
		}
		return "OK " + l.Command + " completed."
	}
	f := NewFake(t, profile)
	cl := dial(t, f.Addr())
	cl.talk(`
		S: * OK The Microsoft Exchange IMAP4 service is ready.
		C: 1 LOGIN alice right
		S: 1 BAD Command received in Invalid state.
		C: 2 STARTTLS
		S: 2 OK Begin TLS negotiation now.`)
	if err := cl.startTLS(ca.ClientTLS("localhost")); err != nil {
		t.Fatal(err)
	}
	cl.talk(`
		C: 3 LOGIN alice wrong
		S: 3 NO LOGIN failed.
		C: 4 LOGIN alice right
		S: 4 OK LOGIN completed.
		C: 5 NAMESPACE
		S: 5 BAD User is authenticated but not connected.
		C: 6 LOGOUT
		S: * BYE signing off.
		S: 6 OK LOGOUT completed.`)
	f.WaitIdle()
	if got := f.Logins(); len(got) != 3 || got[0].TLS || !got[2].TLS {
		t.Errorf("logins %+v", got)
	}
	if got := string(f.Clear()); !strings.HasSuffix(got, "2 STARTTLS\r\n") {
		t.Errorf("in clear: %q", got)
	}
}
