package doctor

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/oauthlogin"
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
		"wrong password": {"IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED", func(context.Context, *login.Attempt) (*login.Attempt, login.Verdict) {
			wrong := login.DeniedWith("")
			wrong.Err = fmt.Errorf("%w: invalid_grant, AADSTS50126", oauthlogin.ErrWrong)
			return nil, wrong
		}, []Fault{Denied}, []string{"AADSTS50126", "each try counts at the directory"}, 0},
		"no token": {"IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED", func(context.Context, *login.Attempt) (*login.Attempt, login.Verdict) {
			return nil, login.UnavailableFor(fmt.Errorf("%w: status 503", oauthlogin.ErrNoToken))
		}, []Fault{Unavailable}, []string{"no token could be got: status 503", "token_url and tenant"}, 0},
		"wrong secret": {"IMAP4rev1 AUTH=XOAUTH2 LOGINDISABLED", func(context.Context, *login.Attempt) (*login.Attempt, login.Verdict) {
			return nil, login.UnavailableFor(fmt.Errorf("%w: %w: invalid_client", oauthlogin.ErrNoToken, oauthlogin.ErrSettings))
		}, []Fault{Unavailable}, []string{"invalid_client", "client_secret"}, 0},
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

// TestRelayed pins what is told of a backend at which clients log in themselves. One that
// takes no passwords is well, and is sent none.
func TestRelayed(t *testing.T) {
	ca := imaptest.NewCA(t)
	for name, tc := range map[string]struct {
		inside string
		token  string
		faults []Fault
		texts  []string
		logins int
	}{
		"passwords, too": {"IMAP4rev1 AUTH=PLAIN AUTH=SCRAM-SHA-256 AUTH=XOAUTH2", "", nil,
			[]string{"passwords can be sent with AUTHENTICATE PLAIN, LOGIN; clients can log in themselves with SCRAM-SHA-256, XOAUTH2", "is let in"}, 1},
		"one missing": {"IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2", "", []Fault{NotOffered},
			[]string{"! mechanisms clients are not offered SCRAM-SHA-256, which", "take it away"}, 1},
		"no passwords": {"IMAP4rev1 LOGINDISABLED AUTH=SCRAM-SHA-256 AUTH=XOAUTH2", "", nil,
			[]string{"✓ mechanisms clients can log in themselves with", "- login this server takes no passwords"}, 0},
		"no tokens of ours": {"IMAP4rev1 AUTH=PLAIN AUTH=SCRAM-SHA-256 AUTH=XOAUTH2", login.OAuthBearer, []Fault{LoginDisabled},
			[]string{"set the mechanism of oauth2", "✓ mechanisms clients can log in themselves with", "- login this server takes no passwords"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.NewFake(t, imaptest.Profile{TLS: ca.ServerTLS(), Inside: tc.inside})
			cfg := at(srv.Addr(), ca, imapauth.StartTLS)
			cfg.Relayed, cfg.Token = []string{"SCRAM-SHA-256", "XOAUTH2"}, tc.token
			examine(t, alice(), func(ctx context.Context, d *Doctor) { d.Backend(ctx, Backend{Config: cfg}) }).want(tc.faults, tc.texts...)
			if n := len(srv.Logins()); n != tc.logins {
				t.Errorf("%d logins, want %d", n, tc.logins)
			}
		})
	}
}
