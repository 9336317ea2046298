//go:build linux

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// All peers: TLS 1.3, AES-128-GCM but for perdition, and what they log by default in
// a file. Where a default would keep a peer from as many sessions as we open, it is
// raised; Dovecot's login processes stay, which is faster. docs/performance.md tells
// what else could be set.

// runCaddy has everything on that is on by default, the guard among it.
func runCaddy(s *site) ([]string, error) {
	backend := "tls off"
	if s.tls {
		backend = "tls_trust_pool file <cert>"
	}
	if s.extended {
		backend += "\n\t\t\textensions auto"
	}
	file, err := s.write("Caddyfile", `{
	admin unix/<dir>/admin.sock
	skip_install_trust
	storage file_system <dir>/storage
	log {
		output file <dir>/log
	}
	imap {
		certificate <cert> <key>
		backend site {
			upstream <backend>
			`+backend+`
		}
	}
	layer4 {
		kept/<addr> {
			route {
				imap site
			}
		}
	}
}
`)
	return []string{"", "run", "--adapter", "caddyfile", "--config", file}, err
}

func runNginx(s *site) ([]string, error) {
	module := "/usr/lib/nginx/modules/ngx_mail_module.so"
	load := "load_module " + module + ";\n"
	if _, err := os.Stat(module); err != nil {
		load = "" // then it may be built in
	}
	file, err := s.write("nginx.conf", load+`daemon off;
worker_processes auto;
worker_rlimit_nofile <files>;
pid <dir>/pid;
error_log <dir>/log warn;
events {
	worker_connections <files>;
}
mail {
	server_name localhost;
	auth_http <auth>/;
	proxy_pass_error_message on;
	imap_capabilities IMAP4rev1 SASL-IR LITERAL+ IDLE;
	ssl_certificate <cert>;
	ssl_certificate_key <key>;
	ssl_protocols TLSv1.3;
	ssl_ecdh_curve X25519;
	ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
	server {
		listen <addr>;
		protocol imap;
		starttls only;
	}
}
`)
	return []string{"", "-p", s.dir, "-e", filepath.Join(s.dir, "log"), "-c", file}, err
}

// runHAProxy knows no STARTTLS, and no login either: it only does TLS.
func runHAProxy(s *site) ([]string, error) {
	server := "<backend>"
	if s.tls {
		server = "<backend tls> ssl verify required ca-file <cert> sni str(localhost)"
	}
	file, err := s.write("haproxy.cfg", `global
	maxconn <half files>
	ssl-default-bind-options ssl-min-ver TLSv1.3
	ssl-default-bind-ciphersuites TLS_AES_128_GCM_SHA256
	ssl-default-server-ciphersuites TLS_AES_128_GCM_SHA256
	ssl-default-bind-curves X25519
defaults
	mode tcp
	maxconn <half files>
	timeout connect 10s
	timeout client 1h
	timeout server 1h
frontend imaps
	bind <addr> ssl crt <both>
	default_backend site
backend site
	server one `+server+`
`)
	return []string{"", "-db", "-f", file}, err
}

// dovecotBase lets login processes stay, one for each CPU, which Dovecot calls
// its performance mode. The defaults, a process for each login, cost ten times
// as much.
const dovecotBase = `protocols = imap
base_dir = <dir>/run
state_dir = <dir>/run
log_path = <dir>/log
ssl = required
ssl_cert = <<cert>
ssl_key = <<key>
ssl_min_protocol = TLSv1.2
ssl_curve_list = X25519
ssl_cipher_suites = TLS_AES_128_GCM_SHA256
default_client_limit = <files>
default_process_limit = 2000
default_vsz_limit = 4G
mail_max_userip_connections = 0
service imap-login {
	service_count = 0
	process_min_avail = <cpus>
	process_limit = <cpus>
	client_limit = <half files>
	inet_listener imap {
		address = <host>
		port = <port>
	}
	inet_listener imaps {
		port = 0
	}
}
`

// writeDovecot knows the words of Dovecot 2.3 alone.
func (s *site) writeDovecot(more string) ([]string, error) {
	if v, err := exec.Command("dovecot", "--version").Output(); err == nil && !strings.HasPrefix(string(v), "2.3.") {
		return nil, fmt.Errorf("its configuration is written for 2.3, and this is %s", strings.TrimSpace(string(v)))
	}
	text := strings.ReplaceAll(dovecotBase, "<cpus>", fmt.Sprint(runtime.NumCPU()))
	file, err := s.write("dovecot.conf", text+more)
	return []string{"", "-F", "-c", file}, err
}

func runDovecotProxy(s *site) ([]string, error) {
	secure := ""
	if s.tls {
		// It would not find our certificate from within its chroot. So it is spared
		// what the others do: to verify it.
		secure = " starttls=any-cert"
	}
	return s.writeDovecot(`passdb {
	driver = static
	args = proxy=y nopassword=y host=127.0.0.1 port=<backend port>` + secure + `
}
`)
}

// runImapc is the recipe that docs/migrate.md leads away from: it logs in twice
// for each session, and has a process for each.
func runImapc(s *site) ([]string, error) {
	home := filepath.Join(s.dir, "home")
	if err := os.Mkdir(home, 0o777); err != nil {
		return nil, fmt.Errorf("making a directory: %w", err)
	}
	if err := os.Chmod(home, 0o777); err != nil {
		return nil, fmt.Errorf("opening a directory: %w", err)
	}
	return s.writeDovecot(`mail_uid = nobody
mail_gid = nogroup
first_valid_uid = 1
mail_home = <dir>/home/%u
mail_location = imapc:~/imapc
imapc_host = 127.0.0.1
imapc_port = <backend port>
passdb {
	driver = imap
	args = host=127.0.0.1 port=<backend port>
	default_fields = userdb_imapc_user=%u userdb_imapc_password=%w
}
userdb {
	driver = prefetch
}
`)
}

// runPerdition offers no X25519, so its clients take P-256.
func runPerdition(s *site) ([]string, error) {
	cert, key := certificateFiles(s.world.dir)
	_, backendPort, _ := strings.Cut(s.plain, ":")
	host, port, _ := strings.Cut(s.addr, ":")
	file, err := s.write("perdition.conf", "")
	if err != nil {
		return nil, err
	}
	log, err := s.write("log", "")
	if err != nil {
		return nil, err
	}
	// It opens it again as another user.
	if err := os.Chmod(log, 0o666); err != nil {
		return nil, fmt.Errorf("opening the log: %w", err)
	}
	return []string{
		"", "--config_file", file, "--no_daemon", "--pid_file", "", "--log_facility", log,
		"--bind_address", host, "--listen_port", port,
		"--no_lookup", "--map_library", "", "--outgoing_server", "127.0.0.1", "--outgoing_port", backendPort,
		"--ssl_mode", "tls_listen", "--ssl_cert_file", cert, "--ssl_key_file", key, "--ssl_no_cert_verify",
	}, nil
}
