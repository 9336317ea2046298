//go:build integration

package integration

import (
	"crypto/tls"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/emersion/go-imap/v2/imapclient"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// place is where IMAP clients log in: at Dovecot itself, or through us.
type place struct {
	name string
	// imap wants STARTTLS, imaps has TLS from the start.
	imap, imaps string
	// host is a name of the server, and root the file of who has signed for it.
	host, root string
}

// mechClient is a real client, and the mechanisms it has that we relay.
type mechClient struct {
	name       string
	mechanisms []string
	// startTLS says that it has no TLS from the start.
	startTLS bool
	// fault tells of a mechanism why it does not work at Dovecot itself.
	fault func(mechanism string) string
	// login logs in, and returns all that the client says, and an error if it was not
	// let in.
	login func(t *testing.T, at place, implicit bool, mechanism, user, secret string) (string, error)
}

var (
	challenges = []string{login.CramMD5, login.ScramSHA1, login.ScramSHA256}
	tokens     = []string{login.XOAuth2, login.OAuthBearer}
)

var mechClients = []mechClient{
	{name: "curl", mechanisms: append([]string{login.CramMD5}, tokens...), fault: curlFault, login: curlLogin("--sasl-ir")},
	{name: "curl without SASL-IR", mechanisms: append([]string{login.CramMD5}, tokens...), fault: curlFault, login: curlLogin()},
	{name: "gsasl", mechanisms: challenges, startTLS: true, login: gsaslLogin},
	{name: "mbsync", mechanisms: challenges, login: mbsyncLogin},
	{name: "imaplib", mechanisms: append([]string{login.CramMD5}, tokens...), login: imaplibLogin},
	{name: "go-imap", mechanisms: append(challenges, tokens...), fault: goFault, login: goLogin},
}

func curlFault(mechanism string) string {
	if mechanism == login.XOAuth2 {
		return "curl takes OAUTHBEARER where both are offered"
	}
	return ""
}

func goFault(mechanism string) string {
	if mechanism != login.CramMD5 && mechanism != login.OAuthBearer {
		return "go-imap writes an equals sign for an empty answer, which is no base64 to Dovecot"
	}
	return ""
}

// port is the port of an address.
func port(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// curlArgs are what curl needs to log in with a mechanism.
func curlArgs(mechanism, user, secret string) []string {
	args := []string{"--silent", "--show-error", "--verbose", "--ssl-reqd", "--insecure", "--max-time", "30", "--login-options", "AUTH=" + mechanism}
	switch mechanism {
	case login.XOAuth2, login.OAuthBearer:
		return append(args, "--user", user+":", "--oauth2-bearer", secret)
	default:
		return append(args, "--user", user+":"+secret)
	}
}

func curlLogin(options ...string) func(*testing.T, place, bool, string, string, string) (string, error) {
	return func(t *testing.T, at place, implicit bool, mechanism, user, secret string) (string, error) {
		url := "imap://" + at.imap
		if implicit {
			url = "imaps://" + at.imaps
		}
		args := append(curlArgs(mechanism, user, secret), options...)
		out, err := exec.Command("curl", append(args, "--request", "NOOP", url)...).CombinedOutput()
		return string(out), err
	}
}

// gsasl is the command of GNU SASL. It has no TLS from the start.
func gsaslLogin(t *testing.T, at place, _ bool, mechanism, user, secret string) (string, error) {
	host, _, _ := net.SplitHostPort(at.imap)
	cmd := exec.Command("gsasl", "--imap", "--starttls", "--x509-ca-file=", "--no-cb", "--mechanism", mechanism,
		"--authentication-id", user, "--password", secret, host, port(t, at.imap))
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func mbsyncLogin(t *testing.T, at place, implicit bool, mechanism, user, secret string) (string, error) {
	out, err := mbsyncCommand(t, at, implicit, mechanism, user, secret).CombinedOutput()
	return string(out), err
}

func mbsyncCommand(t *testing.T, at place, implicit bool, mechanism, user, secret string) *exec.Cmd {
	t.Helper()
	dir := shortDir(t)
	kind, addr := "STARTTLS", at.imap
	if implicit {
		kind, addr = "IMAPS", at.imaps
	}
	config := writeFile(t, filepath.Join(dir, "mbsyncrc"), fmt.Sprintf(`
IMAPAccount a
Host %s
Port %s
User %q
Pass %q
SSLType %s
CertificateFile %s
AuthMechs %s

IMAPStore far
Account a

MaildirStore near
Path %s/
Inbox %s/inbox

Channel all
Far :far:
Near :near:
Create Near
SyncState *
`, at.host, port(t, addr), user, secret, kind, at.root, mechanism, dir, dir))
	return exec.Command("mbsync", "--verbose", "--config", config, "all")
}

const imaplibScript = `
import imaplib, ssl, sys
host, port, implicit, mechanism, user, secret = sys.argv[1:]
context = ssl._create_unverified_context()
if implicit == "true":
    m = imaplib.IMAP4_SSL(host, int(port), ssl_context=context)
else:
    m = imaplib.IMAP4(host, int(port))
    m.starttls(context)
def once(message, last):
    said = []
    def answer(challenge):
        said.append(challenge)
        return message if len(said) == 1 else last
    return answer
if mechanism == "CRAM-MD5":
    m.login_cram_md5(user, secret)
elif mechanism == "XOAUTH2":
    m.authenticate(mechanism, once("user=%s\1auth=Bearer %s\1\1" % (user, secret), b""))
else:
    m.authenticate(mechanism, once("n,a=%s,\1auth=Bearer %s\1\1" % (user, secret), b"\1"))
print(m.select("INBOX", readonly=True))
m.logout()
`

func imaplibLogin(t *testing.T, at place, implicit bool, mechanism, user, secret string) (string, error) {
	addr := at.imap
	if implicit {
		addr = at.imaps
	}
	host, port, _ := net.SplitHostPort(addr)
	out, err := exec.Command("python3", "-c", imaplibScript, host, port, fmt.Sprint(implicit), mechanism, user, secret).CombinedOutput()
	return string(out), err
}

// goLogin logs in with go-imap, and believes it only if the server has proved itself.
func goLogin(t *testing.T, at place, implicit bool, mechanism, user, secret string) (string, error) {
	options := &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}}
	dial, addr := imapclient.DialStartTLS, at.imap
	if implicit {
		dial, addr = imapclient.DialTLS, at.imaps
	}
	c, err := dial(addr, options)
	if err != nil {
		return "", err
	}
	defer c.Close()
	client := newSASL(mechanism, user, secret)
	if err := c.Authenticate(client); err != nil {
		return "", err
	}
	if err := client.Done(); err != nil {
		return "", err
	}
	if _, err := c.Select("INBOX", nil).Wait(); err != nil {
		return "", err
	}
	return "", c.Logout().Wait()
}
