package imaptest

import (
	"reflect"
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
			f := NewFake(t, Profile{Clear: true, Before: "IMAP4rev1 SASL-IR AUTH=PLAIN"})
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
