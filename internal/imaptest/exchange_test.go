package imaptest

import (
	"encoding/base64"
	"strings"
	"testing"
)

func TestExchange(t *testing.T) {
	ca := NewCA(t)
	profile := Exchange(ca.ServerTLS())
	profile.Unconnected = func(l Login) bool { return l.User == "carol" }
	profile.Login = func(l Login) string {
		switch {
		case l.Secret == "throttle":
			return ExchangeThrottled
		case l.Secret == "expire":
			return ExchangeExpired
		case l.Secret != "right":
			return ExchangeFailed(l)
		}
		return "OK " + l.Command + " completed."
	}
	f := NewFake(t, profile)
	secure := func() *client {
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
		return cl
	}
	secure().talk(`
		C: 3 LOGIN alice wrong
		S: 3 NO LOGIN failed.
		C: 4 AUTHENTICATE PLAIN
		S: +
		C: AGFsaWNlAHdyb25n
		S: 4 NO AUTHENTICATE failed.
		C: 5 LOGIN alice throttle
		S: 5 BAD Request is throttled. Suggested Backoff Time: 90000 milliseconds
		C: 6 LOGIN alice right
		S: 6 OK LOGIN completed.
		C: 7 NAMESPACE
		S: * NAMESPACE (("" "/")) NIL NIL
		S: 7 OK NAMESPACE completed.
		C: 8 LOGOUT
		S: * BYE Microsoft Exchange Server 2016 IMAP4 server signing off.
		S: 8 OK LOGOUT completed.`)
	secure().talk(`
		C: 3 LOGIN carol right
		S: 3 OK LOGIN completed.
		C: 4 NAMESPACE
		S: 4 BAD User is authenticated but not connected.
		C: 5 SELECT INBOX
		S: 5 BAD User is authenticated but not connected.
		S: * BYE Connection closed. 14`)
	secure().talk(`
		C: 3 LOGIN alice expire
		S: * BYE Session invalidated - AccessTokenExpired`)
	secure().talk("C: 3 LOGIN alice " + strings.Repeat("x", 10240) + "\nS: 3 BAD Command Argument Error. 12")

	// The seventeenth session fails as if for its password.
	for range 16 {
		secure().talk("C: 3 LOGIN Bob right\nS: 3 OK LOGIN completed.")
	}
	last := secure()
	last.talk("C: 3 LOGIN bob right\nS: 3 NO LOGIN failed.\nC: 4 LOGIN alice right\nS: 4 OK LOGIN completed.")

	for _, l := range f.Logins() {
		if !l.TLS && l.User != "alice" {
			t.Errorf("login %+v", l)
		}
	}
	if got := string(f.Clear()); !strings.HasSuffix(got, "2 STARTTLS\r\n") {
		t.Errorf("in clear: %q", got)
	}
}

func TestExchangeOnline(t *testing.T) {
	ca := NewCA(t)
	f := NewFake(t, ExchangeOnline(ca.ServerTLS()))
	cl := dial(t, f.Addr())
	if err := cl.startTLS(ca.ClientTLS("localhost")); err != nil {
		t.Fatal(err)
	}
	name := base64.StdEncoding.EncodeToString([]byte("A\x00M\x000\x00P\x00R\x000\x005\x00C\x00A\x00"))
	cl.talk("S: * OK The Microsoft Exchange IMAP4 service is ready. [" + name + "MAAwADAAMQAuAGUAdQByAHAAcgBkADAANQAuAHAAcgBvAGQALgBlAHgAYQBtAHAAbABlAC4AdABlAHMAdAA=]")
}

func TestExchange2013(t *testing.T) {
	p := Exchange2013(nil)
	p.Clear, p.Before = true, p.Inside
	f := NewFake(t, p)
	dial(t, f.Addr()).talk(`
		S: * OK The Microsoft Exchange IMAP4 service is ready.
		C: 1 AUTHENTICATE PLAIN AGEAcw==
		S: 1 BAD Command Argument Error. 11
		C: 2 AUTHENTICATE PLAIN
		S: +
		C: AGEAcw==
		S: 2 OK AUTHENTICATE completed.`)
}
