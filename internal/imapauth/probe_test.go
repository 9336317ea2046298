package imapauth

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Exchange as it was seen: greetings, and capabilities inside TLS and after
// login.
const (
	exchange2010   = "IMAP4 IMAP4rev1 AUTH=NTLM AUTH=GSSAPI AUTH=PLAIN  UIDPLUS CHILDREN IDLE NAMESPACE LITERAL+"
	exchange2013   = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI UIDPLUS MOVE ID CHILDREN IDLE NAMESPACE LITERAL+"
	exchange2019   = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+"
	exchangeNoNTLM = "IMAP4 IMAP4rev1 AUTH=PLAIN SASL-IR UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+"
	exchangeOnline = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+"
)

// Others. The last ones have little to offer.
const (
	dovecotCaps = "IMAP4rev1 SASL-IR LOGIN-REFERRALS ID ENABLE IDLE LITERAL+ AUTH=PLAIN AUTH=LOGIN"
	cyrusCaps   = "IMAP4rev1 LITERAL+ ID ENABLE AUTH=PLAIN SASL-IR ACL QUOTA NAMESPACE UIDPLUS SORT CONDSTORE"
	hmailCaps   = "IMAP4 IMAP4rev1 CHILDREN IDLE QUOTA SORT ACL NAMESPACE RIGHTS=texk"
	minimalCaps = "IMAP4rev1"
	courierCaps = "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=REFERENCES SORT QUOTA IDLE"
)

func TestLooksLikeExchange(t *testing.T) {
	for _, tc := range []struct {
		caps string
		want bool
	}{
		{exchange2010, true},
		{exchange2013, true},
		{exchange2019, true},
		{exchangeNoNTLM, true},
		{exchangeOnline, true},
		{strings.ToLower(exchange2019), true},
		{"IMAP4rev1 XPROXY3", true},
		{"IMAP4rev1 CLIENTACCESSRULES", true},
		{"IMAP4rev1 CLIENTNETWORKPRESENCELOCATION", true},
		{"IMAP4rev1 BACKENDAUTHENTICATE", true},
		{dovecotCaps, false},
		{cyrusCaps, false},
		{hmailCaps, false},
		{minimalCaps, false},
		{courierCaps, false},
		{"IMAP4rev1 IMAP4rev2 AUTH=PLAIN", false},
		{"", false},
	} {
		if got := parseCaps([]byte(tc.caps)).lookLikeExchange(); got != tc.want {
			t.Errorf("%q: %v", tc.caps, got)
		}
	}
	for _, tc := range []struct {
		greeting string
		want     bool
	}{
		{"The Microsoft Exchange IMAP4 service is ready.", true},
		{"The Microsoft Exchange IMAP4 service is ready. EX1", true},
		{"The Microsoft Exchange IMAP4 service is ready. [RQBYADEA]", true},
		{"E16DN25B-S1E7 IMAP4 service is ready.", true},
		{"Microsoft Exchange Server 2007 IMAP4 service is ready", true},
		{"Microsoft Exchange Server 2003 IMAP4rev1 server version (6.5.7638.1) ready", true},
		{"Dovecot (Debian) ready.", false},
		{"mail.example.org Cyrus IMAP 3.6 server ready", false},
		{"", false},
	} {
		if got := exchangeGreeting([]byte(tc.greeting)); got != tc.want {
			t.Errorf("%q: %v", tc.greeting, got)
		}
	}
}

// Who is probed, with what, and what comes of it.
func TestProbe(t *testing.T) {
	const no = "" // not probed
	exchange := imaptest.Profile{Greeting: "* OK x", Inside: exchange2019}
	minimal := imaptest.Profile{Inside: minimalCaps}
	for _, tc := range []struct {
		name    string
		profile imaptest.Profile
		mode    ProbeMode
		command string // what was asked
		answer  string // tagged
		want    string
	}{
		{"Exchange", exchange, "", "NAMESPACE", "", "granted"},
		{"Exchange, not connected", exchange, ProbeAuto, "NAMESPACE", imaptest.ExchangeNotConnected, throttling},
		{"Exchange, NO", exchange, ProbeAuto, "NAMESPACE", "NO NAMESPACE failed.", throttling},
		{"Exchange, throttled", exchange, ProbeAuto, "NAMESPACE", imaptest.ExchangeThrottled, throttling + " for 1m30s"},
		{"Exchange, BAD", exchange, ProbeAuto, "NAMESPACE", "BAD Command Error. 10", unavailable},
		{"Exchange, off", exchange, ProbeOff, no, imaptest.ExchangeNotConnected, "granted"},
		{"seen only after login", imaptest.Profile{Inside: minimalCaps, After: minimalCaps + " NAMESPACE CLIENTACCESSRULES"}, ProbeAuto, "NAMESPACE", imaptest.ExchangeNotConnected, throttling},
		{"seen only before login", imaptest.Profile{Inside: exchange2013, After: minimalCaps}, ProbeAuto, "STATUS", imaptest.ExchangeNotConnected, throttling},
		// A greeting before TLS can be anybody's.
		{"greeting outside of TLS", imaptest.Profile{Greeting: "* OK The Microsoft Exchange IMAP4 service is ready.", Inside: minimalCaps}, ProbeAuto, no, "", "granted"},
		{"greeting inside TLS", imaptest.Profile{Greeting: "* OK The Microsoft Exchange IMAP4 service is ready.", Implicit: true, Inside: minimalCaps}, ProbeAuto, "STATUS", "", "granted"},

		{"Dovecot", imaptest.Profile{Inside: dovecotCaps}, ProbeAuto, no, "", "granted"},
		{"anybody, on", minimal, ProbeOn, "STATUS", "", "granted"},
		{"anybody, on, not connected", minimal, ProbeOn, "STATUS", imaptest.ExchangeNotConnected, throttling},
		{"IMAP4rev2 has NAMESPACE", imaptest.Profile{Inside: "IMAP4rev2"}, ProbeOn, "NAMESPACE", "", "granted"},
		{"anybody, auto", minimal, ProbeAuto, no, "", "granted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			server, client := testTLS(t)
			asked := make(chan string, 8)
			p := tc.profile
			p.TLS = server
			if p.After == "" {
				p.After = p.Inside
			}
			p.Session = func(c *imaptest.Conn, _ imaptest.Login) {
				for {
					line, ok := c.ReadLine()
					if !ok {
						return
					}
					tag, name, _ := imaptest.SplitCommand(line)
					switch {
					case name == "CAPABILITY":
						c.Sendf("* CAPABILITY %s\r\n%s OK CAPABILITY completed.", p.After, tag)
					case name == "LOGOUT":
						return
					default:
						asked <- name
						answer := tc.answer
						if answer == "" {
							c.Send("* NAMESPACE ((\"\" {1}\r\n/)) NIL NIL\r\n")
							answer = "OK completed."
						}
						c.Sendf("%s %s", tag, answer)
					}
				}
			}
			srv := imaptest.NewFake(t, p)
			cfg := &Config{Address: srv.Addr(), Mode: StartTLS, TLS: client, Probe: tc.mode}
			if p.Implicit {
				cfg.Mode = ImplicitTLS
			}
			s, v := openAt(t, cfg, attempt(login.FormAuthenticate), Keep)
			if got := summary(v); got != tc.want {
				t.Errorf("verdict %s (%v), want %s", got, v.Err, tc.want)
			}
			if s != nil {
				if len(s.Buffered) > 0 {
					t.Errorf("the client would see %q", s.Buffered)
				}
				_ = s.Conn.Close()
			}
			srv.WaitIdle()
			close(asked)
			var got []string
			for name := range asked {
				got = append(got, name)
			}
			var want []string
			if tc.command != no {
				want = []string{tc.command}
			}
			if !slices.Equal(got, want) {
				t.Errorf("asked %q, want %q", got, want)
			}
		})
	}
}

// A check probes as well: that is what keeps somebody without a mailbox from
// sending.
func TestProbeInCheck(t *testing.T) {
	server, _ := testTLS(t)
	p := imaptest.Exchange(server)
	p.Namespace = imaptest.ExchangeNotConnected
	srv := imaptest.NewFake(t, p)
	v := checkAt(t, starttls(t, srv.Addr()), attempt(login.FormAuthenticate), Plain)
	if summary(v) != throttling || !errors.Is(v.Err, ErrNotConnected) {
		t.Errorf("verdict %s (%v)", summary(v), v.Err)
	}
	srv.WaitIdle()
}

// A backend that goes away instead of answering the probe has granted nothing.
func TestProbeUnanswered(t *testing.T) {
	server, _ := testTLS(t)
	for _, answer := range []string{"", "* BYE Connection closed. 14\r\n", "A9 OK x\r\n", "+ \r\n"} {
		p := imaptest.Exchange(server)
		p.Session = func(c *imaptest.Conn, _ imaptest.Login) {
			tag, _ := c.Command("CAPABILITY")
			c.Sendf("* CAPABILITY %s\r\n%s OK CAPABILITY completed.", p.After, tag)
			c.Command("NAMESPACE")
			c.Send(answer)
		}
		srv := imaptest.NewFake(t, p)
		if _, v := openAt(t, starttls(t, srv.Addr()), attempt(login.FormLogin), Keep); summary(v) != unavailable {
			t.Errorf("%q: verdict %s (%v)", answer, summary(v), v.Err)
		}
	}
}
