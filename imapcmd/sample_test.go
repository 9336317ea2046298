package imapcmd

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/doctor"
	"github.com/caddy-imap/caddy-imap/internal/dovecotauth"
	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// authority is that of the certificates of a test.
func authority(t *testing.T, ca *imaptest.CA) []*x509.Certificate {
	t.Helper()
	b, err := os.ReadFile(ca.File())
	if err != nil {
		t.Fatal(err)
	}
	block, _ := pem.Decode(b)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return []*x509.Certificate{cert}
}

// plain replaces what differs from run to run.
var plain = []struct {
	pattern *regexp.Regexp
	with    string
}{
	// What Caddy signs itself, it signs for half a day.
	{regexp.MustCompile(`CN=imaptest authority, \d+ days left \(until [0-9-]+\), renewed by Caddy`),
		"CN=Caddy Local Authority - ECC Intermediate, 11 hours left (until 2026-11-24 03:12 UTC), renewed by Caddy"},
	{regexp.MustCompile(`CN=imaptest authority`), "CN=Example Corp CA"},
	{regexp.MustCompile(`\d+ days left \(until [0-9-]+\)`), "211 days left (until 2027-06-22)"},
}

// times are what steps took in a company's network.
var times = map[doctor.Step]float64{
	doctor.StepName: 0.8, doctor.StepPort: 0.4, doctor.StepGreeting: 1.1, doctor.StepCapabilities: 0.5, doctor.StepStartTLS: 0.4, doctor.StepTLS: 3.2,
	doctor.StepLogin: 41.7, doctor.StepProbe: 2.9, doctor.StepHandshake: 0.3,
}

// TestSamples pins that the samples of docs/check.md are what the program prints, but
// for what differs from run to run.
func TestSamples(t *testing.T) {
	page, err := os.ReadFile("../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.ReplaceAll(string(page), "\r\n", "\n")
	for name, sample := range map[string]string{"a server": sample(t, false), "a configuration": sample(t, true)} {
		if !strings.Contains(text, "```\n"+sample+"```\n") {
			t.Errorf("the sample of %s in docs/check.md is not what is printed:\n%s", name, sample)
		}
	}
}

func sample(t *testing.T, whole bool) string {
	ca := imaptest.NewCA(t)
	backend := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS("ex1.corp.example.org")))
	front := imaptest.NewFake(t, imaptest.Profile{TLS: ca.ServerTLS("mail.internal"), Greeting: "* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] Caddy ready."})
	auth := &dovecotauth.Server{Logger: zap.NewNop(), Check: func(context.Context, *login.Attempt) login.Verdict { return login.Verdict{Result: login.Granted} }}
	postfix := imaptest.NewScript(t, func(c *imaptest.Conn) { _ = auth.NewConn(c).Serve(t.Context()) })
	servers := map[string]string{"192.0.2.10:143": backend.Addr(), "127.0.0.1:143": front.Addr(), "127.0.0.1:12345": postfix.Addr()}

	r := report{Checks: []doctor.Check{}}
	var out bytes.Buffer
	shown := doctor.Text{W: &out}
	d := &doctor.Doctor{
		LookupIP: func(context.Context, string, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("192.0.2.10")}, nil
		},
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, servers[address])
		},
		Tell: func(c doctor.Check) {
			for _, p := range plain {
				c.Message = p.pattern.ReplaceAllString(c.Message, p.with)
			}
			c.Milliseconds = times[c.Step]
			r.Checks = append(r.Checks, c)
			shown.Tell(c)
		},
	}
	cfg := &imapauth.Config{Address: "ex1.corp.example.org:143", Mode: imapauth.StartTLS, TLS: ca.ClientTLS("ex1.corp.example.org")}
	f := &found{file: "/etc/caddy/Caddyfile", backends: map[string][]doctor.Backend{"exchange": {{Name: "exchange", Config: cfg}}}}
	if whole {
		d.Login = &doctor.Login{User: testUser, Secret: testSecret}
		d.Config(f.file, nil)
		f.fronts = []doctor.Front{{Address: "kept/:143", Network: "tcp", Dial: "127.0.0.1:143", Names: []string{"mail.internal"},
			Own: authority(t, ca), OwnFile: "/var/lib/caddy/.local/share/caddy/pki/authorities/local/root.crt"}}
		f.auths = []doctor.Auth{{Address: "kept/127.0.0.1:12345", Network: "tcp", Dial: "127.0.0.1:12345"}}
	} else {
		cfg.TLS = imaptest.NewCA(t).ClientTLS("ex1.corp.example.org")
		f.backends["exchange"][0].Name = ""
	}
	r.MainCF = f.examine(t.Context(), d)
	if err := r.end(&out, false); err != nil {
		t.Fatal(err)
	}
	return out.String()
}
