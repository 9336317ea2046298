package imapauth

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// hostile is a backend that was taken over by somebody on the way, up to TLS,
// and what becomes of a login there. In its answers, TAG is the tag of the
// command. The zero value is a backend that means well.
type hostile struct {
	name string
	// greeting, caps and starttls are all that is sent as greeting and in answer
	// to the commands.
	greeting, caps, starttls string
	// early is sent where the handshake should begin; then the connection ends.
	early string
	// inside is sent as soon as TLS stands.
	inside string

	want string
	err  error
}

const (
	plainGreeting = "* OK ready\r\n"
	plainCaps     = "* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\nTAG OK done\r\n"
	plainStart    = "TAG OK begin\r\n"
)

// run fills in what is not said and runs the cases.
func run(t *testing.T, cases []hostile) {
	for _, h := range cases {
		if h.greeting == "" {
			h.greeting = plainGreeting
		}
		if h.caps == "" {
			h.caps = plainCaps
		}
		if h.starttls == "" {
			h.starttls = plainStart
		}
		t.Run(h.name, h.test)
	}
}

func (h hostile) test(t *testing.T) {
	srv := imaptest.NewScript(t, h.play(t))
	start := time.Now()
	s, v := openAt(t, starttls(t, srv.Addr()), attempt(login.FormLogin), Keep)
	if d := time.Since(start); d > patience/2 {
		t.Errorf("it took %v", d)
	}
	if got := summary(v); got != h.want || h.err != nil && !errors.Is(v.Err, h.err) {
		t.Errorf("verdict %s (%v), want %s (%v)", got, v.Err, h.want, h.err)
	}
	srv.CheckHidden(testSecret, testUser)
	if n := srv.Conns(); n != 1 {
		t.Errorf("%d connections were made", n)
	}
	if s == nil {
		if n := len(srv.Logins()); n != 0 {
			t.Errorf("credentials were sent %d times", n)
		}
		srv.WaitIdle()
		return
	}
	// Nothing that was said before TLS has reached us.
	if got := strings.Join(s.Caps, " "); got != "IMAP4rev1 AFTER" {
		t.Errorf("capabilities %q", got)
	}
	if len(s.Buffered) > 0 {
		t.Errorf("buffered %q", s.Buffered)
	}
	for _, l := range srv.Logins() {
		if !l.TLS || l.Initial || l.Literals {
			t.Errorf("the backend saw %+v", l)
		}
	}
}

// play is tolerant of a client that leaves.
func (h hostile) play(t *testing.T) func(*imaptest.Conn) {
	server, _ := testTLS(t)
	return func(c *imaptest.Conn) {
		answer := func(text string) bool {
			line, ok := c.ReadLine()
			if ok {
				tag, _, _ := imaptest.SplitCommand(line)
				c.Send(strings.ReplaceAll(text, "TAG", tag))
			}
			return ok
		}
		c.Send(h.greeting)
		if !answer(h.caps) || !answer(h.starttls) {
			return
		}
		if h.early != "" {
			c.Send(h.early)
			return
		}
		if c.StartTLS(server) != nil {
			return
		}
		if h.inside != "" {
			c.Send(h.inside)
		}
		if !answer("* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\nTAG OK done\r\n") {
			return
		}
		line, ok := c.ReadLine()
		if !ok {
			return
		}
		tag, name, args := imaptest.SplitCommand(line)
		if _, ok := c.Credentials(name, args); ok {
			c.Sendf("%s OK [CAPABILITY IMAP4rev1 AFTER] in", tag)
			c.Rest()
		}
	}
}

func TestGoodIsGranted(t *testing.T) { run(t, []hostile{{name: "good", want: "granted"}}) }

func TestStripping(t *testing.T) {
	run(t, []hostile{
		{name: "not offered", caps: "* CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=LOGIN\r\nTAG OK done\r\n", want: unavailable, err: ErrNoStartTLS},
		{name: "IMAP4 only", caps: "* CAPABILITY IMAP4\r\nTAG OK done\r\n", want: unavailable, err: ErrNoStartTLS},
		// What is answered first is STARTTLS then.
		{name: "offered by the greeting and refused", greeting: "* OK [CAPABILITY IMAP4rev1 STARTTLS] ready\r\n",
			caps: "TAG BAD STARTTLS not supported.\r\n", want: unavailable, err: ErrRefused},
		{name: "not offered by the greeting, nor later", greeting: "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready\r\n",
			caps: "* CAPABILITY IMAP4rev1\r\nTAG OK done\r\n", want: unavailable, err: ErrNoStartTLS},
		{name: "a word that looks like it", caps: "* CAPABILITY IMAP4rev1 XSTARTTLS STARTTLSX\r\nTAG OK done\r\n", want: unavailable, err: ErrNoStartTLS},
		{name: "capabilities hidden", caps: "TAG OK done\r\n", want: unavailable, err: ErrProtocol},
		{name: "capabilities empty", caps: "* CAPABILITY\r\nTAG OK done\r\n", want: unavailable, err: ErrNoStartTLS},
		{name: "capabilities unknown", caps: "TAG BAD unknown command\r\n", want: unavailable, err: ErrRefused},
		{name: "capabilities refused", caps: "TAG NO not now\r\n", want: unavailable, err: ErrRefused},
		{name: "capabilities want more", caps: "+ go on\r\n", want: unavailable, err: ErrProtocol},
		{name: "NO", starttls: "TAG NO do not begin TLS now.\r\n", want: unavailable, err: ErrRefused},
		{name: "BAD", starttls: "TAG BAD STARTTLS not supported.\r\n", want: unavailable, err: ErrRefused},
		{name: "+", starttls: "+ continue with something.\r\n", want: unavailable, err: ErrProtocol},
		{name: "bare +", starttls: "+\r\n", want: unavailable, err: ErrProtocol},
		{name: "untagged OK", starttls: "* OK begin\r\n+\r\n", want: unavailable, err: ErrProtocol},
		{name: "throttled", starttls: "TAG BAD Request is throttled. Suggested Backoff Time: 2000 milliseconds\r\n", want: throttling + " for 2s", err: ErrThrottled},
	})
}

func TestPreAuth(t *testing.T) {
	var cases []hostile
	for _, greeting := range []string{
		"* PREAUTH ready\r\n",
		"* PREAUTH\r\n",
		"* preauth ready\r\n",
		"* PREAUTH [CAPABILITY IMAP4rev1] ready\r\n",
		"* PREAUTH [CAPABILITY IMAP4rev1 MAILBOX-REFERRALS] ready\r\n",
		"* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n",
		"* PREAUTH [CAPABILITY IMAP4rev1 AUTH=PLAIN AUTH=LOGIN] ready\r\n",
		"* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS AUTH=PLAIN AUTH=LOGIN] ready\r\n",
	} {
		cases = append(cases, hostile{name: greeting, greeting: greeting, want: unavailable, err: ErrPreAuth})
	}
	run(t, append(cases,
		hostile{name: "second line", greeting: plainGreeting + "* PREAUTH ready\r\n", want: unavailable, err: ErrProtocol},
		hostile{name: "among the capabilities", caps: "* PREAUTH x\r\n" + plainCaps, want: unavailable, err: ErrProtocol},
		hostile{name: "before STARTTLS' OK", starttls: "* PREAUTH x\r\n" + plainStart, want: unavailable, err: ErrProtocol},
		hostile{name: "inside TLS", inside: "* PREAUTH x\r\n", want: unavailable, err: ErrProtocol},
	))
	// It is no better where TLS stands already, or is not wanted.
	server, client := testTLS(t)
	for _, tc := range []struct {
		mode    TLSMode
		profile imaptest.Profile
	}{
		{ImplicitTLS, imaptest.Profile{Implicit: true, TLS: server}},
		{NoTLS, imaptest.Profile{Clear: true, Before: "IMAP4rev1 AUTH=PLAIN"}},
	} {
		tc.profile.Greeting = "* PREAUTH [CAPABILITY IMAP4rev1 AUTH=PLAIN] ready"
		srv := imaptest.NewFake(t, tc.profile)
		_, v := openAt(t, &Config{Address: srv.Addr(), Mode: tc.mode, TLS: client}, attempt(login.FormLogin), Keep)
		if !errors.Is(v.Err, ErrPreAuth) || v.Result != login.Unavailable {
			t.Errorf("%s: verdict %s (%v)", tc.mode, summary(v), v.Err)
		}
		srv.WaitIdle()
		checkLogins(t, srv)
	}
}

// What follows STARTTLS' OK in clear text is never read as anything.
func TestInjection(t *testing.T) {
	var cases []hostile
	for name, bytes := range map[string]string{
		"capabilities":             "* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n",
		"a tagged OK":              "TAG OK in\r\n",
		"tagged OKs":               "A0 OK x\r\nA1 OK x\r\n1 OK x\r\n2 OK x\r\n3 OK x\r\n",
		"an alert":                 "* OK [ALERT] call this number\r\n",
		"a BYE":                    "* BYE\r\n",
		"PREAUTH":                  "* PREAUTH\r\n",
		"half a line":              "* CAPABI",
		"one byte":                 "\x00",
		"an empty line":            "\r\n",
		"the head of a TLS record": "\x16\x03\x03",
	} {
		cases = append(cases,
			hostile{name: name + " in the segment", starttls: plainStart + bytes, want: unavailable, err: ErrInjection},
			// Whether it is seen before or in the handshake is a matter of timing.
			hostile{name: name + " in the next segment", early: bytes, want: unavailable},
		)
	}
	run(t, cases)
}

// Answers that were there before the question are not answers.
func TestAnswersInAdvance(t *testing.T) {
	run(t, []hostile{
		{name: "with the greeting", greeting: plainGreeting + "A1 OK x\r\nA2 OK x\r\n", want: unavailable, err: ErrProtocol},
		{name: "with capabilities", greeting: plainGreeting + "* CAPABILITY IMAP4rev1 STARTTLS\r\n1 OK x\r\n2 OK begin\r\n", want: unavailable, err: ErrProtocol},
		{name: "in another order", caps: "2 OK begin TLS now\r\n" + plainCaps, want: unavailable, err: ErrProtocol},
		{name: "the tag counted on", caps: plainCaps + "TAG1 OK begin\r\n", want: unavailable, err: ErrProtocol},
		{name: "the same tag twice", caps: plainCaps + "TAG OK begin\r\n", want: unavailable, err: ErrProtocol},
		{name: "inside TLS", inside: "A3 OK in\r\n", want: unavailable, err: ErrProtocol},
		{name: "a continuation inside TLS", inside: "+ \r\n", want: unavailable, err: ErrProtocol},
		{name: "BYE inside TLS", inside: "* BYE\r\n", want: unavailable, err: ErrBye},
	})
}

// Data that nobody asked for before TLS does no harm and goes nowhere.
func TestTampering(t *testing.T) {
	var cases []hostile
	for _, line := range []string{
		"* LIST () \"/\" Injected\r\n",
		"* LSUB () \"/\" Injected\r\n",
		"* STATUS INBOX (MESSAGES 718001 UIDNEXT 718003)\r\n",
		"* SEARCH 1 2 3 4 5\r\n",
		"* FLAGS (\\Flagged)\r\n",
		"* 54321 EXISTS\r\n",
		"* 12345 RECENT\r\n",
		"* 1 EXPUNGE\r\n* 2 EXPUNGE\r\n",
		"* 1 FETCH (BODY[] {28}\r\nFrom: Injected\r\n\r\nInjected\r\n)\r\n",
		"* 1 FETCH (BODY[] {12}\r\nA1 OK done\r\n)\r\n",
		"* CAPABILITY IDLE\r\n",
		"* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED SASL-IR LITERAL+ AUTH=XOAUTH2\r\n",
		"* OK [CAPABILITY XPROXY3 AUTH=LOGIN] x\r\n",
		"* OK [ALERT] Injected\r\n",
		"* NO [ALERT] Injected\r\n",
		"* BAD Injected\r\n",
		"* OK [REFERRAL imaps://example.org:993] x\r\n",
		"* ID (\"name\" \"Microsoft.Exchange.Imap4.Imap4Server\")\r\n",
	} {
		cases = append(cases,
			hostile{name: "after the greeting " + line, greeting: plainGreeting + line, want: "granted"},
			hostile{name: "before STARTTLS' OK " + line, starttls: line + plainStart, want: "granted"},
		)
	}
	run(t, cases)
}

func TestSpoofing(t *testing.T) {
	var cases []hostile
	for _, code := range []string{"ALERT", "BADCHARSET (x)", "PARSE", "CAPABILITY IMAP4rev1 AUTH=PLAIN", "REFERRAL imap://u@example.org/", "X"} {
		cases = append(cases,
			hostile{name: "greeting OK " + code, greeting: "* OK [" + code + "] Injected\r\n", want: "granted"},
			hostile{name: "greeting NO " + code, greeting: "* NO [" + code + "] Injected\r\n", want: unavailable, err: ErrRefused},
			hostile{name: "greeting BAD " + code, greeting: "* BAD [" + code + "] Injected\r\n", want: unavailable, err: ErrRefused},
			hostile{name: "greeting BYE " + code, greeting: "* BYE [" + code + "] Injected\r\n", want: unavailable, err: ErrBye},
			hostile{name: "STARTTLS OK " + code, starttls: "TAG OK [" + code + "] Injected\r\n", want: "granted"},
			hostile{name: "STARTTLS untagged " + code, starttls: "* OK [" + code + "] Injected\r\n" + plainStart, want: "granted"},
			hostile{name: "STARTTLS NO " + code, starttls: "TAG NO [" + code + "] Injected\r\n", want: unavailable, err: ErrRefused},
		)
	}
	for _, greeting := range []string{
		"1Gdo00V4 wFaIW2WP\r\n", "nonsense\r\n* OK ready\r\n", "\r\n* OK ready\r\n", "A1 OK ready\r\n", "+ ready\r\n", "+OK POP3 ready\r\n", "* READY\r\n",
		"220 mail.example.org ESMTP\r\n", "HTTP/1.1 400 Bad Request\r\n\r\n", "* CAPABILITY IMAP4rev1 STARTTLS\r\n", "* OK a\x00b\r\n", "* OK a\rb\r\n",
	} {
		cases = append(cases, hostile{name: "greeting " + greeting, greeting: greeting, want: unavailable, err: ErrProtocol})
	}
	cases = append(cases, hostile{name: "greeting BYE crowded", greeting: "* BYE Too many connections\r\n", want: limited, err: ErrThrottled})
	run(t, cases)
}
