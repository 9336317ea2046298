//go:build integration

package integration

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// outage is a way in which a backend can be away.
type outage struct {
	name, addr string
}

// outages starts a server for each way. The authority is the one that is trusted.
func outages(t *testing.T, ca *imaptest.CA) []outage {
	t.Helper()
	script := func(play func(c *imaptest.Conn)) string { return imaptest.NewScript(t, play).Addr() }
	fake := func(change func(p *imaptest.Profile)) string {
		p := imaptest.Exchange(ca.ServerTLS("127.0.0.1"))
		change(&p)
		return imaptest.NewFake(t, p).Addr()
	}
	answer := func(text string) string {
		return fake(func(p *imaptest.Profile) { p.Login = func(imaptest.Login) string { return text } })
	}
	return []outage{
		{name: "stopped", addr: freeAddr(t)},
		{name: "silent", addr: script(func(c *imaptest.Conn) { c.Rest() })},
		{name: "silent from the login on", addr: fake(func(p *imaptest.Profile) {
			p.Login = func(imaptest.Login) string { return "OK" }
			p.Session = func(c *imaptest.Conn, _ imaptest.Login) { c.Rest() }
		})},
		{name: "closes at once", addr: script(func(*imaptest.Conn) {})},
		{name: "resets", addr: script(func(c *imaptest.Conn) { c.Reset() })},
		{name: "greets with BYE", addr: fake(func(p *imaptest.Profile) { p.Greeting = "* BYE Server shutting down." })},
		{name: "greets with PREAUTH", addr: fake(func(p *imaptest.Profile) { p.Greeting = "* PREAUTH welcome." })},
		{name: "no IMAP", addr: fake(func(p *imaptest.Profile) { p.Greeting = "220 smtp.example.org ESMTP" })},
		{name: "no STARTTLS", addr: fake(func(p *imaptest.Profile) { p.Before = "IMAP4rev1 AUTH=PLAIN" })},
		{name: "STARTTLS refused", addr: fake(func(p *imaptest.Profile) { p.TLS = nil })},
		{name: "certificate of a stranger", addr: fake(func(p *imaptest.Profile) { p.TLS = imaptest.NewCA(t).ServerTLS("127.0.0.1") })},
		{name: "certificate of another name", addr: fake(func(p *imaptest.Profile) { p.TLS = ca.ServerTLS("other.example.org") })},
		{name: "handshake fails", addr: script(func(c *imaptest.Conn) {
			c.Sendf("* OK ready.")
			tag, _ := c.Command("CAPABILITY")
			c.Sendf("* CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED\r\n%s OK", tag)
			tag, _ = c.Command("STARTTLS")
			c.Sendf("%s OK", tag)
			_ = c.StartTLS(&tls.Config{})
		})},
		{name: "no mechanism", addr: fake(func(p *imaptest.Profile) { p.Inside = "IMAP4rev1 LOGINDISABLED AUTH=GSSAPI" })},
		{name: "hangs up at the login", addr: answer("")},
		{name: "BYE at the login", addr: answer(imaptest.ExchangeClosed)},
		{name: "BAD", addr: answer("BAD Command Error. 10")},
		{name: "LOGIN may not be", addr: answer(imaptest.ExchangeInvalidState)},
		{name: "back end away", addr: answer(imaptest.ExchangeUnavailable)},
		{name: "known code", addr: answer("NO [UNAVAILABLE] the directory is away")},
		{name: "unknown code", addr: answer("NO [X-WEATHER] it rains")},
	}
}

// A backend that is away, in whatever way, is nobody's wrong password: clients and
// mail servers are told to come later, and it counts against no account and no
// source.
func TestOutages(t *testing.T) {
	need(t, "dovecot", "postfix")
	const user, from = "alice", "127.0.9.1"
	password := secret("Right-Anyhow-61")
	ca := imaptest.NewCA(t)
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})}, map[string]string{user: password})
	addr, imaps, auth := freeAddr(t), freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{
		// A source that an outage counted against would soon be banned.
		Guard:   "failure_delay 10ms\nsource_failures 8",
		Backend: upstream(d.IMAP(), ca) + "\n\t\t\tdial_timeout 1500ms\n\t\t\tauth_timeout 2s",
		IMAP:    addr, IMAPS: imaps, Auth: auth,
	}.String())
	awaitCertificate(t, addr)
	p := startPostfix(t, "inet:"+auth)
	imap := doors(imaps, auth)[0]

	// Postfix has a connection of its own for each of those at once, and would tell
	// all who share one the same.
	const each = 3
	start := time.Now()
	codes, attempts := make(map[int]int), 0
	for _, o := range outages(t, ca) {
		c.MoveTo(o.addr)
		var mu sync.Mutex
		var all sync.WaitGroup
		for i := range each {
			typed := password
			if i > 0 {
				typed = nextGuess()
			}
			attempts += 2
			all.Go(func() {
				answer, err := imap.login(from, user, typed)
				if err != nil || answer != "NO [UNAVAILABLE] The mail server is not available, try again later." {
					t.Errorf("%s: the client is told %q, %v", o.name, answer, err)
				}
			})
			all.Go(func() {
				code, err := smtpAuth(p.Addr(), user, typed)
				if err != nil || code != 454 {
					t.Errorf("%s: Postfix says %d, %v; want 454", o.name, code, err)
				}
				mu.Lock()
				defer mu.Unlock()
				codes[code]++
			})
		}
		all.Wait()
	}
	figure(t, "%d logins in %v at %d kinds of broken backends; Postfix has answered %v",
		attempts, time.Since(start).Round(100*time.Millisecond), attempts/2/each, codes)

	// Had any of them counted, the budget would be used up, and the source banned.
	c.MoveTo(d.IMAP())
	for _, timeout := range []string{"dial_timeout", "auth_timeout"} {
		c.Patch("/config/apps/imap/backends/exchange/"+timeout, "9s") // a busy machine is no outage
	}
	if held := c.Held(); len(held.Accounts) != 0 || len(held.Sources) != 0 {
		t.Errorf("held are %+v", held)
	}
	for i := range accountFailures - knownReserve {
		want(t, imap, from, user, nextGuess(), fmt.Sprintf("that guess %d is wrong", i+1), denied)
	}
	if got := d.Denied(); got != accountFailures-knownReserve {
		t.Errorf("Dovecot has refused %d guesses, want %d", got, accountFailures-knownReserve)
	}
	c.request("DELETE", "/imap/guard/accounts/"+user, "application/json", "")
	wantIn(t, imap, from, user, password)
	eventually(t, "each smtpd to connect anew", func() error {
		if code, err := smtpAuth(p.Addr(), user, password); err != nil || code != 235 {
			return fmt.Errorf("%d, %w", code, err)
		}
		return nil
	})
	// To the operator each of them is told, and none as a wrong password.
	lines := c.LogLines(`"logger":"imap","msg":"login"`, `"result":"unavailable"`)
	if len(lines) != attempts {
		t.Errorf("%d lines about logins that could not be decided, want %d", len(lines), attempts)
	}
	for _, line := range lines {
		if !strings.Contains(line, `"error":"`) {
			t.Errorf("no reason in %s", line)
		}
	}
}
