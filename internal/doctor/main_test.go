package doctor

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testUser   = "alice@example.org"
	testSecret = "correct horse battery staple"
	// stepTime is the time of a step. Only where a server is silent does it pass.
	stepTime = 3 * time.Second
)

// chart is what a doctor has told.
type chart struct {
	t      *testing.T
	checks []Check
}

// examine has a doctor look at something, with the login given, and makes sure that
// the password is nowhere in what it tells.
func examine(t *testing.T, l *Login, look func(context.Context, *Doctor)) *chart {
	t.Helper()
	c := &chart{t: t}
	d := &Doctor{Tell: func(check Check) { c.checks = append(c.checks, check) }, Timeout: stepTime, Login: l}
	c.with(d, look)
	return c
}

func (c *chart) with(d *Doctor, look func(context.Context, *Doctor)) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	look(ctx, d)
	b, err := json.Marshal(c.checks)
	if err != nil {
		c.t.Fatal(err)
	}
	if found := imaptest.Revealed(append(b, c.text()...), testSecret); len(found) > 0 {
		c.t.Errorf("the password is shown: %s", found)
	}
	for _, check := range c.checks {
		switch {
		case (check.Status == Failed) != (check.Fault != "" && check.Status != Warning):
			c.t.Errorf("status %s with fault %q: %s", check.Status, check.Fault, check.Message)
		case check.Fault != "" && len(check.Advice) == 0 && check.Fault != Denied:
			c.t.Errorf("no advice about %s", check.Fault)
		case check.Message == "":
			c.t.Errorf("%s says nothing", check.Step)
		}
	}
}

// text is how people see it.
func (c *chart) text() string {
	var b strings.Builder
	text := Text{W: &b}
	for _, check := range c.checks {
		text.Tell(check)
	}
	return b.String()
}

// faults are those found.
func (c *chart) faults() (all []Fault) {
	for _, check := range c.checks {
		if check.Fault != "" {
			all = append(all, check.Fault)
		}
	}
	return all
}

// want fails unless these faults were found and no others, and each of the texts
// is in what is told.
func (c *chart) want(faults []Fault, texts ...string) {
	c.t.Helper()
	if got := c.faults(); !slices.Equal(got, faults) {
		c.t.Errorf("faults %q, want %q", got, faults)
	}
	flat := strings.Join(strings.Fields(c.text()), " ")
	for _, text := range texts {
		if !strings.Contains(flat, text) {
			c.t.Errorf("nothing is said of %q", text)
		}
	}
	if c.t.Failed() {
		c.t.Logf("what was told:\n%s", c.text())
	}
}

func alice() *Login { return &Login{User: testUser, Secret: testSecret} }

// at is the configuration for a server of the authority.
func at(addr string, ca *imaptest.CA, mode imapauth.TLSMode) *imapauth.Config {
	return &imapauth.Config{Address: addr, Mode: mode, TLS: ca.ClientTLS("localhost")}
}

// showing is what a server is to be configured with that shows the leaf.
func showing(ca *imaptest.CA, leaf imaptest.Leaf) *tls.Config { return ca.Issue(leaf).ServerConfig() }
