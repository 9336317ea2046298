package caddysasl

import (
	"context"
	"fmt"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/caddy-imap/caddy-imap/internal/dovecotauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

func counted(t *testing.T, service, result string) float64 {
	t.Helper()
	var m dto.Metric
	if err := requests.WithLabelValues(service, result).Write(&m); err != nil {
		t.Fatal(err)
	}
	return m.GetCounter().GetValue()
}

// TestRequestMetrics pins that each password counts once, also one that nobody is
// asked about, and that a mail server cannot make up as many services as it likes.
func TestRequestMetrics(t *testing.T) {
	var asked, refused int
	result := login.Granted
	s := &dovecotauth.Server{
		Check: func(context.Context, *login.Attempt) login.Verdict {
			asked++
			return login.Verdict{Result: result}
		},
		Refused: func(context.Context, *login.Attempt, login.Verdict) { refused++ },
	}
	measure(s)
	for _, tc := range []struct {
		service, label string
	}{
		{"smtp", "smtp"}, {"SMTP", "smtp"}, {"submission", "submission"}, {"sieve", "sieve"}, {"", "other"}, {"?", "other"}, {"made-up", "other"},
	} {
		for _, result = range []login.Result{login.Unavailable, login.Throttled, login.Denied, login.Granted} {
			a := &login.Attempt{Service: tc.service}
			before := counted(t, tc.label, result.String())
			if v := s.Check(t.Context(), a); v.Result != result {
				t.Errorf("%s became %s", result, v.Result)
			}
			s.Refused(t.Context(), a, login.Verdict{Result: result})
			if n := counted(t, tc.label, result.String()) - before; n != 2 {
				t.Errorf("%q, %s: counted %v, want 2", tc.service, result, n)
			}
		}
	}
	if asked != 28 || refused != 28 {
		t.Errorf("%d were asked about and %d refused, want 28 each", asked, refused)
	}
}

// TestBrokenOffMetrics pins that an exchange without an end counts as no password, and a
// refused name once.
func TestBrokenOffMetrics(t *testing.T) {
	var err error
	s := &dovecotauth.Server{
		Check:   func(context.Context, *login.Attempt) login.Verdict { return login.UnavailableFor(err) },
		Refused: func(context.Context, *login.Attempt, login.Verdict) {},
	}
	measure(s)
	a := &login.Attempt{Service: "smtp"}
	for _, err = range []error{fmt.Errorf("waiting: %w", login.ErrCancelled), fmt.Errorf("reading: %w", login.ErrMessage)} {
		before := counted(t, "smtp", "unavailable")
		s.Check(t.Context(), a)
		if n := counted(t, "smtp", "unavailable") - before; n != 0 {
			t.Errorf("%v: counted %v", err, n)
		}
	}
	err = context.Canceled
	before := counted(t, "smtp", "unavailable")
	s.Check(t.Context(), a)
	if n := counted(t, "smtp", "unavailable") - before; n != 1 {
		t.Errorf("counted %v, want 1", n)
	}
}
