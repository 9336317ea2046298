package imapfront

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

const externalGreeting = "* OK [CAPABILITY " + secureCaps + " AUTH=EXTERNAL] mail.example.org ready."

// vouched is TLS of a client with a certificate.
func vouched() *tls.ConnectionState {
	state := standing()
	cert := new(x509.Certificate)
	state.PeerCertificates, state.VerifiedChains = []*x509.Certificate{cert}, [][]*x509.Certificate{{cert, new(x509.Certificate)}}
	return state
}

func withExternal(c *Config) { c.External = true }

// named has certificates stand for testUser.
func (b *backend) named(c *Config) {
	c.External = true
	c.Open = func(ctx context.Context, a *login.Attempt) (*login.Session, login.Verdict) {
		if a.Certificate != nil {
			a.User = testUser
		}
		return b.open(ctx, a)
	}
}

// TestExternal pins what of EXTERNAL gets to who knows whom a certificate is for.
func TestExternal(t *testing.T) {
	for _, tc := range []struct {
		name string
		// send is the lines; before each but the first we wait for an invitation.
		send []string
		// authzID is whom the client wants to be. bad is what is answered
		// instead, if it says nothing sound.
		authzID, bad string
	}{
		{"an empty initial response", []string{"a1 AUTHENTICATE EXTERNAL ="}, "", ""},
		{"a name", []string{"a1 authenticate External " + b64(testUser)}, testUser, ""},
		{"no initial response", []string{"a1 AUTHENTICATE EXTERNAL", ""}, "", ""},
		{"a space, and no initial response", []string{"a1 AUTHENTICATE EXTERNAL ", ""}, "", ""},
		{"a name when asked", []string{"a1 AUTHENTICATE EXTERNAL", b64("bob")}, "bob", ""},
		{"a cancellation", []string{"a1 AUTHENTICATE EXTERNAL", "*"}, "", "a1 BAD Authentication cancelled."},
		{"no base64", []string{"a1 AUTHENTICATE EXTERNAL alice"}, "", invalid},
		{"no base64 when asked", []string{"a1 AUTHENTICATE EXTERNAL", "="}, "", invalid},
		{"a NUL", []string{"a1 AUTHENTICATE EXTERNAL " + b64("a\x00b")}, "", invalid},
		{"two arguments", []string{"a1 AUTHENTICATE EXTERNAL = ="}, "", invalid},
	} {
		t.Run(tc.name, func(t *testing.T) {
			state := vouched()
			b := new(backend)
			b.verdict = func(a *login.Attempt) login.Verdict { return login.Verdict{Result: login.Granted} }
			p := setup{backend: b, tls: state, amend: b.named}.dial(t)
			p.expect(externalGreeting)
			p.send(tc.send[0] + "\r\n")
			for _, line := range tc.send[1:] {
				p.expect("+ ")
				p.send(line + "\r\n")
			}
			if tc.bad != "" {
				p.expect(tc.bad)
				b.untouched()
				p.logIn() // with a password, as anybody may
				if a := b.attempts()[0]; a.Certificate != nil {
					t.Error("a certificate vouches for a password")
				}
				return
			}
			p.expect(backendCaps, "a1 OK Logged in")
			s, err := p.result()
			if err != nil || s.User != testUser {
				t.Fatalf("session of %q, %v", s.User, err)
			}
			a := b.attempts()[0]
			if a.Certificate != state.PeerCertificates[0] || a.AuthzID != tc.authzID || a.Secret != "" ||
				a.Mechanism != "EXTERNAL" || a.Form != login.FormAuthenticate || !a.Secured {
				t.Errorf("%+v", a)
			}
		})
	}
}

// TestExternalNotOffered pins to whom EXTERNAL is not there.
func TestExternalNotOffered(t *testing.T) {
	const refused = "a1 NO [CANNOT] Unsupported authentication mechanism."
	unverified := vouched()
	unverified.VerifiedChains = nil
	for name, s := range map[string]setup{
		"not configured":             {tls: vouched()},
		"no certificate":             {tls: standing(), amend: withExternal},
		"a certificate of anybody's": {tls: unverified, amend: withExternal},
	} {
		t.Run(name, func(t *testing.T) {
			p := s.greeted(t)
			p.ask("a1 AUTHENTICATE EXTERNAL =", refused)
			p.ask("a1 AUTHENTICATE EXTERNAL", refused)
			p.backend.untouched()
			p.logIn()
		})
	}
	t.Run("no TLS", func(t *testing.T) {
		p := setup{amend: withExternal}.greeted(t)
		p.ask("a1 AUTHENTICATE EXTERNAL =", "a1"+privacy)
		p.startTLS()
		p.ask("a1 AUTHENTICATE EXTERNAL =", refused)
		p.backend.untouched()
	})
	t.Run("no TLS where none is needed", func(t *testing.T) {
		p := setup{amend: func(c *Config) { c.External, c.InsecureAuth = true, true }}.dial(t)
		p.expect("* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID STARTTLS AUTH=PLAIN AUTH=LOGIN] mail.example.org ready.")
		p.ask("a1 AUTHENTICATE EXTERNAL =", refused)
		p.backend.untouched()
	})
}

// TestExternalRefused pins that refusals count, whoever vouches.
func TestExternalRefused(t *testing.T) {
	b := &backend{verdict: func(a *login.Attempt) login.Verdict {
		return login.DeniedWith(imap.ResponseCodeAuthorizationFailed)
	}}
	p := setup{backend: b, tls: vouched(), amend: b.named}.dial(t)
	p.expect(externalGreeting)
	for range 2 {
		p.ask("a1 AUTHENTICATE EXTERNAL =", "a1 NO [AUTHORIZATIONFAILED] Authorization failed")
	}
	p.send("a1 AUTHENTICATE EXTERNAL =\r\n")
	p.closedFor(ErrTooManyFailures, "a1 NO [AUTHORIZATIONFAILED] Authorization failed", "* BYE Too many failed logins.")
}
