//go:build integration

package integration

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/oauthlogin"
)

// oauthServer is an OAuth 2.0 server that knows users, and tells Dovecot whether a token
// is good.
type oauthServer struct {
	t           *testing.T
	dir         string
	p           *process
	ca          *imaptest.CA
	plain, addr string
}

// The secrets of the two clients that it knows.
const (
	oauthProxySecret   = "Proxy-Secret-61"
	oauthDovecotSecret = "Dovecot-Secret-62"
)

func startOAuthServer(t *testing.T) *oauthServer {
	t.Helper()
	bin, err := acmeTools()
	if err != nil {
		t.Fatal(err)
	}
	secret(oauthProxySecret)
	s := &oauthServer{t: t, dir: shortDir(t), ca: imaptest.NewCA(t), plain: freeAddr(t), addr: freeAddr(t)}
	out, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cert := s.ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.1"}})
	cmd := exec.Command(filepath.Join(bin, "oauthserver"), "-listen", s.plain, "-listen-tls", s.addr, "-cert", cert.CertFile, "-key", cert.KeyFile,
		"-client", "proxy:"+oauthProxySecret, "-client", "dovecot:"+oauthDovecotSecret)
	cmd.Stdout, cmd.Stderr = out, out
	s.p = startProcess(t, "oauthserver", cmd)
	t.Cleanup(func() {
		_ = s.p.stop(t)
		if t.Failed() {
			t.Logf("log of the OAuth server:\n%s", s.Log())
		}
	})
	for _, addr := range []string{s.plain, s.addr} {
		eventually(t, "the OAuth server at "+addr, func() error { return accepts("tcp", addr) })
	}
	return s
}

func (s *oauthServer) Log() string {
	b, err := os.ReadFile(filepath.Join(s.dir, "log"))
	if err != nil {
		s.t.Errorf("reading the log of the OAuth server: %v", err)
	}
	return string(b)
}

// Put gives a user a password; Delete revokes the user with all tokens.
func (s *oauthServer) Put(user, password string) { s.change(http.MethodPut, user, password) }
func (s *oauthServer) Delete(user string)        { s.change(http.MethodDelete, user, "") }

func (s *oauthServer) change(method, user, body string) {
	s.t.Helper()
	req, err := http.NewRequest(method, "http://"+s.plain+"/users/"+user, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		s.t.Fatalf("%s %s: status %s", method, user, resp.Status)
	}
}

// Asked counts what has become of its questions about users: "granted" or "refused".
func (s *oauthServer) Asked(result, user string) int {
	return len(regexp.MustCompile(`(?m)^`+result+` \[?password\]? `+regexp.QuoteMeta(user)+`\b`).FindAllString(s.Log(), -1))
}

var oauthToken = regexp.MustCompile(`(?m)^token (\S+)$`)

// Tokens are all that it has given.
func (s *oauthServer) Tokens() (tokens []string) {
	for _, m := range oauthToken.FindAllStringSubmatch(s.Log(), -1) {
		tokens = append(tokens, m[1])
	}
	return tokens
}

// startTokenDovecot starts a Dovecot that takes only tokens, which it asks the server
// about.
func startTokenDovecot(t *testing.T, s *oauthServer, cert *imaptest.Certificate) *dovecot {
	t.Helper()
	dir := shortDir(t)
	args := writeFile(t, filepath.Join(dir, "oauth2.conf"), fmt.Sprintf(`introspection_mode = post
introspection_url = http://dovecot:%s@%s/introspect
username_attribute = username
active_attribute = active
active_value = true
`, oauthDovecotSecret, s.plain))
	return startDovecot(t, dovecotSettings{Cert: cert, Extra: fmt.Sprintf(`
auth_mechanisms = xoauth2 oauthbearer
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = %s
}
`, args)}, nil)
}

// startByToken starts such a Dovecot, a Caddy that logs in there with tokens of the server,
// and a Postfix that asks this Caddy. It returns where Caddy takes mail programs.
func startByToken(t *testing.T, s *oauthServer, guard, option string) (*caddyServer, string, *postfix) {
	t.Helper()
	ca := imaptest.NewCA(t)
	d := startTokenDovecot(t, s, ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}}))
	addr, auth := freeAddr(t), freeAddr(t)
	c := startCaddy(t, site{
		Guard: guard,
		Backend: upstream(d.IMAP(), ca) + fmt.Sprintf(`
			oauth2 {
				token_url https://%s/token
				tls_trust_pool file %s
				client_id proxy
				client_secret %s
				client_auth basic
				scope imap
				%s
			}`, s.addr, s.ca.File(), oauthProxySecret, option),
		IMAP: addr, Auth: auth,
	}.String())
	awaitCertificate(t, addr)
	return c, addr, startPostfix(t, "inet:"+auth)
}

// The whole chain is real: a client with a password, an OAuth 2.0 server that checks it,
// and a Dovecot that asks that server about the token.
func TestOAuth2(t *testing.T) {
	t.Parallel()
	const user = "alice@example.test"
	for _, mechanism := range []string{"XOAUTH2", "OAUTHBEARER"} {
		t.Run(mechanism, func(t *testing.T) {
			good, bad, next := secret("Token-Good-51"), secret("Token-Bad-52"), secret("Token-Next-53")
			s := startOAuthServer(t)
			s.Put(user, good)
			c, addr, p := startByToken(t, s, "failure_delay 1ms\naccount_failures 100\nsource_failures 1000", "mechanism "+mechanism)

			// With a cold cache.
			dialSecure(t, addr).Want("NO [AUTHENTICATIONFAILED]", "LOGIN %s %s", quote(user), quote(bad))
			if n := len(s.Tokens()); n != 0 {
				t.Errorf("%d tokens for a wrong password", n)
			}
			// With all that clients with a password have.
			box := openMailbox(t, addr, user, good, nil)
			if _, err := box.Select("INBOX", nil).Wait(); err != nil {
				t.Errorf("opening the inbox: %v", err)
			}
			_ = box.Close()
			dialSecure(t, addr).Want("OK", "LOGIN %s %s", quote(user), quote(good))
			dialSecure(t, addr).Want("OK", "AUTHENTICATE PLAIN %s", plain("", user, good))
			client := dialSecure(t, addr)
			client.Want("+", "AUTHENTICATE LOGIN %s", b64(user))
			client.Send(b64(good) + "\r\n")
			if got, _ := client.Answer(); !strings.HasPrefix(got, "OK") {
				t.Errorf("AUTHENTICATE LOGIN: %s", got)
			}
			for _, how := range []string{"PLAIN", "LOGIN"} {
				p.WantAuth(235, how, user, good)
			}
			if n := s.Asked("granted", user); n != 1 {
				t.Errorf("the password was asked about %d times, want once for all", n)
			}
			// With a warm cache.
			dialSecure(t, addr).Want("NO [AUTHENTICATIONFAILED]", "LOGIN %s %s", quote(user), quote(nextGuess()))
			p.WantAuth(535, "PLAIN", user, nextGuess())
			if n := s.Asked("refused", user); n != 3 {
				t.Errorf("the server was asked about %d wrong passwords, want 3", n)
			}

			// A changed password is right at once.
			s.Put(user, next)
			dialSecure(t, addr).Want("OK", "LOGIN %s %s", quote(user), quote(next))
			dialSecure(t, addr).Want("NO [AUTHENTICATIONFAILED]", "LOGIN %s %s", quote(user), quote(good))

			// Dovecot knows that the token is revoked, and the password is asked about.
			s.Delete(user)
			dialSecure(t, addr).Want("NO [AUTHENTICATIONFAILED]", "LOGIN %s %s", quote(user), quote(next))
			p.WantAuth(535, "PLAIN", user, next)

			// A server that is away is nobody's fault.
			_ = s.p.stop(t)
			dialSecure(t, addr).Want("NO [UNAVAILABLE]", "LOGIN %s %s", quote(user), quote(secret("Token-Other-54")))
			p.WantAuth(454, "PLAIN", user, secret("Token-Other-55"))

			tokens := s.Tokens()
			if len(tokens) != 2 {
				t.Errorf("%d tokens, want 2", len(tokens))
			}
			for _, token := range tokens {
				secret(token)
			}
			c.Stop() // which searches the log
		})
	}
}

// A user whose password is not right any more is out after 5 minutes, although the token
// that it was good for is still one to Dovecot, and however often he has come meanwhile.
func TestOAuth2Ends(t *testing.T) {
	t.Parallel()
	const user, at = "alice@example.test", "AUTHENTICATE PLAIN %s"
	good := secret("Token-Ends-56")
	s := startOAuthServer(t)
	s.Put(user, good)
	c, addr, p := startByToken(t, s, "failure_delay 1ms", "")
	start := time.Now()
	dialSecure(t, addr).Want("OK", at, plain("", user, good))
	s.Put(user, secret("Token-Changed-57"))
	dialSecure(t, addr).Want("OK", at, plain("", user, good))
	p.WantAuth(235, "PLAIN", user, good)

	const margin = 10 * time.Second
	every := time.NewTicker(margin / 2)
	defer every.Stop()
	for range every.C {
		answer, _ := dialSecure(t, addr).Cmd(at, plain("", user, good))
		took := time.Since(start)
		if !strings.HasPrefix(answer, "OK") {
			if took < oauthlogin.MaxAge-margin || !strings.HasPrefix(answer, "NO [AUTHENTICATIONFAILED]") {
				t.Errorf("after %s: %s", took, answer)
			}
			break
		}
		if took > oauthlogin.MaxAge+margin {
			t.Fatalf("after %s: %s", took, answer)
		}
	}
	p.WantAuth(535, "PLAIN", user, good)
	if n := s.Asked("granted", user); n != 1 {
		t.Errorf("the password was right %d times, want once", n)
	}
	for _, token := range s.Tokens() {
		secret(token)
	}
	c.Stop() // which searches the log
}
