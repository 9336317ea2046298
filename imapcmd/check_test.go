package imapcmd

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/caddy-imap/caddy-imap/internal/doctor"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

const (
	testUser   = "alice@example.org"
	testSecret = "correct horse battery staple"
)

// checked is what a run of imap-check came to.
type checked struct {
	status   int
	err      error
	out, all string
}

// check runs imap-check with the password on its standard input.
func check(t *testing.T, args ...string) checked {
	t.Helper()
	return runCheck(t, testSecret+"\n", args...)
}

// runCheck runs it with something else there.
func runCheck(t *testing.T, input string, args ...string) (c checked) {
	t.Helper()
	o := new(checkOptions)
	cmd := &cobra.Command{}
	o.flags(cmd)
	if err := cmd.ParseFlags(args); err != nil {
		t.Fatal(err)
	}
	var out, errs bytes.Buffer
	c.status, c.err = o.run(t.Context(), console{in: strings.NewReader(input), out: &out, err: &errs})
	c.out, c.all = out.String(), fmt.Sprint(out.String(), errs.String(), c.err)
	if found := imaptest.Revealed([]byte(c.all), testSecret); len(found) > 0 {
		t.Errorf("the password is shown: %s", found)
	}
	return c
}

// want fails unless the command exits so, and says all of the texts.
func (c checked) want(t *testing.T, status int, texts ...string) {
	t.Helper()
	flat := strings.Join(strings.Fields(c.all), " ")
	for _, text := range texts {
		if !strings.Contains(flat, text) {
			t.Errorf("nothing is said of %q", text)
		}
	}
	if c.status != status || (c.err == nil) != (status == 0) {
		t.Errorf("status %d, %v, want %d", c.status, c.err, status)
	}
	if t.Failed() {
		t.Log(c.all)
	}
}

// TestCheckUsage pins what is not understood, which is another status.
func TestCheckUsage(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	two := caddyfileOf(t, "imap {\nbackend a {\nupstream a.internal\n}\nbackend b {\nupstream b.internal\n}\n}\n")
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "there is nothing to look at"},
		{[]string{"--to", "a", "--config", "b"}, "leave out --config"},
		{[]string{"--to", "a", "--backend", "b"}, "leave out --config"},
		{[]string{"--to", "a", "--envfile", "b"}, "leave out --config"},
		{[]string{"--tls", "off"}, "are for --to"},
		{[]string{"--insecure"}, "are for --to"},
		{[]string{"--adapter", "x"}, "name that file"},
		{[]string{"--to", "a", "--password-stdin"}, "without --user"},
		{[]string{"--to", "a", "--user", "x"}, "use --password-stdin"},
		{[]string{"--config", "-", "--user", "x", "--password-stdin"}, "cannot be both"},
		{[]string{"--to", "a", "--timeout", "1ns"}, "--timeout"},
		{[]string{"--to", "a", "--tls-trust-pool", "none.pem"}, "--tls-trust-pool"},
		{[]string{"--to", "a", "--insecure", "--tls-trust-pool", "none.pem"}, "leave one out"},
		{[]string{"--to", "a", "--tls", "ssl"}, `tls "ssl": must be one of`},
		{[]string{"--to", "imap://a"}, "an address has no scheme"},
		{[]string{"--config", two, "--backend", "c"}, `known are a, b`},
		{[]string{"--config", two, "--user", "x", "--password-stdin"}, "say with --backend which of them x logs in at, so that the others do not get the password: a, b"},
	} {
		t.Run(strings.Join(tc.args, " "), func(t *testing.T) { check(t, tc.args...).want(t, exitUsage, "Error: ", tc.want) })
	}
}

// caddyfileOf writes a Caddyfile with a storage of the test's own.
func caddyfileOf(t *testing.T, options string) string {
	t.Helper()
	text := "{\nskip_install_trust\nstorage file_system {\nroot " + filepath.ToSlash(t.TempDir()) + "\n}\n" + options + "}\n"
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// TestRelayedListener pins that a listener is looked at for the mechanisms that its handler
// passes on, in whatever case they are written.
func TestRelayedListener(t *testing.T) {
	l := readListeners([]byte(`{"servers": {"srv0": {"listen": [":143"],
		"routes": [{"handle": [{"handler": "imap", "mechanisms": ["plain", "LOGIN", "scram-sha-256", "XOAUTH2"]}]}]}}}`))
	if len(l.fronts) != 1 || !slices.Equal(l.fronts[0].Relayed, []string{"SCRAM-SHA-256", "XOAUTH2"}) {
		t.Errorf("%+v", l.fronts)
	}
}

// TestCheckTo pins that a server is looked at without a configuration, and that somebody
// can log in there.
func TestCheckTo(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS()))
	c := check(t, "--to", srv.Addr(), "--tls-trust-pool", ca.File(), "--user", testUser, "--password-stdin")
	c.want(t, exitWell, "Backend: "+srv.Addr(), "looks like Exchange", "as alice@example.org is let in", "Nothing is wrong.")
	if strings.Contains(c.out, "main.cf") || strings.Contains(c.out, "Configuration") {
		t.Errorf("there is no configuration:\n%s", c.out)
	}
	if n := len(srv.Logins()); n != 1 {
		t.Errorf("%d logins, want 1", n)
	}
	check(t, "--to", srv.Addr()).want(t, exitFault, "tls_trust_pool file", "1 thing is wrong.")
	check(t, "--to", srv.Addr(), "--insecure").want(t, exitWell, "tls_insecure_skip_verify")
}

// TestCheckConfig pins that what is looked at is what a configuration says: modules and
// placeholders count, the listeners are looked at, and the lines for Postfix fit.
func TestCheckConfig(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS()))
	imap := imaptest.NewFake(t, imaptest.Profile{TLS: ca.ServerTLS("mail.internal")})
	imaps := imaptest.NewFake(t, imaptest.Profile{TLS: ca.ServerTLS("other.internal"), Implicit: true})
	auth := imaptest.NewScript(t, func(c *imaptest.Conn) {})
	auth.Close()
	t.Setenv("TEST_UPSTREAM", srv.Addr())
	t.Setenv("TEST_CA", ca.File())
	file := caddyfileOf(t, `
imap {
	hostname mail.internal
	backend exchange {
		upstream {env.TEST_UPSTREAM}
		username {imap.user.local}
		tls_trust_pool file {$TEST_CA}
		tls_server_name localhost
	}
	backend other {
		upstream other.invalid:143
	}
	guard {
		domain CORP example.org
	}
}
layer4 {
	kept/`+imap.Addr()+` {
		route {
			imap exchange
		}
	}
	`+imaps.Addr()+` {
		route {
			imap exchange {
				implicit_tls
			}
		}
	}
	`+auth.Addr()+` {
		route {
			dovecot_auth exchange {
				identity {imap.user.local}
			}
		}
	}
	unix//run/none.sock|0660 {
		route {
			dovecot_auth other
		}
	}
}
`)
	c := check(t, "--config", file, "--backend", "exchange", "--user", testUser, "--password-stdin", "--json")
	var r report
	decoder := json.NewDecoder(strings.NewReader(c.out))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		t.Fatalf("%v\n%s", err, c.all)
	}
	if c.status != exitFault || r.OK {
		t.Errorf("status %d, ok %v", c.status, r.OK)
	}
	type seen struct {
		part  doctor.Part
		name  string
		fault doctor.Fault
	}
	var got []seen
	for _, check := range r.Checks {
		if check.Fault != "" {
			got = append(got, seen{check.Part, check.Name, check.Fault})
		}
	}
	want := []seen{
		{doctor.PartFront, "exchange", doctor.CAUnknown}, // the test's authority, which is a warning
		{doctor.PartFront, "exchange", doctor.CertName},
		{doctor.PartFront, "exchange", doctor.CAUnknown},
		{doctor.PartAuth, "exchange", doctor.PortClosed},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("faults %v, want %v\n%s", got, want, c.out)
	}
	if l := srv.Logins(); len(l) != 1 || l[0].User != "alice" {
		t.Errorf("logins %+v", l)
	}
	if len(r.MainCF) != 1 || !slices.Contains(r.MainCF[0].Lines, "smtpd_sasl_path = inet:"+auth.Addr()) {
		t.Errorf("lines for Postfix %+v", r.MainCF)
	}
	all := check(t, "--config", file, "--timeout", "5s")
	all.want(t, exitFault, "Backend other: other.invalid:143", "smtpd_sasl_path = /run/none.sock", "smtpd_sasl_path = inet:"+auth.Addr(), "things are wrong.")
}

// TestCheckBadConfig pins that a configuration that Caddy would not start is a fault.
func TestCheckBadConfig(t *testing.T) {
	check(t, "--config", caddyfileOf(t, "imap {\nbackend a {\n}\n}\n")).want(t, exitFault, "✗ load", "it has no upstream", "mend it")
	c := check(t, "--config", caddyfileOf(t, ""))
	c.want(t, exitFault, "there is no imap app", "Caddy starts with it, and serves no IMAP")
	if strings.Contains(c.out, "would not start") {
		t.Errorf("Caddy would:\n%s", c.out)
	}
	conf := filepath.Join(t.TempDir(), "dovecot.conf")
	if err := os.WriteFile(conf, []byte("protocols = imap\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	check(t, "--config", conf).want(t, exitFault, "--adapter dovecot")
	check(t, "--config", filepath.Join(t.TempDir(), "none")).want(t, exitFault, "none")
}

// TestCheckNoListener pins that a configuration is not called well if none of its listeners
// can be looked at.
func TestCheckNoListener(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS()))
	backend := "imap {\nbackend a {\nupstream " + srv.Addr() + "\ntls_trust_pool file " + ca.File() + "\ntls_server_name localhost\n}\n}\n"
	c := check(t, "--config", caddyfileOf(t, backend))
	c.want(t, exitWell, "! load", "nothing in it listens", "Nothing is wrong, but look at the 2 lines marked !.")
	c = check(t, "--config", caddyfileOf(t, backend+"layer4 {\nfd/7 {\nroute {\nimap a\n}\n}\n}\n"))
	c.want(t, exitWell, "! load", "no listener could be looked at", "Nothing is wrong, but look at the 2 lines marked !.")
}

// TestListeners pins how handlers are found, and what comes before them.
func TestListeners(t *testing.T) {
	l := readListeners([]byte(`{"servers": {
		"a": {"listen": [":143", "kept/[::]:1143-1144", "fd/3"], "routes": [{"handle": [{"handler": "proxy_protocol"}, {"handler": "imap", "backend": "x"}]}]},
		"b": {"listen": ["10.0.0.1:993"], "routes": [{"match": [{}], "handle": [{"handler": "subroute", "routes": [{"handle": [{"handler": "tls"},
			{"handler": "imap", "connection_policies": [{"client_authentication": {}}]}]}]}]}]},
		"b2": {"listen": [":1"], "routes": [{"match": [{}], "handle": [{"handler": "imap"}]},
			{"handle": [{"handler": "proxy_protocol", "allow": ["192.0.2.10/32"], "fallback_policy": "REJECT"}, {"handler": "imap"}]}]},
		"c": {"listen": ["kept/unix//run/a.sock|0660"], "routes": [{"handle": [{"handler": "dovecot_auth", "allow_delegates": true}]}, {"handle": [{"handler": "dovecot_auth"}]}]}
	}}`))
	anybody := &doctor.Proxied{Others: true}
	fronts := []doctor.Front{
		{Address: ":143", Backend: "x", Network: "tcp", Dial: "127.0.0.1:143", Proxy: anybody},
		{Address: "kept/[::]:1143-1144 port 1143", Backend: "x", Network: "tcp", Dial: "[::1]:1143", Proxy: anybody},
		{Address: "kept/[::]:1143-1144 port 1144", Backend: "x", Network: "tcp", Dial: "[::1]:1144", Proxy: anybody},
		{Address: "fd/3", Backend: "x", Proxy: anybody},
		{Address: "10.0.0.1:993", Network: "tcp", Dial: "10.0.0.1:993", Implicit: true, Matched: true, ClientAuth: true},
		{Address: ":1", Network: "tcp", Dial: "127.0.0.1:1", Proxy: &doctor.Proxied{Allow: []netip.Prefix{netip.MustParsePrefix("192.0.2.10/32")}}},
	}
	auths := []doctor.Auth{{Address: "kept/unix//run/a.sock|0660", Network: "unix", Dial: "/run/a.sock", Delegates: true}}
	if !reflect.DeepEqual(l.fronts, fronts) || !reflect.DeepEqual(l.auths, auths) {
		t.Errorf("got %+v\n%+v", l.fronts, l.auths)
	}
	if l := readListeners(nil); len(l.fronts)+len(l.auths) > 0 {
		t.Errorf("%+v", l)
	}
}

// TestConsole pins how the password is read, and that only yes is yes.
func TestConsole(t *testing.T) {
	for text, want := range map[string]string{"secret\n": "secret", "secret\r\n": "secret", "secret": "secret", " se cret \nmore\n": " se cret ", "\n": "", "": ""} {
		secret, err := console{in: strings.NewReader(text)}.password("x", true)
		if string(secret) != want || (err == nil) != (want != "") {
			t.Errorf("%q is read as %q, %v", text, string(secret), err)
		}
	}
	for text, want := range map[string]bool{"y\n": true, "YES\n": true, "\n": false, "": false, "n\n": false, "yellow\n": false} {
		if got := (console{in: strings.NewReader(text), err: new(bytes.Buffer)}).confirm("?"); got != want {
			t.Errorf("%q is %v", text, got)
		}
	}
}

// TestDomainOf pins the guess at the users' domain.
func TestDomainOf(t *testing.T) {
	for address, want := range map[string]string{"ex1.corp.example.org:143": "corp.example.org", "ex1:143": "", "ex1.internal:143": "", "10.0.0.1:143": "", "[::1]:143": ""} {
		if got := domainOf(address); got != want {
			t.Errorf("%s: %q, want %q", address, got, want)
		}
	}
}

// TestCheckWarnings pins that what an adapter warns of is shown, and is no fault.
func TestCheckWarnings(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS()))
	text := "{\nimap {\nbackend a {\nupstream " + srv.Addr() + "\ntls_trust_pool file " + ca.File() + "\ntls_server_name localhost\n}\n}\n}\n"
	file := filepath.Join(t.TempDir(), "Caddyfile")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c := check(t, "--config", file)
	c.want(t, exitWell, "✓ load", "! load "+file+":2", "not formatted", "nothing in it listens", "Nothing is wrong, but look at the 2 lines marked !.")
	if strings.Count(c.out, "! load") != 2 {
		t.Errorf("it is not said once:\n%s", c.out)
	}
	// Whatever is read, and from wherever.
	c = runCheck(t, text, "--config", "-", "--adapter", "caddyfile")
	c.want(t, exitWell, "Configuration: -", "not formatted", "looks like Exchange")
	runCheck(t, text, "--config", "-").want(t, exitFault, "✗ load")
	runCheck(t, text, "--config", "-", "--adapter", "none").want(t, exitFault, `unknown adapter "none"`)
	runCheck(t, "{", "--config", "-", "--adapter", "caddyfile").want(t, exitFault, "adapting the configuration with caddyfile")
}

// TestCheckEnvFile pins that variables can come from files, which do not take the place
// of those that there are.
func TestCheckEnvFile(t *testing.T) {
	ca := imaptest.NewCA(t)
	srv := imaptest.NewFake(t, imaptest.Exchange(ca.ServerTLS()))
	dir := t.TempDir()
	for _, name := range []string{"TEST_ENV_UPSTREAM", "TEST_ENV_NAME"} {
		t.Setenv(name, "")
		_ = os.Unsetenv(name)
	}
	t.Setenv("TEST_ENV_POOL", ca.File())
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	for file, text := range map[string]string{
		first:  "TEST_ENV_UPSTREAM=" + srv.Addr() + "\nTEST_ENV_POOL=/none\n",
		second: "TEST_ENV_UPSTREAM=192.0.2.1\nexport TEST_ENV_NAME=localhost\n",
		"bad":  "TEST_ENV_SECRET " + testSecret + "\n",
	} {
		if !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	file := caddyfileOf(t, "imap {\nbackend a {\nupstream {env.TEST_ENV_UPSTREAM}\ntls_trust_pool file {$TEST_ENV_POOL}\ntls_server_name {$TEST_ENV_NAME}\n}\n}\n")
	check(t, "--config", file, "--envfile", first, "--envfile", second).want(t, exitWell, srv.Addr()+" is open", "looks like Exchange")
	check(t, "--config", file, "--envfile", filepath.Join(dir, "bad")).want(t, exitUsage, "line 1: must be NAME=value")
	check(t, "--config", file, "--envfile", filepath.Join(dir, "none")).want(t, exitUsage, "--envfile: ")
}

// TestParseEnv compares how files with variables are read with how Caddy reads them.
func TestParseEnv(t *testing.T) {
	const text = "# a comment\n\n  TEST_A=1\nexport TEST_B=two words\r\nTEST_C=x # a comment\nTEST_D=\"quoted\"\nTEST_E='a\n  b\nc'\n" +
		`TEST_F="say \"yes\""` + "\nTEST_G=\nTEST_H=a=b\nTEST_I=\"first\nsecond \\\"x\\\" \"\n"
	ours, err := parseEnv(text)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "env")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for name := range ours {
		t.Setenv(name, "")
		_ = os.Unsetenv(name)
	}
	if len(ours) != 9 {
		t.Errorf("read %q", ours)
	}
	// It reads the variables first, and does not get far with the configuration.
	validate := &cobra.Command{SilenceErrors: true, SilenceUsage: true}
	caddycmd.Commands()["validate"].CobraFunc(validate)
	validate.SetArgs([]string{"--envfile", file, "--config", filepath.Join(t.TempDir(), "none")})
	if err := validate.Execute(); err == nil || strings.Contains(err.Error(), "variables") {
		t.Fatal(err)
	}
	for name, value := range ours {
		if caddys, found := os.LookupEnv(name); !found || caddys != value {
			t.Errorf("%s: Caddy reads %q, and we %q", name, caddys, value)
		}
	}
	for _, text := range []string{"A", "=1", "A B=1", "A= 1", "A=\t1", "A=\"x\ny", "A='x"} {
		if got, err := parseEnv(text); err == nil {
			t.Errorf("%q is read as %q", text, got)
		}
	}
}
