//go:build integration

package integration

import (
	"fmt"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// Moving a backend is one request to the admin API. Who is logged in at the old
// one stays there; who comes later goes to the new one; and Postfix, whose
// connections to us outlive any configuration, notices nothing.
func TestMoveBackend(t *testing.T) {
	t.Parallel()
	need(t, "dovecot", "postfix", "swaks")
	password := secret("Moving-House-44")
	ca := imaptest.NewCA(t)
	users := map[string]string{"alice": password}
	cert := ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})
	backends := []*dovecot{
		startDovecot(t, dovecotSettings{Cert: cert}, users),
		startDovecot(t, dovecotSettings{Cert: cert}, users),
	}
	addr, auth := freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{Backend: upstream(backends[0].IMAP(), ca), IMAP: addr, Auth: auth}.String())
	awaitCertificate(t, addr)
	p := startPostfix(t, "inet:"+auth)
	moveTo := func(i int) { c.Patch("/config/apps/imap/backends/exchange/upstreams/0/dial", backends[i].IMAP()) }
	logins := func() [2]int { return [2]int{backends[0].Logins("alice"), backends[1].Logins("alice")} }

	old := openMailbox(t, addr, "alice", password, nil)
	backends[0].WantLogins("alice", 1)
	moveTo(1)
	newcomer := openMailbox(t, addr, "alice", password, nil)
	backends[0].WantLogins("alice", 1)
	backends[1].WantLogins("alice", 1)
	// The mailboxes are not the same: what the old session puts into its own, a
	// newcomer does not see.
	appendMessage(t, old, []byte("Subject: stays\r\n\r\nhere\r\n"))
	if box, err := old.Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 1 {
		t.Errorf("the old session: %+v, %v", box, err)
	}
	if box, err := newcomer.Select("INBOX", nil).Wait(); err != nil || box.NumMessages != 0 {
		t.Errorf("the new session: %+v, %v", box, err)
	}

	const moves, between = 10, 8
	codes := make(map[int]int)
	for i := range moves {
		before := logins()
		moveTo(i % 2)
		for range between {
			code, err := smtpAuth(p.Addr(), "alice", password)
			if err != nil {
				t.Fatal(err)
			}
			codes[code]++
		}
		eventually(t, "Dovecot to log them all", func() error {
			if got := logins()[i%2] - before[i%2]; got < between {
				return fmt.Errorf("it has logged %d", got)
			}
			return nil
		})
		after := logins()
		if got := after[i%2] - before[i%2]; got != between {
			t.Errorf("after move %d the new backend saw %d logins, want %d", i, got, between)
		}
		if after[1-i%2] != before[1-i%2] {
			t.Errorf("after move %d the old backend saw another login", i)
		}
	}
	if codes[235] != moves*between {
		t.Errorf("codes of %d AUTHs: %v, want nothing but 235", moves*between, codes)
	}
	figure(t, "%d AUTHs through Postfix across %d moves: codes %v", moves*between, moves, codes)
	for name, session := range map[string]interface{ Wait() error }{"old": old.Noop(), "new": newcomer.Noop()} {
		if err := session.Wait(); err != nil {
			t.Errorf("the %s session has not lived through all that: %v", name, err)
		}
	}
}

// AUTHs that are under way while the backend moves end well, too.
func TestMoveBackendUnderLoad(t *testing.T) {
	need(t, "postfix", "swaks")
	password := secret("Moving-Target-45")
	accounts := imaptest.Accounts{Passwords: map[string]string{"alice": password}}
	ca := imaptest.NewCA(t)
	accounts.TLS = ca.ServerTLS("127.0.0.1")
	backends := []*imaptest.Memory{imaptest.NewMemory(t, accounts), imaptest.NewMemory(t, accounts)}
	auth := freeAddr(t)
	c := startCaddy(t, site{Backend: upstream(backends[0].Addr(), ca), Auth: auth}.String())
	p := startPostfix(t, "inet:"+auth)
	if code, err := smtpAuth(p.Addr(), "alice", password); code != 235 {
		t.Fatalf("code %d, %v", code, err)
	}

	const logins = 80 // less than what an smtpd serves before it makes way for another
	type outcome struct {
		code int
		err  error
	}
	outcomes := make(chan outcome)
	go func() {
		defer close(outcomes)
		for range logins {
			code, err := smtpAuth(p.Addr(), "alice", password)
			outcomes <- outcome{code, err}
		}
	}()
	codes, moves := make(map[int]int), 0
	for o := range outcomes {
		if o.err != nil {
			t.Error(o.err)
		}
		codes[o.code]++
		// The next AUTH is on its way already.
		moves++
		c.Patch("/config/apps/imap/backends/exchange/upstreams/0/dial", backends[moves%2].Addr())
	}
	if codes[235] != logins {
		t.Errorf("codes of %d AUTHs: %v, want nothing but 235", logins, codes)
	}
	for i, b := range backends {
		if len(b.Logins()) == 0 {
			t.Errorf("backend %d was never asked", i)
		}
	}
	figure(t, "%d AUTHs through Postfix during %d moves: codes %v, at the backends %d and %d",
		logins, moves, codes, len(backends[0].Logins()), len(backends[1].Logins()))
}
