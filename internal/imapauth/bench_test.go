package imapauth

import (
	"bytes"
	"context"
	"crypto/tls"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// BenchmarkConversation is what a login costs without network and TLS: greeting,
// capabilities, LOGIN, capabilities and the probe.
func BenchmarkConversation(b *testing.B) {
	says := []byte("* OK The Microsoft Exchange IMAP4 service is ready.\r\n" +
		"* CAPABILITY " + exchange2013 + "\r\nT1 OK CAPABILITY completed.\r\n" +
		"T2 OK LOGIN completed.\r\n" +
		"* CAPABILITY " + exchange2013 + "\r\nT3 OK CAPABILITY completed.\r\n" +
		"* NAMESPACE ((\"\" \"/\")) NIL NIL\r\nT4 OK NAMESPACE completed.\r\n")
	cfg := &Config{Address: "bench", Mode: NoTLS}
	a := attempt(login.FormLogin)
	ctx := context.Background()
	b.ReportAllocs()
	for b.Loop() {
		conn := &recorded{in: bytes.NewReader(says)}
		c := newClient(conn, cfg, fuzzPrefix)
		if err := c.within(ctx, c.prepare); err != nil {
			b.Fatal(err)
		}
		if _, v := c.Open(ctx, a, Keep); v.Result != login.Granted {
			b.Fatalf("verdict %s (%v)", summary(v), v.Err)
		}
	}
}

// BenchmarkLogin is a whole login over loopback, the scripted backend's share
// included.
func BenchmarkLogin(b *testing.B) {
	server, client := testTLS(b)
	resuming := client.Clone()
	resuming.ClientSessionCache = tls.NewLRUClientSessionCache(4)
	for _, bb := range []struct {
		name string
		tls  *tls.Config
		mode TLSMode
	}{
		{"off", nil, NoTLS},
		{"starttls", client, StartTLS},
		{"starttls-resumed", resuming, StartTLS},
	} {
		b.Run(bb.name, func(b *testing.B) {
			p := imaptest.Exchange(server)
			if bb.mode == NoTLS {
				p.Clear = true
				p.Before = strings.ReplaceAll(p.Before, "LOGINDISABLED", "AUTH=PLAIN")
			}
			srv := imaptest.NewFake(b, p)
			cfg := &Config{Address: srv.Addr(), Mode: bb.mode, TLS: bb.tls}
			a := attempt(login.FormLogin)
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				c, err := Dial(ctx, cfg, login.Ends{})
				if err != nil {
					b.Fatal(err)
				}
				s, v := c.Open(ctx, a, Keep)
				if s == nil {
					b.Fatalf("verdict %s (%v)", summary(v), v.Err)
				}
				_ = s.Conn.Close()
			}
		})
	}
}
