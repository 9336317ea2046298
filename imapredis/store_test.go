package imapredis

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// TestCaddyfile pins what the options are in JSON.
func TestCaddyfile(t *testing.T) {
	for input, want := range map[string]string{
		"redis":                            `{}`,
		"redis {\n}":                       `{}`,
		"redis {\naddress a b:1\n}":        `{"addresses":["a","b:1"]}`,
		"redis {\naddress a\naddress b\n}": `{"addresses":["a","b"]}`,
		"redis {\nusername u\npassword {env.P}\ndb 3\nkey_prefix p\n}": `{"username":"u","password":"{env.P}","db":3,"key_prefix":"p"}`,
		"redis {\ndb 0\n}":                               `{}`,
		"redis {\ntls on\n}":                             `{"tls":{}}`,
		"redis {\ntls off\n}":                            `{}`,
		"redis {\ntls_server_name n\n}":                  `{"tls":{"server_name":"n"}}`,
		"redis {\ntls_insecure_skip_verify\n}":           `{"tls":{"insecure_skip_verify":true}}`,
		"redis {\ntls_client_auth c.pem k.pem\n}":        `{"tls":{"client_certificate_file":"c.pem","client_certificate_key_file":"k.pem"}}`,
		"redis {\ntls on\ntls_trust_pool file ca.pem\n}": `{"tls":{"ca":{"pem_files":["ca.pem"],"provider":"file"}}}`,
	} {
		s := new(Store)
		if err := s.UnmarshalCaddyfile(caddyfile.NewTestDispenser(input)); err != nil {
			t.Errorf("%s: %v", input, err)
			continue
		}
		got, err := json.Marshal(s)
		if err != nil || string(got) != want {
			t.Errorf("%s: %s, %v, want %s", input, got, err, want)
		}
	}
}

func TestCaddyfileErrors(t *testing.T) {
	for input, want := range map[string]string{
		"redis localhost":                        "unexpected argument 'localhost'; options go into a block, one a line",
		"redis {\nhost a\n}":                     "unknown option 'host'; known are address, db, key_prefix, password, tls, tls_client_auth",
		"redis {\naddress\n}":                    "option 'address': value is missing",
		"redis {\npassword a b\n}":               "option 'password': takes one value",
		"redis {\npassword a\npassword b\n}":     "duplicate option 'password'",
		"redis {\nusername \"\"\n}":              "option 'username': value is empty",
		"redis {\ndb -1\n}":                      "option 'db': -1: not a whole number of at least 0",
		"redis {\ndb x\n}":                       "option 'db': x: not a whole number of at least 0",
		"redis {\ntls maybe\n}":                  "option 'tls': maybe: must be on or off",
		"redis {\ntls off\ntls_server_name n\n}": "option 'tls': with off, no option that begins with tls_ can be used",
		"redis {\ntls_trust_pool\n}":             "option 'tls_trust_pool': module is missing",
		"redis {\ntls_trust_pool nothing\n}":     "option 'tls_trust_pool': unknown module 'nothing'; known are",
		"redis {\nkey_prefix a {\nx\n}\n}":       "option 'key_prefix': takes no block",
	} {
		err := new(Store).UnmarshalCaddyfile(caddyfile.NewTestDispenser(input))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", input, err, want)
		}
	}
}

// provision returns a store from JSON.
func provision(t testing.TB, config string) (*Store, error) {
	t.Helper()
	s := new(Store)
	if err := json.Unmarshal([]byte(config), s); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	return s, s.Provision(ctx)
}

func TestProvision(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte("from a file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TEST_REDIS_PASSWORD", "from the environment")
	t.Setenv("TEST_REDIS_HOST", "redis.example.org")
	for _, tc := range []struct{ config, addresses, username, password, prefix string }{
		{`{}`, "localhost:6379", "", "", "caddy-imap"},
		{`{"addresses":["127.0.0.1"],"password":"plain"}`, "127.0.0.1:6379", "", "plain", "caddy-imap"},
		{`{"addresses":["unix//run/redis.sock"]}`, "/run/redis.sock", "", "", "caddy-imap"},
		{`{"addresses":["a:1","b"],"key_prefix":"{env.TEST_REDIS_HOST}"}`, "a:1 b:6379", "", "", "redis.example.org"},
		{`{"addresses":["{env.TEST_REDIS_HOST}:1"],"username":"u","password":"{env.TEST_REDIS_PASSWORD}"}`, "redis.example.org:1", "u", "from the environment", "caddy-imap"},
		{`{"password":"{file.` + filepath.ToSlash(file) + `}"}`, "localhost:6379", "", "from a file", "caddy-imap"},
	} {
		s, err := provision(t, tc.config)
		if err != nil {
			t.Errorf("%s: %v", tc.config, err)
			continue
		}
		if got := strings.Join(s.options.Addrs, " "); got != tc.addresses || s.options.Username != tc.username ||
			s.options.Password != tc.password || s.prefix != tc.prefix {
			t.Errorf("%s: addresses %s, username %q, password %q, prefix %q", tc.config, got, s.options.Username, s.options.Password, s.prefix)
		}
		// What the admin API shows is what was written.
		shown, err := json.Marshal(s)
		if err != nil || strings.Contains(string(shown), "from ") {
			t.Errorf("%s: it is shown as %s, %v", tc.config, shown, err)
		}
		// Nothing listens, and nobody waits for it.
		if _, err := s.Open(); err != nil {
			t.Errorf("%s: opening: %v", tc.config, err)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s: closing: %v", tc.config, err)
		}
	}
}

func TestProvisionErrors(t *testing.T) {
	for config, want := range map[string]string{
		`{"addresses":["a:b"]}`:                               `address "a:b": not an address such as host:port`,
		`{"addresses":["a:1-2"]}`:                             `address "a:1-2": a range of ports cannot be dialled; name one port`,
		`{"addresses":[":1"]}`:                                `address ":1": it names no host; write host:port`,
		`{"addresses":["a:0"]}`:                               `address "a:0": port 0 cannot be dialled`,
		`{"addresses":["udp/a:1"]}`:                           `address "udp/a:1": Redis is not spoken on the network udp; use tcp or unix`,
		`{"addresses":["redis://a:1"]}`:                       `address "redis://a:1": it has no scheme; write host:port`,
		`{"addresses":["redis://u:hunter2@a:1"]}`:             `address: it has no scheme; write host:port`,
		`{"addresses":["u:hunter2@a:1"]}`:                     `address: not an address such as host:port`,
		`{"addresses":["{env.TEST_REDIS_NOTHING}"]}`:          `address "{env.TEST_REDIS_NOTHING}": evaluated placeholder {env.TEST_REDIS_NOTHING} is empty`,
		`{"addresses":["unix//a","b"]}`:                       `address unix//a: the nodes of a Redis Cluster have no unix sockets`,
		`{"addresses":["unix//a"],"tls":{}}`:                  `the certificate of a unix socket's server has no name to be valid for; set tls_server_name, or tls off`,
		`{"username":"u"}`:                                    `username: it is of no use without a password; add the option password`,
		`{"password":"hun{ter2}"}`:                            `password: a placeholder in it is unknown or empty; a brace that begins none is written \{`,
		`{"password":"{env.TEST_REDIS_NOTHING}"}`:             `password: a placeholder in it is unknown or empty`,
		`{"username":"{file./nowhere}","password":"hunter2"}`: `username: the file of a placeholder in it cannot be read`,
		`{"db":-1}`:                                                   `db -1: must be at least 0`,
		`{"db":1,"addresses":["a","b"]}`:                              `db 1: a Redis Cluster has number 0 only; remove db, or all addresses but one`,
		`{"key_prefix":"a\\{b"}`:                                      `key_prefix "a{b": it must have no braces`,
		`{"key_prefix":"{env.TEST_REDIS_NOTHING}"}`:                   `key_prefix "{env.TEST_REDIS_NOTHING}": evaluated placeholder`,
		`{"tls":{"handshake_timeout":1}}`:                             `tls: handshake_timeout cannot be used`,
		`{"tls":{"except_ports":["1"]}}`:                              `tls: except_ports cannot be used`,
		`{"tls":{"client_certificate_file":"/nowhere"}}`:              `tls: `,
		`{"tls":{"ca":{"provider":"file","pem_files":["/nowhere"]}}}`: `tls: `,
	} {
		_, err := provision(t, config)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", config, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "ter2")) {
			t.Errorf("%s: the error shows the password: %v", config, err)
		}
	}
}
