package dovecotadapter

import (
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// examples are configurations in files, which the tests of integration adapt, too.
const examples = "../integration/testdata/dovecotconf"

// statement is a line that is not empty, a comment, a closing brace, or one that
// brings in another file.
var statement = regexp.MustCompile(`(?m)^[ \t]*([^ \t\n#}!].*)$`)

// statements counts the settings and blocks of a file without the parser.
func statements(t *testing.T, file string) int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`\\\n[^\n]*`).ReplaceAllString(string(b), "")
	text = regexp.MustCompile(`(?s)<<END\n.*?\nEND\n`).ReplaceAllString(text, "\n")
	return len(statement.FindAllString(text, -1))
}

// Every line is either carried over or has a warning, and there are as many as there
// are lines in the files.
func TestEveryLine(t *testing.T) {
	files, err := filepath.Glob(examples + "/*.conf")
	if err != nil || len(files) < 5 {
		t.Fatalf("examples: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			body, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			tr, _, err := translate(file, body)
			if err != nil {
				t.Fatal(err)
			}
			counts := make(map[Fate]int)
			seen := make(map[string]int)
			dovecotconf.Walk(tr.conf.Nodes, func(n *dovecotconf.Node) bool {
				counts[tr.fates[n]]++
				seen[n.File]++
				if f := tr.fates[n]; f != Carried && !isWarned(tr, n) {
					t.Errorf("%s:%d: %s is %s, and no warning says so", n.File, n.Line, n.Key, f)
				}
				return true
			})
			if counts[0] != 0 {
				t.Errorf("%d lines are not accounted for", counts[0])
			}
			if counts[Carried] == 0 || counts[NotNeeded]+counts[NoEqual] == 0 && !strings.HasPrefix(filepath.Base(file), "proxy-2.4") {
				t.Errorf("fates: %v", counts)
			}
			for name, n := range seen {
				if want := statements(t, name); n != want {
					t.Errorf("%s: %d settings and blocks are accounted for, and there are %d", name, n, want)
				}
			}
			if seen[file] == 0 {
				t.Error("nothing of the file itself is accounted for")
			}
		})
	}
}

// isWarned says whether a warning is about the node or a block around it.
func isWarned(tr *translation, n *dovecotconf.Node) bool {
	for ; n != nil; n = n.Parent() {
		for _, w := range tr.warnings {
			if w.File == n.File && w.Line == n.Line && w.Directive == directive(n) {
				return true
			}
		}
	}
	return false
}

// base is a proxy that needs nothing else.
const base = "imapc_host = ex1.example.org\nimapc_ssl = starttls\nssl_cert = </c.pem\nssl_key = </k.pem\n"

// adapt adapts the base with further lines.
func adapt(more string) (config string, warnings []string, err error) {
	b, list, err := Adapter{}.Adapt([]byte(base+more), nil)
	for _, w := range list {
		if w.Line > 0 {
			warnings = append(warnings, w.Message)
		}
	}
	return string(b), warnings, err
}

func TestSettings(t *testing.T) {
	const auth = "service auth {\ninet_listener {\nport = 12345\n"
	const plain, none = `"handler":"imap"`, ""
	for name, c := range map[string]struct {
		more string
		// config must have a text, or must not if a ! is before it; and warning
		// is a part of the one warning, or "" if there is to be none.
		config, warning string
	}{
		"nothing else":              {"", `"upstreams":[{"dial":"ex1.example.org"}],"extensions":["auto"]}`, none},
		"port":                      {"imapc_port = 1143\n", `"dial":"ex1.example.org:1143"`, none},
		"usual port":                {"imapc_port = 143\n", `"dial":"ex1.example.org"}`, none},
		"implicit":                  {"imapc_ssl = imaps\n", `"tls_mode":"implicit"`, "sets it again"},
		"any certificate":           {"imapc_ssl_verify = no\n", `"tls":{"insecure_skip_verify":true}`, "is not verified, as with Dovecot"},
		"authority":                 {"ssl_client_ca_file = </ca.pem\n", `"pem_files":["/ca.pem"]`, none},
		"client certificate":        {"ssl_client_cert = </a.pem\nssl_client_key = </b.pem\n", `"client_certificate_file":"/a.pem","client_certificate_key_file":"/b.pem"`, none},
		"own password":              {"imapc_password = %w\n", "!master", none},
		"another password":          {"imapc_password = Secret-1\n", "!Secret-1", "with the password that they typed"},
		"whole name":                {"imapc_user = %u\n", `!"username"`, none},
		"local part":                {"imapc_user = %n\n", `"username":"{imap.user.local}"`, "without the domain that was typed"},
		"name with domain":          {"imapc_user = %n@%d\n", `"username":"{imap.user.local}@{imap.user.domain}"`, none},
		"percent":                   {"imapc_user = %%%u\n", `"username":"%{imap.user}"`, none},
		"long names":                {"imapc_user = %{username}@%{domain}\n", `"username":"{imap.user.local}@{imap.user.domain}"`, none},
		"filters":                   {"imapc_user = %{user | domain}\\%{ user|username }\n", `"username":"{imap.user.domain}\\{imap.user.local}"`, none},
		"case":                      {"imapc_user = %Lu\n", `!"username"`, "stay as the user typed them"},
		"usual format":              {"auth_username_format = %Lu\n", `!"username"`, "carried over, but for upper and lower case: names go to the backend as typed"},
		"format as it is":           {"auth_username_format = %u\n", `!"username"`, none},
		"format without domain":     {"auth_username_format = %Ln\n", `"username":"{imap.user.local}"`, "without the domain"},
		"format and name":           {"imapc_user = CORP\\%u\nauth_username_format = %n\n", `"username":"CORP\\{imap.user.local}"`, "user name {imap.user.local}, without"},
		"other format":              {"auth_username_format = %{sha1:user}\n", `!"username"`, "none of the variables"},
		"plain":                     {"auth_mechanisms = plain\n", `"mechanisms":["PLAIN"]`, none},
		"both":                      {"auth_mechanisms = login plain\n", `!mechanisms`, none},
		"unknown, too":              {"auth_mechanisms = plain login external\n", "!mechanisms", "EXTERNAL: there is no such mechanism here"},
		"others, too":               {"auth_mechanisms = login cram-md5\n", `"mechanisms":["LOGIN"]`, "CRAM-MD5: only PLAIN and LOGIN"},
		"how to log in":             {"imapc_sasl_mechanisms = plain\n", `"auth_command":"plain"`, none},
		"how else to log in":        {"imapc_sasl_mechanisms = external\n", `!auth_command`, "auth_command"},
		"clear text":                {"disable_plaintext_auth = no\n", "!insecure_auth", "made safe: passwords are taken over TLS only"},
		"clear text in 2.4":         {"auth_allow_cleartext = yes\n", "!insecure_auth", "made safe: passwords are taken over TLS only"},
		"TLS as usual":              {"ssl = required\ndisable_plaintext_auth = yes\nauth_allow_cleartext = no\n", plain, none},
		"no TLS":                    {"ssl = no\n", "!993", "made safe: passwords are taken over TLS only"},
		"TLS 1.3":                   {"ssl_min_protocol = TLSv1.3\n", `"protocol_min":"tls1.3"`, none},
		"TLS 1.2":                   {"ssl_min_protocol = TLSv1.2\n", "!protocol_min", none},
		"TLS 1.0":                   {"ssl_min_protocol = TLSv1\n", "!protocol_min", "made safe: TLS 1.2"},
		"TLS of 2.2":                {"ssl_protocols = !SSLv3\n", "!protocol_min", "made safe: TLS 1.2 and 1.3"},
		"named ciphers":             {"ssl_cipher_list = ECDHE-RSA-AES128-GCM-SHA256:TLS_AES_128_GCM_SHA256\n", `"cipher_suites":["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]`, none},
		"described ciphers":         {"ssl_cipher_list = ECDHE-RSA-AES128-GCM-SHA256:HIGH\n", "!cipher_suites", "made safe: Caddy's own choice"},
		"ciphers that are gone":     {"ssl_cipher_list = RC4-SHA\n", "!cipher_suites", "made safe: Caddy's own choice"},
		"intermediate certificates": {"ssl_ca = </ca.pem\n", "!ca.pem", "cat /ca.pem >>FILE"},
		"clients' certificates":     {"ssl_ca = </ca.pem\nauth_ssl_require_client_cert = yes\nssl_require_crl = no\n", `"mode":"require_and_verify"`, none},
		"clients' certificates, if": {"ssl_ca = </ca.pem\nssl_verify_client_cert = yes\nssl_require_crl = yes\n", `"mode":"verify_if_given"`, "lists of revoked certificates"},
		"delay":                     {"auth_failure_delay = 1 min\n", `"failure_delay":10000000000`, "which is the most"},
		"no delay":                  {"auth_failure_delay = 0\n", "!guard", "made safe: refusals are held back for 2 seconds"},
		"no delay of a balancer": {"haproxy_trusted_networks = ::ffff:10.0.0.0/104\nhaproxy_timeout = 0\nservice imap-login {\ninet_listener imap {\nhaproxy = yes\n}\n}\n",
			`"allow":["10.0.0.0/8"],"fallback_policy":"REJECT","handler":"proxy_protocol","timeout":3000000000`, "made safe: a load balancer has 3 seconds"},
		"no cache of the passdb":  {"auth_cache_size = 10M\npassdb imap {\nargs = host=ex1.example.org ssl=starttls\nuse_cache = no\n}\n", "!positive_cache", "no effect: dovecot.conf:8 says that the passdb has no cache"},
		"cache of another":        {"auth_cache_size = 10M\nauth_cache_ttl = 60\npassdb imap {\nargs = host=ex1.example.org ssl=starttls\n}\npassdb x {\nuse_cache = no\n}\n", `"positive_cache":60000000000`, "not asked"},
		"usual delay":             {"auth_failure_delay = 2s\n", "!guard", none},
		"short delay":             {"auth_failure_delay = 500 msecs\n", `"failure_delay":500000000`, none},
		"cache":                   {"auth_cache_size = 10M\n", `"positive_cache":300000000000`, "made safe: a right password is believed for 5 minutes"},
		"no cache":                {"auth_cache_size = 0\nauth_cache_ttl = 5 mins\n", "!guard", "without auth_cache_size"},
		"short cache":             {"auth_cache_size = 1024\nauth_cache_ttl = 30\n", `"positive_cache":30000000000`, none},
		"sessions":                {"mail_max_userip_connections = 20\n", `"max_sessions_per_user":20`, "from all addresses together"},
		"any number of sessions":  {"mail_max_userip_connections = 0\n", "!max_sessions_per_user", none},
		"greeting":                {"login_greeting = Mail ready.\n", `"banner":"Mail"`, none},
		"other greeting":          {"login_greeting = Hello you\n", `"banner":"Hello you"`, `will be "Hello you ready."`},
		"greeting with a brace":   {"login_greeting = {env.HOME}\n", "!HOME", "no braces"},
		"webmail":                 {"login_trusted_networks = 10.0.0.1 nobody\n", `"trusted_clients":["10.0.0.1/32"]`, "passwords are taken over TLS only"},
		"webmail of everybody":    {"login_trusted_networks = 0.0.0.0/0\n", "!trusted_clients", "made safe: everybody"},
		"webmail of two halves":   {"login_trusted_networks = 0.0.0.0/1 128.0.0.0/1\n", "!trusted_clients", "made safe: everybody"},
		"webmail of IPv4 as IPv6": {"login_trusted_networks = ::ffff:0.0.0.0/96\n", "!trusted_clients", "made safe: everybody"},
		"webmail of IPv6":         {"login_trusted_networks = 2000::/4\n", "!trusted_clients", "made safe: everybody"},
		"webmail of many":         {"login_trusted_networks = 10.0.0.0/8 10.0.0.0/9 fd00::/8 ::ffff:192.0.2.1\n", `"trusted_clients":["10.0.0.0/8","10.0.0.0/9","fd00::/8","192.0.2.1/32"]`, "passwords are taken over TLS only"},
		"balancer of everybody": {"haproxy_trusted_networks = ::/0\nservice imap-login {\ninet_listener imap {\nhaproxy = yes\n}\n}\n",
			`"handler":"proxy_protocol"`, "everybody who reaches the port"},
		"one family":            {"listen = *\n", `"kept4/:143"`, none},
		"other family":          {"listen = ::\n", `"kept6/:993"`, none},
		"2.4 list":              {"listen {\n127.0.0.1 = yes\n::1 = yes\n}\n", `["kept/127.0.0.1:143","kept/[::1]:143"]`, none},
		"no IMAP":               {"protocols = pop3\n", `!"handler":"imap"`, "no IMAP is served"},
		"POP3, too":             {"protocols = imap pop3\n", plain, "pop3 is not served"},
		"a port that is off":    {"service imap-login {\ninet_listener imap {\nport = 0\n}\n}\n", "!:143", none},
		"a port without TLS":    {"service imap-login {\ninet_listener imaps {\nssl = no\n}\n}\n", "!implicit_tls", none},
		"a listener of its own": {"service imap-login {\ninet_listener x {\nport = 1993\nssl = yes\naddress = 127.0.0.1\n}\n}\n", `"kept/127.0.0.1:1993"`, none},
		"open auth":             {auth + "}\n}\n", `"kept/127.0.0.1:12345"`, "made safe: Dovecot lets every machine"},
		"auth at any address":   {auth + "address = *\n}\n}\n", `"kept/127.0.0.1:12345"`, "made safe: Dovecot lets every machine"},
		"auth at listen":        {"listen = 192.0.2.1\n" + auth + "}\n}\n", `"kept/127.0.0.1:12345"`, "made safe: Dovecot lets every machine"},
		"auth on loopback":      {auth + "address = ::1\n}\n}\n", `"kept/[::1]:12345"`, none},
		"auth on this machine":  {auth + "address = 192.0.2.1\n}\n}\n", `"allow":["127.0.0.0/8","::1/128","192.0.2.1"]`, "made safe: only programs of this machine"},
		"auth without a port":   {"service auth {\ninet_listener {\n}\n}\n", "!dovecot_auth", "it has no port"},
		"auth socket":           {"service auth {\nunix_listener /run/x/auth {\n}\n}\n", `"kept/unix//run/x/auth|0600"`, none},
		"auth socket of Postfix's": {"service auth {\nunix_listener /var/spool/postfix/private/auth {\nmode = 0660\n}\n}\n", `"kept/unix//var/spool/postfix/private/auth|0660"`,
			"use /var/spool/postfix/caddy/auth.sock, and change smtpd_sasl_path to caddy/auth.sock"},
		"auth socket that is off":   {"service auth {\nunix_listener /run/x/auth {\nmode = 0\n}\n}\n", "!dovecot_auth", "its mode is 0"},
		"userdb socket":             {"service auth {\nunix_listener /run/x/a-userdb {\nmode = 0660\n}\n}\n", `"handler":"dovecot_userdb"`, none},
		"master socket":             {"service auth {\nunix_listener auth-master {\nmode = 0660\n}\n}\n", "!kept/unix", "not needed: Dovecot's own processes"},
		"for IMAP":                  {"protocol imap {\nmail_max_userip_connections = 5\n}\nmail_max_userip_connections = 9\n", `"max_sessions_per_user":5`, "sets it again"},
		"not for POP3":              {"protocol !pop3 {\nmail_max_userip_connections = 5\n}\n", `"max_sessions_per_user":5`, "together"},
		"for IMAP, too":             {auth + "}\n}\nprotocol imap {\nauth_mechanisms = plain\n}\n", `{"backend":"default","handler":"dovecot_auth","mechanisms":["PLAIN"]}`, "holds for mail servers, too"},
		"for mail servers":          {auth + "}\n}\nprotocol smtp {\nauth_mechanisms = login\n}\n", "!LOGIN", "not carried over: nothing can hold for mail servers alone"},
		"not for mail servers":      {auth + "}\n}\nprotocol !smtp {\nauth_failure_delay = 3\n}\n", `"failure_delay":3000000000`, "holds for mail servers, too"},
		"mail servers that ask not": {"protocol smtp {\npassdb {\ndriver = passwd-file\ndeny = yes\n}\n}\n", plain, "not needed"},
		"certificates for IMAP":     {"ssl_ca = </ca.pem\nssl_require_crl = no\nprotocol imap {\nauth_ssl_require_client_cert = yes\n}\nservice auth {\nunix_listener /run/x/auth {\n}\n}\n", `"mode":"require_and_verify"`, none},
		"auth at all of IPv4":       {auth + "address = ::ffff:0.0.0.0\n}\n}\n", `"kept/127.0.0.1:12345"`, "made safe: Dovecot lets every machine"},
		"names":                     {"auth_username_chars = abc\n", plain, "not carried over. Names with other characters"},
		"a userdb beside static":    {"userdb {\ndriver = passwd-file\nargs = /x\n}\nuserdb {\ndriver = static\n}\n", plain, "not needed"},
		"an option of imap":         {"service imap {\nexecutable = imap -D\n}\n", plain, "not needed"},
		"for POP3":                  {"protocol pop3 {\nmail_max_userip_connections = 5\n}\n", "!max_sessions_per_user", "Caddy does not serve"},
		"a name's certificate":      {"local_name a.example {\nssl_cert = </d.pem\nssl_key = </e.pem\n}\n", `{"certificate":"/d.pem","key":"/e.pem"}`, none},
		"variable":                  {"a_host = x\nimapc_list_prefix = $auth_realms\nlogin_greeting = $a_host ready.\n", `"banner":"x"`, "unknown"},
		"unknown variable":          {"login_greeting = $auth_realms x ready.\n", `"banner":"x"`, "$auth_realms is set nowhere"},
		"here in clear text":        {"imapc_host = localhost\nimapc_ssl = no\n", `"tls_mode":"off"`, "sets it again"},
		"there in clear text":       {"imapc_ssl = no\n", `"insecure_skip_verify":true`, "made safe: Dovecot sent passwords"},
		"no such setting":           {"x_y = 1\n", plain, "unknown: no such setting"},
		"no such block":             {"x_y z {\na = 1\n}\n", plain, "unknown: no such block is known here; if something depends on it, look for it in docs/options.md (the block, to line 7)"},
		"in the wrong place":        {"service auth {\n}\nport = 1\n", plain, "unknown"},
		"no address":                {"service imap-login {\ninet_listener imap {\naddress =\n}\n}\n", `"kept/:143"`, none},
		"a guard that is off":       {"login_access_sockets =\n", plain, "no effect: it is off"},
		"a key without certificate": {"ssl_alt_key = </k2.pem\n", "!k2", "there is no certificate for this key"},
	} {
		t.Run(name, func(t *testing.T) {
			config, warnings, err := adapt(c.more)
			if err != nil {
				t.Fatal(err)
			}
			if text, not := strings.CutPrefix(c.config, "!"); strings.Contains(config, text) == not {
				t.Errorf("config: got %s\nwant %s", config, c.config)
			}
			switch found := slices.ContainsFunc(warnings, func(w string) bool { return strings.Contains(w, c.warning) }); {
			case c.warning == none && len(warnings) > 0, !found && c.warning != none:
				t.Errorf("warnings: got %q, want %q", warnings, c.warning)
			}
			if found := strings.Contains(strings.Join(warnings, "\n"), "Secret"); found {
				t.Errorf("a warning has a secret: %q", warnings)
			}
		})
	}
}

func TestPassdb(t *testing.T) {
	const certs = "ssl_cert = </c.pem\nssl_key = </k.pem\n"
	for name, c := range map[string]struct{ text, config, warning string }{
		"imap":             {"passdb {\ndriver = imap\nargs = host=a.example port=993 ssl=imaps\n}\n", `"upstreams":[{"dial":"a.example"}],"tls_mode":"implicit"`, ""},
		"named":            {"passdb imap {\nargs = host=a.example ssl=starttls ssl_ca_file=/ca.pem\n}\n", `"pem_files":["/ca.pem"]`, ""},
		"clear text":       {"passdb imap {\nargs = host=a.example\n}\n", `"insecure_skip_verify":true`, "ssl=starttls, in args"},
		"any certificate":  {"passdb imap {\nargs = host=a.example ssl=starttls allow_invalid_cert=yes\n}\n", `"insecure_skip_verify":true`, "as with Dovecot"},
		"TLS in one place": {"imapc_host = a.example\npassdb imap {\nargs = host=a.example port=1993 ssl=imaps\n}\n", `"dial":"a.example:1993"`, ""},
		"extensions":       {"imapc_host = a.example\nimapc_ssl = starttls\n", `"extensions":["auto"]`, ""},
		"no extensions":    {"passdb {\ndriver = static\nargs = nopassword=y proxy=y host=a.example ssl=yes\n}\n", "!extensions", ""},
		"two hosts":        {"imapc_host = a.example\nimapc_ssl = starttls\npassdb imap {\nargs = host=b.example ssl=starttls\n}\n", `"dial":"a.example"`, "where the mailboxes are"},
		"two passdbs":      {"passdb {\ndriver = imap\nargs = host=a.example ssl=starttls\n}\npassdb {\ndriver = imap\nargs = host=b.example ssl=starttls\n}\n", `"dial":"a.example"`, "there is one backend"},
		"in two parts":     {"passdb imap {\nargs = host=a.example ssl=starttls\n}\npassdb imap {\nargs = host=b.example ssl=starttls\n}\n", `"dial":"b.example"`, "sets it again"},
		"another passdb":   {"passdb imap {\nargs = host=a.example ssl=starttls\n}\npassdb {\ndriver = pam\nargs = dovecot\nresult_failure = return-fail\n}\n", `"dial":"a.example"`, "it is not asked"},
		"master users":     {"imapc_host = a.example\nimapc_ssl = starttls\npassdb {\ndriver = passwd-file\nmaster = yes\nargs = /x\n}\n", `"dial":"a.example"`, "nobody can log in for another user"},
		"modern":           {"dovecot_config_version = 2.4.0\npassdb imap {\nimapc_host = a.example\nimapc {\nssl = imaps\nport = 1993\n}\n}\n", `"dial":"a.example:1993"}],"tls_mode":"implicit"`, ""},
		"modern, TLS on top": {"dovecot_config_version = 2.4.0\nimapc_ssl = imaps\nimapc_port = 1993\nssl_client_ca_file = /ca.pem\npassdb imap {\nimapc_host = a.example\n}\n",
			`"upstreams":[{"dial":"a.example:1993"}],"tls_mode":"implicit","tls":{"ca":{"pem_files":["/ca.pem"],"provider":"file"}}`, ""},
		"modern, host on top":     {"dovecot_config_version = 2.4.0\nimapc_host = a.example\npassdb imap {\nimapc_port = 1993\nimapc_ssl = imaps\n}\n", `"upstreams":[{"dial":"a.example:1993"}],"tls_mode":"implicit",`, ""},
		"modern, port of its own": {"dovecot_config_version = 2.4.0\nimapc_host = a.example\nimapc_ssl = starttls\npassdb imap {\nimapc_port = 1993\n}\n", `"dial":"a.example:1993"`, ""},
		"modern, two ports":       {"dovecot_config_version = 2.4.0\nimapc_host = a.example\nimapc_ssl = starttls\nimapc_port = 1143\npassdb imap {\nimapc_port = 1993\n}\n", `"dial":"a.example:1143"`, "the connection is made as x.conf:3 says"},
		"on top, in vain":         {"imapc_port = 1993\nimapc_ssl = imaps\npassdb imap {\nargs = host=a.example ssl=starttls\n}\n", `"dial":"a.example"}`, "there is no imapc_host"},
		"on top of a proxy":       {"imapc_host = b.example\nimapc_port = 1993\nimapc_ssl = imaps\npassdb {\ndriver = static\nargs = proxy=y host=a.example ssl=yes\n}\n", `"dial":"a.example"}`, "handed on to another server"},
		"userdb of a proxy":       {"userdb {\ndriver = passwd\n}\npassdb {\ndriver = static\nargs = proxy=y host=a.example ssl=yes\n}\n", `"dial":"a.example"}`, "not needed"},
		"modern inherits":         {"dovecot_config_version = 2.4.0\nimapc {\nhost = a.example\nssl = starttls\n}\npassdb imap {\n}\n", `"dial":"a.example"`, ""},
		"proxy":                   {"passdb {\ndriver = static\nargs = nopassword=y proxy=y host=a.example ssl=yes\n}\n", `"forward_client":"id"`, ""},
		"secret proxy":            {"passdb {\ndriver = static\nargs = nopassword=y proxy=y host=a.example starttls=yes proxy_not_trusted=y\n}\n", `!forward_client`, ""},
		"open proxy":              {"passdb {\ndriver = static\nargs = nopassword=y proxy=y host=a.example\n}\n", `"insecure_skip_verify":true`, "add here: starttls=yes"},
		"master password":         {"passdb {\ndriver = static\nargs = nopassword=y proxy=y host=a.example ssl=yes pass=Secret\n}\n", "!Secret", "with the password that the user typed"},
		"password in two":         {"passdb {\ndriver = static\nargs = nopassword=y proxy=y host=a.example ssl=yes\ndefault_fields = pass=my Secret\n}\n", "!Secret", "the field behind a password"},
		"a password with =":       {"passdb {\ndriver = static\nargs = nopassword=y proxy=y host=a.example ssl=yes pass=my Secret=x userdb_Secret=1\n}\n", "!Secret", "the field behind a password"},
		"no value":                {"passdb {\ndriver = static\nargs = nopassword=y proxy=y host=a.example ssl=yes Secret\n}\n", `"dial":"a.example"`, "the field without a value"},
		"strange argument":        {"passdb imap {\nargs = host=a.example ssl=starttls what=1\n}\n", `"dial":"a.example"`, "the argument what is not known"},
		"unknown field":           {"passdb {\ndriver = static\nargs = nopassword=y proxy=y host=a.example ssl=yes xyz=1\n}\n", `"dial":"a.example"`, "the field xyz is not known"},
	} {
		t.Run(name, func(t *testing.T) {
			text := c.text + certs
			b, list, err := Adapter{}.Adapt([]byte(text), map[string]any{"filename": "x.conf"})
			if err != nil {
				t.Fatal(err)
			}
			if text, not := strings.CutPrefix(c.config, "!"); strings.Contains(string(b), text) == not {
				t.Errorf("config: got %s\nwant %s", b, c.config)
			}
			var all []string
			for _, w := range list {
				if w.Line > 0 {
					all = append(all, w.Message)
				}
			}
			if c.warning == "" && len(all) > 0 || !strings.Contains(strings.Join(all, "\n"), c.warning) {
				t.Errorf("warnings: got %q, want %q", all, c.warning)
			}
			if strings.Contains(strings.Join(all, "\n"), "Secret") {
				t.Errorf("a warning has a secret: %q", all)
			}
		})
	}
}

// What keeps people out and cannot be carried over is an error with its line, and so is
// what makes no sense.
func TestRefused(t *testing.T) {
	const proxy = "driver = static\nargs = proxy=y host=a.example ssl=yes\n"
	const mailServers = "service auth {\nunix_listener /run/x/auth {\n}\n}\n"
	for name, c := range map[string]struct{ more, err string }{
		"a list of users":         {"passdb {\ndriver = passwd-file\nargs = /etc/users\ndefault_fields = proxy=y host=a.example ssl=yes\n}\n", "dovecot.conf:6: driver: only those logins are handed on that this passdb, with the driver passwd-file, lets in"},
		"a list of users in 2.4":  {"passdb passwd-file {\nfields {\nproxy = y\nhost = a.example\n}\n}\n", "dovecot.conf:5: passdb: only those logins"},
		"checked and handed on":   {"passdb imap {\nargs = host=b.example ssl=starttls\ndefault_fields = proxy=y host=a.example\n}\n", "dovecot.conf:5: passdb: only those logins"},
		"other passwords":         {"passdb {\ndriver = pam\n}\n", "dovecot.conf:6: driver: only users that the driver pam lets in"},
		"no other passdb":         {"passdb {\ndriver = passwd-file\nresult_failure = return-fail\n}\npassdb imap {\nargs = host=a.example\n}\n", "dovecot.conf:7: result_failure: whoever is not in this passdb"},
		"users of a userdb":       {"userdb {\ndriver = passwd-file\nargs = /x\n}\n", "dovecot.conf:5: userdb: users that the driver passwd-file does not know"},
		"users of 2.4":            {"userdb passwd {\n}\nuserdb ldap {\n}\n", "dovecot.conf:7: userdb: users that the driver ldap does not know"},
		"a script":                {"service imap {\nexecutable = imap -D imap-postlogin\n}\nservice imap-postlogin {\nexecutable = script-login /x.sh\n}\n", "dovecot.conf:6: executable: the script of the service imap-postlogin"},
		"a policy":                {"auth_policy_server_url = http://127.0.0.1/\n", "dovecot.conf:5: auth_policy_server_url: The server can keep people out"},
		"a policy in 2.4":         {"auth_policy {\nserver_url = http://127.0.0.1/\n}\n", "dovecot.conf:6: server_url: The server can keep people out"},
		"names of certificates":   {"auth_ssl_username_from_cert = yes\n", "dovecot.conf:5: auth_ssl_username_from_cert: Who shows"},
		"certificates and mail":   {"ssl_ca = </ca.pem\nauth_ssl_require_client_cert = yes\nservice auth {\ninet_listener {\nport = 12345\n}\n}\n", "dovecot.conf:6: auth_ssl_require_client_cert: with it, Dovecot refuses all"},
		"certificates for mail":   {"protocol smtp {\nauth_ssl_require_client_cert = yes\n}\nservice auth {\nunix_listener /run/x/auth {\n}\n}\n", "dovecot.conf:6: auth_ssl_require_client_cert: it keeps people from sending"},
		"denied mail":             {mailServers + "protocol smtp {\npassdb {\ndriver = passwd-file\ndeny = yes\n}\n}\n", "passdb: it keeps people from sending mail"},
		"denied mail, by fields":  {mailServers + "protocol submission {\npassdb static {\nfields {\nallow_nets = 10.0.0.0/8\n}\n}\n}\n", "passdb: it keeps people from sending mail"},
		"denied but to clients":   {mailServers + "protocol !imap {\npassdb {\nargs = nologin\n}\n}\n", "passdb: it keeps people from sending mail"},
		"networks at an address":  {"local 10.0.0.1 {\npassdb x {\ndefault_fields = allow_nets=10.0.0.0/8\n}\n}\n", "dovecot.conf:6: passdb: it keeps people out"},
		"no addresses":            {"listen =\n", "dovecot.conf:5: listen: it cannot be empty"},
		"no variable":             {"x_y = $nothing\n", "dovecot.conf:5: x_y: nothing sets $nothing"},
		"password with a $":       {"ssl_key_password = $Secret\n", "dovecot.conf:5: ssl_key_password: nothing sets $..., which"},
		"a long time":             {"auth_failure_delay = 2147483647 weeks\n", `dovecot.conf:5: auth_failure_delay: "2147483647 weeks" is too long`},
		"syntax":                  {"x\n", "dovecot.conf:5: expected {, or = before a value"},
		"denied users":            {"passdb {\ndriver = passwd-file\ndeny = yes\n}\n", "dovecot.conf:7: deny: the users"},
		"some users":              {"passdb imap {\nusername_filter = a*\n}\n", "dovecot.conf:6: username_filter: it lets only some users in"},
		"two passwords":           {"passdb imap {\nresult_success = continue-ok\n}\n", "dovecot.conf:6: result_success: a right password"},
		"networks":                {"passdb imap {\ndefault_fields = allow_nets=10.0.0.0/8\n}\n", "dovecot.conf:6: default_fields: with allow_nets"},
		"denied users in 2.4":     {"passdb_deny = yes\n", "dovecot.conf:5: passdb_deny: It keeps"},
		"tcpwrap":                 {"login_access_sockets = tcpwrap\n", "dovecot.conf:5: login_access_sockets: It keeps"},
		"clients' certificates":   {"auth_ssl_require_client_cert = yes\n", "dovecot.conf:5: auth_ssl_require_client_cert: there is no ssl_ca"},
		"clients of some address": {"local 10.0.0.1 {\nauth_ssl_require_client_cert = yes\n}\n", "dovecot.conf:6: auth_ssl_require_client_cert: it keeps people out"},
		"denied at an address":    {"local 10.0.0.1 {\npassdb x {\ndeny = yes\n}\n}\n", "dovecot.conf:6: passdb: it keeps people out"},
		"authority":               {"passdb imap {\nargs = ssl_ca_file={x}\n}\n", "dovecot.conf:6: args: ssl_ca_file="},
		"a key with %d":           {"x%d {\nusername_filter = x\n}\nlocal 10.0.0.1 {\nx%d {\npassdb y {\ndeny = yes\n}\n}\n}\n", "dovecot.conf:9: x%d: it keeps"},
		"no mechanism":            {"auth_mechanisms = gssapi\n", "dovecot.conf:5: auth_mechanisms: none of these"},
		"one host a domain":       {"passdb {\n" + strings.Replace(proxy, "a.example", "imap.%d", 1) + "}\n", "depends on the name of the user"},
		"no host":                 {"passdb {\n" + strings.Replace(proxy, "host=a.example", "", 1) + "}\n", "dovecot.conf:5: passdb: it hands logins on"},
		"one user":                {"imapc_user = shared\n", "dovecot.conf:5: imapc_user: all users would log in"},
		"strange name":            {"imapc_user = %h\n", "dovecot.conf:5: imapc_user: the name to log in with"},
		"yes or no":               {"disable_plaintext_auth = maybe\n", "dovecot.conf:5: disable_plaintext_auth: the value must be yes or no"},
		"no port":                 {"service imap-login {\ninet_listener imap {\nport = x\n}\n}\n", `dovecot.conf:7: port: "x" is no port`},
		"haproxy":                 {"service imap-login {\ninet_listener imap {\nhaproxy = yes\n}\n}\n", "dovecot.conf:6: inet_listener: a listener has haproxy"},
		"no key":                  {"ssl_alt_cert = </x.pem\n", "dovecot.conf:5: ssl_alt_cert: there is no key"},
		"certificate as text":     {"ssl_cert = {env.HOME}\n", "dovecot.conf:5: ssl_cert: the value must be the name of a file"},
		"no time":                 {"auth_failure_delay = soon\n", `dovecot.conf:5: auth_failure_delay: "soon" is no time`},
		"socket":                  {"service auth {\nunix_listener /a:b {\n}\n}\n", "dovecot.conf:6: unix_listener: the path"},
	} {
		t.Run(name, func(t *testing.T) {
			config, _, err := adapt(c.more)
			if err == nil || !strings.Contains(err.Error(), c.err) || config != "" {
				t.Errorf("got %s, %v; want %s", config, err, c.err)
			}
			if err != nil && strings.Contains(err.Error(), "Secret") {
				t.Errorf("an error has a secret: %v", err)
			}
			if at := (*dovecotconf.Error)(nil); !errors.As(err, &at) {
				t.Errorf("%v has no line", err)
			}
		})
	}
	for name, text := range map[string]string{"nothing": "", "mail of its own": "protocols = imap\npassdb {\ndriver = pam\n}\n"} {
		if b, _, err := (Adapter{}).Adapt([]byte(text), nil); err == nil || !strings.Contains(err.Error(), "nothing names the IMAP server") {
			t.Errorf("%s: got %s, %v", name, b, err)
		}
	}
}
