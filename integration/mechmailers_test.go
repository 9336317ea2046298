//go:build integration

package integration

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/smtp"
	"net/textproto"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// mailer is a real client of SMTP, and the mechanisms it has that we relay.
type mailer struct {
	name       string
	mechanisms []string
	// sends says that it sends a message when it has been let in.
	sends bool
	// send logs in, and returns all that the client says, and an error if it was not let
	// in.
	send func(t *testing.T, p *postfix, mechanism, user, secret string) (string, error)
}

var mailers = []mailer{
	{"swaks", []string{login.CramMD5}, false, swaksSend},
	{"curl", []string{login.CramMD5, login.OAuthBearer}, true, curlSend},
	{"gsasl", challenges, false, gsaslSend},
	{"smtplib", append([]string{login.CramMD5}, tokens...), true, smtplibSend},
	{"net/smtp", append(challenges, tokens...), true, goSend},
}

const message = "Subject: hello\r\n\r\nread me\r\n"

func swaksSend(t *testing.T, p *postfix, mechanism, user, secret string) (string, error) {
	code, text := p.Auth(mechanism, user, secret, "--tls")
	if code != 235 {
		return text, fmt.Errorf("code %d", code)
	}
	return text, nil
}

func curlSend(t *testing.T, p *postfix, mechanism, user, secret string) (string, error) {
	cmd := exec.Command("curl", append(curlArgs(mechanism, user, secret), "--mail-from", user, "--mail-rcpt", "bob@example.test",
		"--upload-file", "-", "smtp://"+p.Addr())...)
	cmd.Stdin = strings.NewReader(message)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func gsaslSend(t *testing.T, p *postfix, mechanism, user, secret string) (string, error) {
	cmd := exec.Command("gsasl", "--smtp", "--starttls", "--x509-ca-file=", "--no-cb", "--mechanism", mechanism,
		"--authentication-id", user, "--password", secret, "127.0.0.1", strconv.Itoa(p.set.Port))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const smtplibScript = `
import smtplib, ssl, sys
port, mechanism, user, secret = sys.argv[1:]
s = smtplib.SMTP("127.0.0.1", int(port))
s.starttls(context=ssl._create_unverified_context())
s.ehlo()
if mechanism == "CRAM-MD5":
    s.user, s.password = user, secret
    s.auth(mechanism, s.auth_cram_md5, initial_response_ok=False)
else:
    if mechanism == "XOAUTH2":
        message, last = "user=%s\1auth=Bearer %s\1\1" % (user, secret), ""
    else:
        message, last = "n,a=%s,\1auth=Bearer %s\1\1" % (user, secret), "\1"
    said = []
    def answer(challenge=None):
        said.append(challenge)
        return message if len(said) == 1 else last
    s.auth(mechanism, answer, initial_response_ok=len(message) < 500)
s.sendmail(user, "bob@example.test", "Subject: hello\r\n\r\nread me\r\n")
s.quit()
`

func smtplibSend(t *testing.T, p *postfix, mechanism, user, secret string) (string, error) {
	out, err := exec.Command("python3", "-c", smtplibScript, strconv.Itoa(p.set.Port), mechanism, user, secret).CombinedOutput()
	return string(out), err
}

// smtpSASL is a mechanism for Go's client.
type smtpSASL struct {
	saslClient
	// late is what is too long for a command.
	late []byte
}

func (s *smtpSASL) Start(*smtp.ServerInfo) (string, []byte, error) {
	mechanism, first, err := s.saslClient.Start()
	if len(first) > 500 {
		s.late, first = first, nil
	}
	return mechanism, first, err
}

func (s *smtpSASL) Next(challenge []byte, more bool) ([]byte, error) {
	if !more {
		return nil, s.Done()
	}
	if late := s.late; late != nil {
		s.late = nil
		return late, nil
	}
	return s.saslClient.Next(challenge)
}

// dialMailer connects Go's client to Postfix, under TLS.
func dialMailer(p *postfix) (*smtp.Client, error) {
	c, err := smtp.Dial(p.Addr())
	if err != nil {
		return nil, err
	}
	if err := c.StartTLS(&tls.Config{InsecureSkipVerify: true}); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

func goSend(t *testing.T, p *postfix, mechanism, user, secret string) (string, error) {
	c, err := dialMailer(p)
	if err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.Auth(&smtpSASL{saslClient: newSASL(mechanism, user, secret)}); err != nil {
		return "", err
	}
	if err := errors.Join(c.Mail(user), c.Rcpt("bob@example.test")); err != nil {
		return "", err
	}
	w, err := c.Data()
	if err != nil {
		return "", err
	}
	if _, err := w.Write([]byte(message)); err != nil {
		return "", err
	}
	return "", errors.Join(w.Close(), c.Quit())
}

// runMailers has all clients of SMTP log in at a Postfix, which learns the user's name.
func runMailers(crew *crew, d *mechDovecot, mta *postfix, p *mechProxy) {
	for _, m := range mailers {
		for _, mechanism := range m.mechanisms {
			crew.Run("Postfix, "+m.name+" "+mechanism, func(t *testing.T) {
				user, bad, good := d.Secrets(mechanism)
				if out, err := m.send(t, mta, mechanism, user, bad); err == nil {
					t.Errorf("it gets in with a wrong secret:\n%s", out)
				}
				out, err := m.send(t, mta, mechanism, user, good)
				if err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				hidden(out)
				if m.sends {
					eventually(t, "Postfix to log the user's name", func() error {
						if !strings.Contains(mta.Log(), "sasl_method="+mechanism+", sasl_username="+user+"\n") {
							return errors.New("it has not")
						}
						return nil
					})
				}
				if p != nil {
					d.WantFailed(t, user, mechanism)
					d.WantLogins(user, 1)
					p.WantLogged(t, "denied", "smtp", user, mechanism)
					p.WantLogged(t, "granted", "smtp", user, mechanism)
				}
			})
		}
	}
}

// testMailerCancels has a client of Postfix end an exchange before its proof. Postfix
// does not tell us, and uses its connection for the next one.
func testMailerCancels(t *testing.T, d *mechDovecot, p *postfix) {
	c, err := dialMailer(p)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, offered := c.Extension("AUTH")
	for _, mechanism := range append(challenges, tokens...) {
		if !slices.Contains(strings.Fields(offered), mechanism) {
			t.Errorf("Postfix does not offer %s: %q", mechanism, offered)
		}
	}
	for _, mechanism := range challenges {
		user, _, good := d.Secrets(mechanism)
		_, first, err := newSASL(mechanism, user, good).Start()
		if err != nil {
			t.Fatal(err)
		}
		command := "AUTH " + mechanism
		if first != nil {
			command += " " + b64(string(first))
		}
		if _, _, err := say(c.Text, 334, command); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
		if _, _, err := say(c.Text, 501, "*"); err != nil {
			t.Errorf("%s: %v", mechanism, err)
		}
		if n := d.Logins(user); n != 0 {
			t.Errorf("%s was let in", user)
		}
	}
	user, _, good := d.Secrets(login.ScramSHA256)
	if err := c.Auth(&smtpSASL{saslClient: newSASL(login.ScramSHA256, user, good)}); err != nil {
		t.Errorf("the login after those: %v", err)
	}
	d.WantLogins(user, 1)
}

// say sends a line and reads the answer, which must have that code.
func say(c *textproto.Conn, code int, line string) (int, string, error) {
	if err := c.PrintfLine("%s", line); err != nil {
		return 0, "", err
	}
	return c.ReadResponse(code)
}
