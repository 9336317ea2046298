//go:build integration

package integration

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// mechDovecot is a Dovecot with every mechanism that we relay. Each login of a test
// has a user of its own, so that what Dovecot has heard of it can be told apart.
type mechDovecot struct {
	*dovecot
	ca     *imaptest.CA
	tokens *tokenServer

	mu   sync.Mutex
	next int
}

const mechUsers = 300

func mechUser(i int) string { return fmt.Sprintf("user%03d@example.test", i) }

func startMechDovecot(t *testing.T) *mechDovecot {
	t.Helper()
	d := &mechDovecot{ca: imaptest.NewCA(t), tokens: newTokenServer(t)}
	password := secret("Everybody-Has-This-33")
	users := make(map[string]string)
	for i := range mechUsers {
		users[mechUser(i)] = password
	}
	d.dovecot = startDovecot(t, dovecotSettings{
		Cert:       d.ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3", "127.0.0.4", "localhost"}}),
		Mechanisms: "plain login cram-md5 scram-sha-1 scram-sha-256 xoauth2 oauthbearer",
		Passdb:     "mechanisms = plain login cram-md5 scram-sha-1 scram-sha-256",
		Extra: d.tokens.Settings(t) + `
service imap-login {
  service_count = 0
}
# At another address it looks poorer.
listen = 127.0.0.3, 127.0.0.4
local 127.0.0.4 {
  protocol imap {
    imap_capability = IMAP4rev1 ID LITERAL+
  }
}
`,
	}, users)
	return d
}

// Secrets returns a user whom nobody else has, and what he proves by a mechanism that
// he is one: first what is wrong, and then what is right.
func (d *mechDovecot) Secrets(mechanism string) (user, bad, good string) {
	d.mu.Lock()
	i := d.next
	d.next++
	d.mu.Unlock()
	if i >= mechUsers {
		panic("more users are needed")
	}
	user = mechUser(i)
	if mechanism == login.XOAuth2 || mechanism == login.OAuthBearer {
		// As long as those of Microsoft.
		filler := strings.Repeat("abcdefgh", 190)
		return user, d.tokens.Issue("", fmt.Sprintf("Bad-Token-%d-%s", i, filler)), d.tokens.Issue(user, fmt.Sprintf("Good-Token-%d-%s", i, filler))
	}
	return user, secret(fmt.Sprintf("Not-His-Password-%d", i)), d.passwords[user]
}

// dovecotFailed is what Dovecot logs of a connection that ends without a login; it has
// counted the attempts.
var dovecotFailed = regexp.MustCompile(`imap-login: Info: .*\(auth failed, (\d+) attempts in \d+ secs\): user=<([^>]*)>, method=([^,]*),`)

// Failed counts the attempts of a user that Dovecot has refused on connections that are
// over, and names their mechanisms.
func (d *mechDovecot) Failed(user string) (n int, methods []string) {
	for _, m := range dovecotFailed.FindAllStringSubmatch(d.Log(), -1) {
		if m[2] == user {
			more, _ := strconv.Atoi(m[1])
			n += more
			methods = append(methods, m[3])
		}
	}
	return n, methods
}

// WantFailed waits until Dovecot has refused an attempt of a user, and complains about
// any more.
func (d *mechDovecot) WantFailed(t *testing.T, user, mechanism string) {
	t.Helper()
	eventually(t, "Dovecot to have refused "+user, func() error {
		if n, _ := d.Failed(user); n == 0 {
			return errors.New("it has not")
		}
		return nil
	})
	if n, methods := d.Failed(user); n != 1 || !strings.EqualFold(methods[0], mechanism) {
		t.Errorf("%s was refused %d times with %q, want once with %s", user, n, methods, mechanism)
	}
}

// Direct is Dovecot as clients see it without us.
func (d *mechDovecot) Direct() place {
	return place{name: "Dovecot", imap: d.IMAP(), imaps: d.IMAPS(), host: "127.0.0.3", root: d.ca.File()}
}

// mechProxy is us before a mechDovecot.
type mechProxy struct {
	*caddyServer
	d *mechDovecot
	// options are its configuration.
	options string
	// imap and imaps offer everything, and those called tokens XOAUTH2 and no
	// OAUTHBEARER.
	imap, imaps, tokens, tokensTLS string
	// auth is for mail servers, and socket the same as a path. delegates is the same
	// for those that let users ask for the mailboxes of others.
	auth, socket, delegates string
	// plainIMAP and plainAuth are before a Dovecot without SASL-IR.
	plainIMAP, plainAuth string
}

func startMechProxy(t *testing.T, d *mechDovecot, guard string) *mechProxy {
	t.Helper()
	p := &mechProxy{
		d: d, imap: freeAddr(t), imaps: freeAddr(t), tokens: freeAddr(t), tokensTLS: freeAddr(t),
		auth: freeAddr(t), socket: filepath.Join(shortDir(t), "auth"), delegates: freeAddr(t),
		plainIMAP: freeAddr(t), plainAuth: freeAddr(t),
	}
	var routes strings.Builder
	route := func(addr, handler string, options ...string) {
		fmt.Fprintf(&routes, "%s {\nroute {\n%s {\n%s\n}\n}\n}\n", addr, handler, strings.Join(options, "\n"))
	}
	all := "mechanisms PLAIN LOGIN " + strings.Join(append(challenges, tokens...), " ")
	route(p.imap, "imap exchange", all)
	route(p.imaps, "imap exchange", "implicit_tls", all)
	route(p.tokens, "imap exchange", "mechanisms XOAUTH2")
	route(p.tokensTLS, "imap exchange", "implicit_tls", "mechanisms XOAUTH2")
	route(p.auth, "dovecot_auth exchange", all)
	route("unix/"+p.socket+"|0666", "dovecot_auth exchange", all)
	route(p.delegates, "dovecot_auth exchange", "allow_delegates", all)
	route(p.plainIMAP, "imap plain", "implicit_tls", all)
	route(p.plainAuth, "dovecot_auth plain", all)
	p.options = fmt.Sprintf("imap {\nhostname mail.internal localhost\nguard {\n%s\n}\nbackend exchange {\n%s\n}\nbackend plain {\n%s\n}\n}\nlayer4 {\n%s}\n",
		guard, upstream(d.IMAP(), d.ca), upstream("127.0.0.4:"+port(t, d.IMAP()), d.ca), &routes)
	p.caddyServer = startCaddy(t, p.options)
	awaitCertificate(t, p.imap)
	p.Roots()
	return p
}

// awaitMechanism waits until a mechanism of the backend is offered.
func awaitMechanism(t *testing.T, addr, mechanism string) {
	t.Helper()
	eventually(t, "the mechanisms of the backend to be known", func() error {
		_, caps := dialSecure(t, addr).Cmd("CAPABILITY")
		if offered := strings.Join(caps, " ") + " "; !strings.Contains(offered, "AUTH="+mechanism+" ") {
			return errors.New(offered)
		}
		return nil
	})
}

// Place is where IMAP clients log in.
func (p *mechProxy) Place(mechanism string) place {
	at := place{name: "proxy", imap: p.imap, imaps: p.imaps, host: "localhost", root: p.RootFile()}
	if mechanism == login.XOAuth2 {
		at.imap, at.imaps = p.tokens, p.tokensTLS
	}
	return at
}

// WantLogged waits for the line of a login in our log, and complains about any more.
func (p *mechProxy) WantLogged(t *testing.T, result, service, user, mechanism string) {
	t.Helper()
	words := []string{`"msg":"login"`, `"result":"` + result + `"`, `"service":"` + service + `"`, `"user":"` + user + `"`, `"mechanism":"` + mechanism + `"`}
	eventually(t, fmt.Sprintf("a line of the log with %q", words), func() error {
		if len(p.LogLines(words...)) == 0 {
			return errors.New("there is none")
		}
		return nil
	})
	if lines := p.LogLines(words...); len(lines) != 1 {
		t.Errorf("the log has %d lines with %q, want one", len(lines), words)
	}
}

// crew runs subtests side by side: they mostly wait for servers.
type crew struct {
	t     *testing.T
	all   sync.WaitGroup
	slots chan struct{}
}

func newCrew(t *testing.T) *crew { return &crew{t: t, slots: make(chan struct{}, 12)} }

func (c *crew) Run(name string, f func(t *testing.T)) {
	c.slots <- struct{}{}
	c.all.Go(func() {
		defer func() { <-c.slots }()
		c.t.Run(name, f)
	})
}

func (c *crew) Wait() { c.all.Wait() }

// Every client logs in with every mechanism that it has, at Dovecot itself and through
// us, by IMAP and by way of Postfix. A wrong secret is refused, and Dovecot hears of it
// once.
func TestMechanisms(t *testing.T) {
	t.Parallel()
	need(t, "dovecot", "postfix", "swaks", "curl", "gsasl", "mbsync", "python3", "doveadm")
	d := startMechDovecot(t)
	t.Run("Dovecot", func(t *testing.T) {
		crew := newCrew(t)
		runClients(crew, d, func(string) place { return d.Direct() }, nil)
		runMailers(crew, d, startPostfix(t, "inet:"+d.Auth()), nil)
		crew.Wait()
	})
	// The clients come from the first addresses of the loopback, and those who guess
	// from others.
	p := startMechProxy(t, d, "failure_delay 1ms\nsource_failures 12\nexempt 127.0.0.0/24")
	awaitMechanism(t, p.imap, login.ScramSHA256)
	t.Run("proxy", func(t *testing.T) {
		crew := newCrew(t)
		runClients(crew, d, p.Place, p)
		mta := startPostfix(t, "inet:"+p.auth)
		runMailers(crew, d, mta, p)
		crew.Run("Postfix, cancelled", func(t *testing.T) { testMailerCancels(t, d, mta) })
		runGuesses(crew, d, p)
		runOddities(crew, d, p)
		crew.Wait()
		t.Run("life", func(t *testing.T) { testMechLife(t, d, p) })
	})
	p.Stop()
}

// runClients has all IMAP clients log in at a place.
func runClients(crew *crew, d *mechDovecot, at func(mechanism string) place, p *mechProxy) {
	for _, c := range mechClients {
		for _, mechanism := range c.mechanisms {
			if p == nil && c.fault != nil && c.fault(mechanism) != "" {
				continue
			}
			for _, implicit := range []bool{false, true} {
				if implicit && (c.startTLS || p == nil) {
					continue
				}
				crew.Run(fmt.Sprintf("%s %s, implicit %v", c.name, mechanism, implicit), func(t *testing.T) {
					user, bad, good := d.Secrets(mechanism)
					out, err := c.login(t, at(mechanism), implicit, mechanism, user, bad)
					if err == nil {
						t.Errorf("it gets in with a wrong secret:\n%s", out)
					}
					hidden(out)
					d.WantFailed(t, user, mechanism)
					out, err = c.login(t, at(mechanism), implicit, mechanism, user, good)
					if err != nil {
						t.Fatalf("%v\n%s", err, out)
					}
					hidden(out)
					d.WantLogins(user, 1)
					d.WantFailed(t, user, mechanism)
					if p != nil {
						p.WantLogged(t, "denied", "imap", user, mechanism)
						p.WantLogged(t, "granted", "imap", user, mechanism)
					}
				})
			}
		}
	}
}

// payload is what SASL looks like on the wire, where a client shows that.
var payload = regexp.MustCompile(`[A-Za-z0-9+/]{40,}=*`)

// hidden registers what no log may show of an exchange that a client has shown.
func hidden(said string) {
	for _, s := range payload.FindAllString(said, -1) {
		secret(s)
	}
}
