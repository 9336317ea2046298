//go:build integration

package integration

import (
	"fmt"
	"math/rand/v2"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// yardsticks are settings of Dovecot 2.3 that can have any text.
var yardsticks = []string{"login_greeting", "login_log_format", "auth_realms"}

// dovecotSays returns what Dovecot's own program reads in a file, or false if it
// takes that for wrong.
func dovecotSays(t *testing.T, file string) (string, bool) {
	t.Helper()
	var values []string
	for _, name := range yardsticks {
		out, err := exec.Command("doveconf", "-x", "-h", "-c", file, name).Output()
		if err != nil {
			return "", false
		}
		values = append(values, name+"="+strings.TrimSuffix(string(out), "\n"))
	}
	return strings.Join(values, "\n"), true
}

// weSay returns what we read.
func weSay(file, text string) (string, bool) {
	cfg, err := dovecotconf.Parse(file, []byte(text))
	if err != nil {
		return err.Error(), false
	}
	for _, n := range cfg.Nodes {
		// Dovecot knows the defaults of all settings, and takes other names for an error.
		for _, name := range n.Unknown {
			if !slices.Contains(yardsticks, name) {
				return "unknown variable " + name, false
			}
		}
	}
	var values []string
	for _, name := range yardsticks {
		value := map[string]string{"login_greeting": "Dovecot (Debian) ready.", "login_log_format": "%$: %s"}[name]
		for _, n := range cfg.Nodes {
			if n.Key == name && !n.Block {
				value, err = n.Text()
			}
		}
		if err != nil {
			return err.Error(), false
		}
		values = append(values, name+"="+value)
	}
	return strings.Join(values, "\n"), true
}

// Our parser reads what Dovecot 2.3 reads.
func TestDoveconf(t *testing.T) {
	need(t, "dovecot", "doveconf")
	if out, err := exec.Command("doveconf", "-n").CombinedOutput(); err != nil || !strings.HasPrefix(string(out), "# 2.3.") {
		t.Skipf("doveconf is not of Dovecot 2.3: %v\n%.60s", err, out)
	}
	dir := shortDir(t)
	writeFile(t, filepath.Join(dir, "value"), "from a file")
	writeFile(t, filepath.Join(dir, "a.inc"), "login_greeting = included\nauth_realms = $login_greeting\n")
	writeFile(t, filepath.Join(dir, "b.inc"), "auth_realms = $login_greeting again\n")
	writeFile(t, filepath.Join(dir, ".c.inc"), "auth_realms = hidden\n")
	samples := []string{
		"login_greeting = a", "login_greeting=a", "  login_greeting\t=  a  b\t", "login_greeting = a # b", "login_greeting = a#b",
		`login_greeting = "a # b"`, `login_greeting = ' a '`, `login_greeting = "a" b`, `login_greeting = "a"b"`, `login_greeting = 'a # b`,
		`login_greeting = "a\"b\\c\d"`, `login_greeting = a\b`, `login_greeting = it's # not`, `login_greeting = x "# y" # z`, "login_greeting = \"\"",
		"login_greeting = a \\\n  b \\\n\tc", "login_greeting = a\\\nb", "login_greeting = \\\na", "login_greeting = \"a \\\n b\"",
		"login_greeting = a \\\n# comment\nauth_realms = b", "login_greeting = a = b", "login_greeting =", "# login_greeting = a",
		"login_greeting = a\nlogin_greeting = b", "login_greeting = a\nauth_realms = $login_greeting", "login_greeting = a\nauth_realms = x $login_greeting  y",
		"login_greeting = a\nauth_realms = x$login_greeting", "login_greeting = a\nauth_realms = '$login_greeting'",
		"login_greeting = a\nauth_realms = $login_greeting\nlogin_greeting = b", "auth_realms = a\nauth_realms = $auth_realms b",
		"auth_realms = a\t$login_greeting", "login_greeting = a\nauth_realms = x \t$login_greeting\ty",
		"login_greeting = <value", "login_greeting = < value", "login_greeting = <missing", "!include a.inc", "!include *.inc", "!include {b,a}.inc",
		"!include_try none.inc\nlogin_greeting = a", "!include none.inc", "!include [ab].inc", "!include [!b].inc", "!include main.conf",
		"login_greeting", "login_greeting a", "protocol imap {\nlogin_greeting = a\n}", "}", "service auth { }",
		"service auth {\n}\nlogin_greeting = a", "service \"auth\" {\n}", "service auth {\ninet_listener {\nport = 1\n}\n}", "service auth{\n}",
		"login_greeting = \xff\xfe", "login_greeting = a\r\nauth_realms = b\r",
	}
	// And what no person would write.
	random := rand.New(rand.NewPCG(7, 7))
	pieces := []string{"a", " ", "  ", "\t", "'", `"`, `\`, "#", " # ", "=", "$", "$login_greeting", " $auth_realms ", "{", "}", "b c", "\\\n", "%", "<", "x"}
	for range 150 {
		var b strings.Builder
		b.WriteString("login_greeting = one\nauth_realms = ")
		for range 1 + random.IntN(8) {
			b.WriteString(pieces[random.IntN(len(pieces))])
		}
		samples = append(samples, b.String()+"\nlogin_log_format = z")
	}
	for _, text := range samples {
		// doveconf wants a file that it could start with.
		text += "\n"
		file := writeFile(t, filepath.Join(dir, "main.conf"), text)
		want, wantOK := dovecotSays(t, file)
		got, gotOK := weSay(file, text)
		if gotOK != wantOK || gotOK && got != want {
			t.Errorf("%q:\ngot  %v %q\nwant %v %q", text, gotOK, got, wantOK, want)
		}
	}
}

// Dovecot's own defaults, all written out, adapt with no setting that is not known. Only
// the server behind it has to be added.
func TestDoveconfDefaults(t *testing.T) {
	need(t, "dovecot", "doveconf")
	out, err := exec.Command("doveconf", "-d").Output()
	if err != nil {
		t.Fatal(err)
	}
	text := string(out) + "protocols = imap\nimapc_host = ex1.corp.example.org\nimapc_ssl = starttls\n"
	config, warnings, err := caddyconfig.GetAdapter("dovecot").Adapt([]byte(text), nil)
	if err != nil || !strings.Contains(string(config), `"listen":["kept/:993"]`) {
		t.Fatalf("%s\n%v", config, err)
	}
	for _, w := range warnings {
		if strings.HasPrefix(w.Message, "unknown") {
			t.Error(w)
		}
	}
	if lines := strings.Count(text, "\n"); lines < 500 || len(warnings) < 200 {
		t.Errorf("%d warnings about %d lines", len(warnings), lines)
	}
}

// The recipe runs as it stands, and its Postfix with it, with nothing changed but the files
// of its certificate, the address of the backend, and those ports that somebody has already.
func TestAdaptedRecipe(t *testing.T) {
	t.Parallel()
	need(t, "dovecot", "openssl", "postfix", "swaks")
	ca := imaptest.NewCA(t)
	front := ca.Issue(imaptest.Leaf{Names: []string{"machine.example.org"}})
	good, bad := secret("Recipe-Good-41"), secret("Recipe-Bad-42")
	const user = "alice@example.test"
	d := startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"another.example.org"}})},
		map[string]string{"username": "password", user: good})
	files := strings.NewReplacer(
		"/etc/pki/tls/certs/machine.example.org.crt", front.CertFile,
		"/etc/pki/tls/private/machine.example.org.key", front.KeyFile,
		"/etc/pki/tls/certs/gd_bundle.crt", ca.File(),
	)
	text := strings.NewReplacer(
		"10.1.2.3", d.set.IP,
		"imapc_port = 143", fmt.Sprintf("imapc_port = %d", d.set.IMAP),
	).Replace(files.Replace(readFile(t, "testdata/dovecotconf/recipe.conf")))
	port := func(usual int) int {
		if accepts("tcp", fmt.Sprintf("127.0.0.1:%d", usual)) == nil {
			return freePort(t)
		}
		return usual
	}
	imap, imaps, auth := port(143), port(993), port(12345)
	text = strings.Replace(text, "port = 12345", fmt.Sprintf("port = %d", auth), 1)
	if imap != 143 || imaps != 993 {
		text += fmt.Sprintf("service imap-login {\ninet_listener imap {\nport = %d\n}\ninet_listener imaps {\nport = %d\n}\n}\n", imap, imaps)
	}
	c := startCaddyWith(t, "dovecot", text)
	mainCF := files.Replace(readFile(t, "testdata/postfix/recipe.cf"))
	p := startPostfixOf(t, strings.Replace(mainCF, ":12345", fmt.Sprintf(":%d", auth), 1))
	c.WaitLog("imapc_ssl = starttls") // the warning about the backend
	typeRecipe(t, fmt.Sprintf("127.0.0.1:%d", imap))
	out, err := exec.Command("curl", "--silent", "--show-error", "--max-time", "30", "--cacert", ca.File(), "--user", "username:password",
		"--connect-to", fmt.Sprintf("machine.example.org:%d:127.0.0.1:%d", imaps, imaps),
		fmt.Sprintf("imaps://machine.example.org:%d/INBOX?ALL", imaps)).CombinedOutput()
	if err != nil {
		t.Errorf("curl: %v\n%s", err, out)
	}
	checkPostfixBy(p, d, user, good, bad, []string{"--tls"})
	for _, tc := range []struct {
		who  string
		args []string
		want string
	}{
		{"somebody who has logged in", []string{"--tls", "--auth", "PLAIN", "--auth-user", user, "--auth-password", good}, "<~  250 2.1.5 Ok"},
		{"nobody", []string{"--tls"}, "<~* 554 5.7.1"},
		{"somebody without TLS", []string{"--auth", "PLAIN", "--auth-user", user, "--auth-password", good}, "Host did not advertise authentication"},
	} {
		args := append([]string{"--server", "127.0.0.1", "--port", fmt.Sprint(p.set.Port), "--from", user, "--to", "bob@example.test", "--quit-after", "RCPT"}, tc.args...)
		out, _ := exec.Command("swaks", args...).CombinedOutput() // it has a status for each refusal
		if !strings.Contains(string(out), tc.want) {
			t.Errorf("%s sends mail: want %q\n%s", tc.who, tc.want, out)
		}
	}
	c.Stop()
}
