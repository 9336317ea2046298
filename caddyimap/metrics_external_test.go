package caddyimap

import (
	"encoding/base64"
	"testing"
)

// TestCertificateMetrics pins that logins by a certificate are counted as such, whatever
// becomes of them.
func TestCertificateMetrics(t *testing.T) {
	w := newWorld(t)
	fake := w.mastered(nil)
	c := w.load(w.app(w.withMaster(fake.Addr())))
	before := c.metrics()
	cl := serve(t, c.handler(external(w.ca, Handler{ImplicitTLS: true})))
	if err := cl.handshake(w.shown(w.certificateOf(testUser))); err != nil {
		t.Fatal(err)
	}
	cl.expect(greetingExternal)
	cl.ask("a AUTHENTICATE EXTERNAL "+base64.StdEncoding.EncodeToString([]byte("bob@example.org")), "a NO [AUTHORIZATIONFAILED]")
	cl.ask("b AUTHENTICATE EXTERNAL =", "* CAPABILITY ", "b OK")
	cl.ask("z LOGOUT", "* BYE", "z OK")
	cl.closed()
	cl = serve(t, c.handler(external(w.ca, Handler{ImplicitTLS: true})))
	if err := cl.handshake(w.shown(w.certificateOf("bob@example.org"))); err != nil {
		t.Fatal(err)
	}
	cl.expect(greetingExternal)
	cl.ask("a AUTHENTICATE EXTERNAL =", "a NO [AUTHORIZATIONFAILED]")
	cl.ask("z LOGOUT", "* BYE", "z OK")
	cl.closed()
	wantSeries(t, "logins", c.metrics().since(before).only("caddy_imap_logins_total"), series{
		`{backend="exchange",handler="imap",mechanism="EXTERNAL",result="granted"}`: 1,
		`{backend="exchange",handler="imap",mechanism="EXTERNAL",result="denied"}`:  2,
	})
}
