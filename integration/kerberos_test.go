//go:build integration

package integration

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// realm is what a kdc hands out tickets for.
const realm = "EXAMPLE.TEST"

// kdc is a private Kerberos of MIT.
type kdc struct {
	t   *testing.T
	dir string
}

// startKDC starts a Kerberos with users, password by name, and hosts that have IMAP.
// The keys of those are in Keytab.
func startKDC(t *testing.T, users map[string]string, hosts ...string) *kdc {
	t.Helper()
	need(t, "krb5kdc", "kdb5_util", "kadmin.local", "kinit")
	k := &kdc{t: t, dir: shortDir(t)}
	writeFile(t, k.file("krb5.conf"), fmt.Sprintf(`
[libdefaults]
  default_realm = %[1]s
  dns_lookup_kdc = false
  dns_lookup_realm = false
  dns_canonicalize_hostname = false
  qualify_shortname = ""
  rdns = false
  udp_preference_limit = 1
[realms]
  %[1]s = {
    kdc = 127.0.0.1:%[2]d
  }
[domain_realm]
  localhost = %[1]s
  mail.internal = %[1]s
`, realm, freePort(t)))
	conf, err := os.ReadFile(k.file("krb5.conf"))
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(string(conf), "127.0.0.1:")
	port, _, _ = strings.Cut(port, "\n")
	writeFile(t, k.file("kdc.conf"), fmt.Sprintf(`
[kdcdefaults]
  kdc_listen = 127.0.0.1:%[2]s
  kdc_tcp_listen = 127.0.0.1:%[2]s
[realms]
  %[1]s = {
    database_name = %[3]s/principal
    key_stash_file = %[3]s/stash
  }
[logging]
  kdc = FILE:%[3]s/log
`, realm, port, k.dir))
	k.run("", "kdb5_util", "create", "-s", "-P", "Master-Of-Keys-1")
	for name, password := range users {
		k.run("", "kadmin.local", "-q", "addprinc -pw "+password+" "+name)
	}
	for _, host := range hosts {
		k.run("", "kadmin.local", "-q", "addprinc -randkey imap/"+host)
		k.run("", "kadmin.local", "-q", "ktadd -k "+k.Keytab()+" imap/"+host)
	}
	if err := os.Chown(k.Keytab(), userID(t, "dovecot"), -1); err != nil {
		t.Fatal(err)
	}
	program, err := findProgram("krb5kdc")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-n")
	cmd.Env = k.Env("")
	p := startProcess(t, "krb5kdc", cmd)
	t.Cleanup(func() { _ = p.stop(t) })
	eventually(t, "Kerberos to listen", func() error { return accepts("tcp", "127.0.0.1:"+port) })
	return k
}

func (k *kdc) file(name string) string { return filepath.Join(k.dir, name) }

// Keytab is the file with the keys of the hosts, and Config what says where Kerberos is.
func (k *kdc) Keytab() string { return k.file("keytab") }
func (k *kdc) Config() string { return k.file("krb5.conf") }

// Env is the environment of somebody with the tickets of a user.
func (k *kdc) Env(user string) []string {
	return append(os.Environ(), "KRB5_CONFIG="+k.Config(), "KRB5_KDC_PROFILE="+k.file("kdc.conf"), "KRB5CCNAME=FILE:"+k.file("tickets-"+user))
}

func (k *kdc) run(user, name string, args ...string) {
	k.t.Helper()
	k.runWith(user, "", name, args...)
}

func (k *kdc) runWith(user, input, name string, args ...string) {
	k.t.Helper()
	program, err := findProgram(name)
	if err != nil {
		k.t.Fatal(err)
	}
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdin = k.Env(user), strings.NewReader(input)
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte("while")) {
		k.t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// Login gets a user a ticket.
func (k *kdc) Login(user, password string) {
	k.t.Helper()
	k.runWith(user, password+"\n", "kinit", user)
}

// Rekey gives a host another key than the one in Keytab.
func (k *kdc) Rekey(host string) {
	k.t.Helper()
	k.run("", "kadmin.local", "-q", "cpw -randkey imap/"+host)
}
