package imapauth

import (
	"crypto/tls"
	"slices"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestTrace pins that each step is told of when it is over, with what was found.
func TestTrace(t *testing.T) {
	server, _ := testTLS(t)
	srv := imaptest.NewFake(t, imaptest.Exchange(server))
	cfg := starttls(t, srv.Addr())
	var steps []Step
	var caps []bool
	cfg.Trace = func(e Event) {
		steps = append(steps, e.Step)
		if e.Err != nil || e.Took < 0 {
			t.Errorf("%s took %s: %v", e.Step, e.Took, e.Err)
		}
		switch e.Step {
		case StepGreeting:
			if !LooksLikeExchange(e.Greeting, nil) {
				t.Errorf("greeting %q", e.Greeting)
			}
		case StepCapability:
			caps = append(caps, e.Inside)
		case StepHandshake:
			if e.TLS == nil || e.TLS.Version != tls.VersionTLS13 || len(e.TLS.PeerCertificates) == 0 {
				t.Errorf("TLS %+v", e.TLS)
			}
		case StepLogin:
			if e.Method != "AUTHENTICATE PLAIN" || e.Verdict.Result != login.Granted {
				t.Errorf("login with %s: %s", e.Method, e.Verdict.Result)
			}
		}
	}
	if v := checkAt(t, cfg, attempt(login.FormAuthenticate), Plain); v.Result != login.Granted {
		t.Fatalf("verdict %s", summary(v))
	}
	want := []Step{StepGreeting, StepCapability, StepStartTLS, StepHandshake, StepCapability, StepLogin, StepProbe}
	if !slices.Equal(steps, want) || !slices.Equal(caps, []bool{false, true}) {
		t.Errorf("steps %q with capabilities %v, want %q", steps, caps, want)
	}
}

// TestTraceFails pins that the step that fails is told with its error, and none after it.
func TestTraceFails(t *testing.T) {
	server, _ := testTLS(t)
	for name, tc := range map[string]struct {
		profile imaptest.Profile
		want    []Step
	}{
		"greeting":  {imaptest.Profile{Greeting: "* BYE"}, []Step{StepGreeting}},
		"starttls":  {imaptest.Profile{Before: "IMAP4rev1"}, []Step{StepGreeting, StepCapability, StepStartTLS}},
		"handshake": {imaptest.Profile{TLS: new(tls.Config)}, []Step{StepGreeting, StepCapability, StepStartTLS, StepHandshake}},
		"login":     {imaptest.Profile{TLS: server, Login: func(imaptest.Login) string { return "" }}, []Step{StepGreeting, StepCapability, StepStartTLS, StepHandshake, StepCapability, StepLogin}},
		"probe": {func() imaptest.Profile {
			p := imaptest.Exchange(server)
			p.Namespace = imaptest.ExchangeNotConnected
			return p
		}(), []Step{StepGreeting, StepCapability, StepStartTLS, StepHandshake, StepCapability, StepLogin, StepProbe}},
	} {
		t.Run(name, func(t *testing.T) {
			srv := imaptest.NewFake(t, tc.profile)
			cfg := starttls(t, srv.Addr())
			var steps []Step
			var last error
			cfg.Trace = func(e Event) { steps, last = append(steps, e.Step), e.Err }
			if v := checkAt(t, cfg, attempt(login.FormAuthenticate), Plain); v.Result == login.Granted {
				t.Error("let in")
			}
			if !slices.Equal(steps, tc.want) || last == nil {
				t.Errorf("steps %q, the last with %v, want %q", steps, last, tc.want)
			}
		})
	}
}
