package dovecotadapter

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

// No mixture of lines makes it panic or leave one out. It is no fuzz test, since those
// would have all of Caddy built anew.
func TestMixtures(t *testing.T) {
	files, _ := filepath.Glob(examples + "/*.conf")
	var lines []string
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Split(regexp.MustCompile("<|!include.*").ReplaceAllString(string(b), ""), "\n")...)
	}
	random := rand.New(rand.NewPCG(1, 2))
	adapted := 0
	for range 3000 {
		var b strings.Builder
		b.WriteString("imapc_host = a.example\n")
		for range random.IntN(40) {
			line := lines[random.IntN(len(lines))]
			if i := random.IntN(20*len(line) + 1); i < len(line) {
				line = line[:i] + line[i+1:]
			}
			b.WriteString(line + "\n")
		}
		text := b.String()
		text += strings.Repeat("}\n", max(0, strings.Count(text, "{\n")-strings.Count(text, "}\n")))
		tr, _, err := translate("x", []byte(text))
		if err != nil {
			continue
		}
		adapted++
		dovecotconf.Walk(tr.conf.Nodes, func(n *dovecotconf.Node) bool {
			if tr.fates[n] == 0 || tr.fates[n] != Carried && !isWarned(tr, n) {
				t.Errorf("%s\nline %d: %s is %s, and there is no warning", text, n.Line, n.Key, tr.fates[n])
			}
			return true
		})
	}
	if adapted < 100 {
		t.Errorf("%d mixtures could be adapted", adapted)
	}
}

// Each line of a mixture that no warning is about makes a difference: without it, something
// else comes out, or is warned of. Lines that say what is the default are left out of the mixtures, and
// none is there twice.
func TestSilentLines(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	pick := func(of ...string) string { return of[random.IntN(len(of))] }
	pieces := []func() string{
		func() string { return "imapc_host = ex1" },
		func() string { return "imapc_port = " + pick("1143", "1993") },
		func() string { return "imapc_ssl = " + pick("imaps", "starttls") },
		func() string { return "imapc_ssl_verify = no" },
		func() string { return "ssl_client_require_valid_cert = no" },
		func() string { return "ssl_client_ca_file = /ca" },
		func() string { return "ssl_client_cert = </cc\nssl_client_key = </ck" },
		func() string { return "imapc_user = " + pick("%n", "%n@x.example") },
		func() string { return "auth_username_format = %n" },
		func() string { return "auth_cache_size = 10M\nauth_cache_ttl = 60" },
		func() string { return "ssl_ca = </x\nauth_ssl_require_client_cert = yes" },
		func() string { return "auth_failure_delay = 3" },
		func() string { return "haproxy_trusted_networks = 10.0.0.0/8\nhaproxy_timeout = 5" },
		func() string { return "listen = " + pick("127.0.0.1", "*", "*, ::1") },
		func() string { return "ssl_min_protocol = TLSv1.3" },
		func() string {
			return "passdb {\ndriver = " + pick("imap", "static") + "\nargs = " + pick("host=ex1", "host=ex1 port=1994 ssl=imaps",
				"host=ex2 ssl=starttls allow_invalid_cert=yes", "proxy=y host=ex3 ssl=yes", "proxy=y host=ex3 starttls=yes port=1145 destuser=%n",
				"ssl_ca_file=/ca3 host=ex1 ssl=imaps", "username=%n host=ex1") + "\n" +
				pick("", "override_fields = proxy=y host=ex4 starttls=yes\n", "mechanisms = plain\n", "use_cache = no\n") + "}"
		},
		func() string {
			return "passdb imap {\n" + pick("imapc_host = ex5\n", "imapc_port = 1995\n", "") + pick("imapc_ssl = imaps\n", "imapc_ssl = starttls\n", "") +
				pick("ssl_client_ca_file = /ca2\n", "imapc_ssl_verify = no\n", "imapc_user = %n@y.example\n", "use_cache = no\n") + "}"
		},
		func() string {
			return "service auth {\ninet_listener {\nport = 12345\naddress = " + pick("::1", "192.0.2.1", "*") + "\n}\n}"
		},
		func() string {
			return "service imap-login {\ninet_listener " + pick("imap", "x") + " {\nport = 1143\n" + pick("ssl = yes", "address = 127.0.0.2", "haproxy = yes") + "\n}\n}"
		},
		func() string {
			return "protocol imap {\n" + pick("auth_mechanisms = plain", "mail_max_userip_connections = 4") + "\n}"
		},
		func() string {
			return "protocol smtp {\n" + pick("auth_mechanisms = login", "imapc_port = 1996") + "\n}"
		},
		func() string {
			return "local_name a.example {\nssl_cert = </c2\nssl_key = </k2\n" + pick("ssl_ca = </x", "ssl_min_protocol = TLSv1.3", "auth_mechanisms = login") + "\n}"
		},
	}
	result := func(lines []string) (config string, tr *translation) {
		tr, c, err := translate("x", []byte(strings.Join(lines, "\n")))
		if err != nil {
			return "", nil
		}
		b, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(string(b), tr.sortedWarnings()), tr
	}
	// saidTwice is about values that stand in other lines, too.
	saidTwice := func(text, value string) bool {
		for word := range strings.FieldsSeq(value) {
			_, after, found := strings.Cut(word, "=")
			if !found {
				after = word
			}
			if len(regexp.MustCompile(`[ =]`+regexp.QuoteMeta(after)+`\b`).FindAllString(text, -1)) < 2 {
				return false
			}
		}
		return true
	}
	looked := 0
	for range 4000 {
		var lines []string
		if random.IntN(2) == 0 {
			lines = append(lines, "dovecot_config_version = 2.4.1")
		}
		lines = append(lines, "ssl_cert = </c", "ssl_key = </k")
		for _, i := range random.Perm(len(pieces))[:2+random.IntN(6)] {
			lines = append(lines, strings.Split(pieces[i](), "\n")...)
		}
		config, tr := result(lines)
		if tr == nil {
			continue
		}
		dovecotconf.Walk(tr.conf.Nodes, func(n *dovecotconf.Node) bool {
			if n.Block || isWarned(tr, n) || n.Key == "dovecot_config_version" || saidTwice(strings.Join(lines, "\n"), n.Value) {
				return true
			}
			without := slices.Clone(lines)
			without[n.Line-1] = "#"
			looked++
			if other, tr := result(without); tr != nil && other == config {
				t.Errorf("%s\nline %d: %s = %s makes no difference, and there is no warning", strings.Join(lines, "\n"), n.Line, n.Key, n.Value)
			}
			return true
		})
		if t.Failed() {
			return
		}
	}
	if looked < 1000 {
		t.Errorf("%d lines were looked at", looked)
	}
}
