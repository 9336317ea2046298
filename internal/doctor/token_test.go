package doctor

import (
	"context"
	"errors"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestToken pins that a backend that is shown tokens is looked at with one, and never
// gets the password.
func TestToken(t *testing.T) {
	ca := imaptest.NewCA(t)
	got := func(_ context.Context, a *login.Attempt) (*login.Attempt, login.Verdict) {
		with, err := a.WithToken(login.XOAuth2, "a-token")
		if err != nil {
			t.Error(err)
		}
		return with, login.Verdict{Result: login.Granted}
	}
	expired := login.DeniedWith(imap.ResponseCodeExpired)
	expired.Err = errors.New("the password has expired")
	for name, tc := range map[string]struct {
		inside string
		token  func(context.Context, *login.Attempt) (*login.Attempt, login.Verdict)
		faults []Fault
		texts  []string
		logins int
	}{
		"all well": {"IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED SASL-IR", got, nil,
			[]string{"tokens can be shown with AUTHENTICATE XOAUTH2", "AUTHENTICATE XOAUTH2 as alice@example.org is let in"}, 1},
		"another mechanism": {"IMAP4rev1 AUTH=PLAIN AUTH=OAUTHBEARER", got, []Fault{LoginDisabled}, []string{"set the mechanism of oauth2"}, 0},
		"refused": {"IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED", func(context.Context, *login.Attempt) (*login.Attempt, login.Verdict) {
			return nil, expired
		}, []Fault{Denied}, []string{"the password has expired"}, 0},
		"no token": {"IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED", func(context.Context, *login.Attempt) (*login.Attempt, login.Verdict) {
			return nil, login.UnavailableFor(errors.New("no token could be got"))
		}, []Fault{Unavailable}, []string{"no token could be got"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.NewFake(t, imaptest.Profile{TLS: ca.ServerTLS(), Inside: tc.inside})
			cfg := at(srv.Addr(), ca, imapauth.StartTLS)
			cfg.Token = login.XOAuth2
			c := examine(t, alice(), func(ctx context.Context, d *Doctor) { d.Backend(ctx, Backend{Config: cfg, Token: tc.token}) })
			c.want(tc.faults, tc.texts...)
			logins := srv.Logins()
			if len(logins) != tc.logins {
				t.Errorf("%d logins, want %d", len(logins), tc.logins)
			}
			for _, l := range logins {
				if l.Secret != "a-token" {
					t.Errorf("the backend saw %+v", l)
				}
			}
		})
	}
}
