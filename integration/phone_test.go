//go:build integration

package integration

import (
	"net/http"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// A telephone goes on with the old password after its owner has changed it. The
// backend hears of that once in a while, and nobody behind the same address notices.
func TestOldPassword(t *testing.T) {
	t.Parallel()
	old, young, other := secret("Alice-Long-Ago-51"), secret("Alice-As-Of-Now-52"), secret("Bob-All-Along-53")
	ca := imaptest.NewCA(t)
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})},
		map[string]string{"alice": old, "bob": other, "carol": other})
	addr, imaps, auth := freeAddr(t), freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{
		Guard:   "failure_delay 1ms\nsource_failures 5",
		Backend: upstream(d.IMAP(), ca), IMAP: addr, IMAPS: imaps, Auth: auth,
	}.String())
	awaitCertificate(t, addr)
	ways := doors(imaps, auth)
	const company, away = "127.0.9.9", "127.0.8.9"

	for _, way := range ways {
		wantIn(t, way, company, "alice", old)
	}
	d.Change("alice", young)
	before, start := d.Denied(), time.Now()
	const tries = 25
	for range tries {
		for _, way := range ways {
			want(t, way, company, "alice", old, "that it is wrong", denied)
		}
	}
	for _, way := range ways {
		wantIn(t, way, company, "bob", other)
		wantIn(t, way, company, "alice", young)
		wantIn(t, way, away, "alice", young)
		want(t, way, company, "alice", old, "that it is wrong", denied)
	}
	asked := d.Denied() - before
	// It is asked about again after a minute, should the test take that long.
	if most := 1 + int(time.Since(start)/time.Minute); asked < 1 || asked > most {
		t.Errorf("Dovecot was asked %d times about the old password, want %d at most", asked, most)
	}
	figure(t, "%d logins with an old password: %d reached Dovecot", 2*tries+2, asked)
	if held := c.Held(); len(held.Accounts) != 0 || len(held.Sources) != 0 {
		t.Errorf("held are %+v", held)
	}

	// An account that was locked, and is no longer.
	wantIn(t, ways[0], company, "carol", other)
	d.Disable("carol")
	before = d.Denied()
	for range tries {
		for _, way := range ways {
			want(t, way, company, "carol", other, "that it is wrong", denied)
		}
	}
	if asked := d.Denied() - before; asked < 1 || asked > 1+int(time.Since(start)/time.Minute) {
		t.Errorf("Dovecot was asked %d times about the locked account, want once", asked)
	}
	d.Enable("carol")
	// Within a minute the guard asks again; who cannot wait says so.
	c.request(http.MethodDelete, "/imap/guard/accounts/CAROL", "application/json", "")
	for _, way := range ways {
		wantIn(t, way, company, "carol", other)
		wantIn(t, way, company, "bob", other)
	}
}
