package dovecotadapter

import (
	"regexp"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

// Fate is what becomes of a setting or block.
type Fate int

// The fates. All but Carried come with a warning, or an error.
const (
	// Carried is what Caddy is told, too.
	Carried Fate = iota + 1
	// NotNeeded is what has no meaning here.
	NotNeeded
	// NoEqual is what has none here; something else may have to be done.
	NoEqual
	// NoEffect is what does nothing with Dovecot either.
	NoEffect
	// Unknown is what no rule is about.
	Unknown
	// Refused is what keeps people out, and cannot be carried over.
	Refused
)

// String returns the words that warnings begin with.
func (f Fate) String() string {
	switch f {
	case Carried:
		return "carried over"
	case NotNeeded:
		return "not needed"
	case NoEqual:
		return "not carried over"
	case NoEffect:
		return "no effect"
	case Refused:
		return "refused"
	default:
		return "unknown"
	}
}

// Rule says what becomes of settings.
type Rule struct {
	// Names are those of the settings, which may end with *. Those of blocks end
	// with { }, behind their own name if they have one.
	Names []string
	// In is the kind of block that they stand in; empty is the top level.
	In string
	// Fate is what becomes of them, as far as their values can be carried over.
	Fate Fate
	// Here is what they are in Caddy, why they are not needed, or what to do.
	Here string
}

// Rules are all settings of Dovecot that are known here. docs/migrate.md has them, and a
// test compares the two.
var Rules = []Rule{
	{[]string{"dovecot_config_version"}, "", Carried, "Says that the syntax is that of 2.4."},
	{[]string{"protocols"}, "", Carried, "With `imap`, ports 143 and 993 are listened on. Other protocols are not served."},
	{[]string{"listen"}, "", Carried, "The addresses of the listeners, such as `kept/:143`."},
	{[]string{"imapc_host", "imapc_port"}, "", Carried, "`upstream` of the backend, and `extensions auto`: what imapc had and the server lacks."},
	{[]string{"imapc_ssl"}, "", Carried, "`tls` of the backend. Without it, or with `no`, the connection is made with STARTTLS all the same, unverified; `no` with `localhost`, `127.0.0.1` or `::1` is `tls off`."},
	{[]string{"imapc_ssl_verify", "ssl_client_require_valid_cert"}, "", Carried, "`no` is `tls_insecure_skip_verify`."},
	{[]string{"ssl_client_ca_file"}, "", Carried, "`tls_trust_pool file` of the backend."},
	{[]string{"ssl_client_cert", "ssl_client_cert_file", "ssl_client_key", "ssl_client_key_file"}, "", Carried, "`tls_client_auth` of the backend."},
	{[]string{"imapc_user"}, "", Carried, "`username` of the backend, from `%u`, `%n`, `%d`, `%{user}` and the like."},
	{[]string{"imapc_password", "imapc_master_user"}, "", Carried, "Nothing for `%w`. Users always log in as themselves, with the password that they typed."},
	{[]string{"imapc_sasl_mechanisms"}, "", Carried, "`auth_command plain` for `plain` alone."},
	{[]string{"auth_username_format"}, "", Carried, "`username` of the backend, where it drops or changes the domain. Upper and lower case stay as typed."},
	{[]string{"auth_mechanisms"}, "", Carried, "`mechanisms` of the handlers, if they are PLAIN and LOGIN. Others can be [relayed](options.md#mechanisms), if the backend has them."},
	{[]string{"disable_plaintext_auth", "auth_allow_cleartext", "ssl"}, "", Carried, "Passwords are taken over TLS only, whatever is said here. With `ssl = no`, port 993 is not listened on."},
	{[]string{"ssl_cert", "ssl_key", "ssl_server_cert", "ssl_server_key", "ssl_server_cert_file", "ssl_server_key_file"}, "", Carried, "`certificate` of the app."},
	{[]string{"ssl_alt_cert", "ssl_alt_key", "ssl_server_alt_cert_file", "ssl_server_alt_key_file"}, "", Carried, "A second `certificate`."},
	{[]string{"auth_ssl_require_client_cert", "ssl_verify_client_cert", "ssl_server_request_client_cert"}, "", Carried, "`client_auth` in a `connection_policy`, with `ssl_ca` as its `trust_pool`. Where it is required, and mail servers can ask about passwords, it is refused outside of `protocol imap`."},
	{[]string{"ssl_ca", "ssl_server_ca", "ssl_server_ca_file"}, "", Carried, "See the line before. Without it: intermediate certificates belong into the file of the certificate."},
	{[]string{"ssl_require_crl", "ssl_server_require_crl"}, "", Carried, "Lists of revoked certificates are not looked at."},
	{[]string{"ssl_min_protocol", "ssl_protocols"}, "", Carried, "`protocols tls1.3` in a `connection_policy`. TLS 1.2 is the oldest that can be had."},
	{[]string{"ssl_cipher_list"}, "", Carried, "`ciphers` in a `connection_policy`, if it names each. Otherwise Caddy's own choice."},
	{[]string{"auth_failure_delay"}, "", Carried, "`failure_delay` of the guard, 10 seconds at most."},
	{[]string{"auth_cache_size", "auth_cache_ttl"}, "", Carried, "`positive_cache` of the guard, 5 minutes at most."},
	{[]string{"mail_max_userip_connections"}, "", Carried, "`max_sessions_per_user` of the backend."},
	{[]string{"haproxy_trusted_networks", "haproxy_timeout"}, "", Carried, "caddy-l4's `proxy_protocol` before listeners with `haproxy = yes`, for these addresses only."},
	{[]string{"login_greeting"}, "", Carried, "`banner`."},
	{[]string{"login_trusted_networks"}, "", Carried, "`trusted_clients`."},
	{[]string{"base_dir"}, "", Carried, "Where a `unix_listener` without a `/` at its beginning is."},

	{[]string{"passdb { }"}, "", Carried, "The backend, with the driver `imap`, or with `static` and the field `proxy`. Others are not asked; where they alone decide who gets in, they are refused."},
	{[]string{"driver", "args", "default_fields", "override_fields", "fields { }"}, "passdb", Carried, "`host`, `port` and TLS are the `upstream`; `destuser`, `username` and `userdb_imapc_user` its `username`. With `proxy`, `forward_client id` tells the backend where users come from."},
	{[]string{"imapc_*", "ssl_client_*"}, "passdb", Carried, "As at the top level."},
	{[]string{"master"}, "passdb", Carried, "Nobody can log in for another user: such a block is not asked."},
	{[]string{"deny", "username_filter", "result_success"}, "passdb", Refused, "It keeps people out, and there is no equal. See to it at the backend, and take it out."},
	{[]string{"use_cache"}, "passdb", Carried, "With `no` there is no `positive_cache`."},
	{[]string{"default_password_scheme", "use_worker", "auth_verbose", "fields_import_all", "name"}, "passdb", NotNeeded, "The backend checks the password."},
	{[]string{"skip", "result_*", "pass", "mechanisms", "mechanisms_filter"}, "passdb", NoEqual, "There is one backend, which is asked about every password."},

	{[]string{"service imap-login { }", "service auth { }"}, "", Carried, "Listeners."},
	{[]string{"inet_listener { }"}, "service", Carried, "A listener `kept/...`. Those of `service auth` get `dovecot_auth`, and 127.0.0.1 unless they name an address of this machine."},
	{[]string{"unix_listener { }"}, "service", Carried, "A listener `kept/unix/...` with `dovecot_auth`, or with `dovecot_userdb` if its name ends with `-userdb`. Not `auth-userdb` itself, `auth-master` and `login`, which Dovecot's own processes use."},
	{[]string{"port", "address", "listen", "ssl", "haproxy"}, "inet_listener", Carried, "The address; `implicit_tls`; `proxy_protocol`."},
	{[]string{"name", "type", "reuse_port"}, "inet_listener", NotNeeded, "A listener needs no more than its address."},
	{[]string{"path", "mode"}, "unix_listener", Carried, "The address of the listener. Caddy cannot write to Postfix's directory `private`: [postfix.md](postfix.md#over-a-unix-socket) has another."},
	{[]string{"user", "group"}, "unix_listener", Carried, "The socket belongs to the user that Caddy runs as. [postfix.md](postfix.md#over-a-unix-socket) has what to do."},
	{[]string{"type"}, "unix_listener", NotNeeded, "The name says what it is for."},
	{[]string{"fifo_listener { }"}, "service", NotNeeded, "Dovecot's processes talk to one another by it."},
	{[]string{"*"}, "service", NotNeeded, "Caddy is one process, which serves all clients."},

	{[]string{"protocol imap { }"}, "", Carried, "As outside of it, also for mail servers that ask about passwords."},
	{[]string{"protocol { }"}, "", NotNeeded, "It is about a protocol that Caddy does not serve. What keeps people from sending mail is refused."},
	{[]string{"local_name { }", "local { }", "remote { }"}, "", Carried, "Certificates in it are further ones of the app, for the names in them. Nothing else can hold for some clients alone."},

	{[]string{"auth_ssl_username_from_cert"}, "", Refused, "Who shows a certificate can log in by the name in it alone, and beside a password there is no equal. Take it out if certificates need not fit names. Without passwords, users log in with [`client_certificate`](certificates.md#users-that-log-in-with-a-certificate)."},
	{[]string{"auth_policy_server_url"}, "", Refused, "The server can keep people out, and there is no equal. Take it out if it only slows guessing down, as the guard does."},
	{[]string{"login_access_sockets"}, "", Refused, "It keeps people out, and there is no equal. Use a firewall, and take it out."},
	{[]string{"passdb_deny", "passdb_username_filter", "passdb_result_success"}, "", Refused, "It keeps people out, and there is no equal. See to it at the backend, and take it out."},

	{[]string{"mail_uid", "mail_gid", "mail_home", "mail_path", "mail_driver", "mail_location", "mail_*", "mailbox_*"}, "", NotNeeded, "No mail is stored here, and no user, group or directory is needed for it."},
	{[]string{"first_valid_*", "last_valid_*"}, "", NotNeeded, "Users have no numbers here. A `userdb` with numbers for each of them is refused."},
	{[]string{"maildir_*", "maildir { }", "mbox { }", "mdbox { }", "sdbox { }", "mbox_*", "mdbox_*", "dbox_*", "sdbox_*", "mmap_disable", "dotlock_use_excl", "lock_method", "namespace_*", "layout_*", "valid_chroot_dirs"}, "", NotNeeded, "No mail is stored here."},
	{[]string{"userdb { }", "userdb_*"}, "", NotNeeded, "Nothing has to be looked up about a user. One that could keep users out is refused."},
	{[]string{"namespace { }", "imapc_list_prefix", "mailbox { }"}, "", NoEqual, "Mail programs see the folders as the backend has them. What a mailbox is for can be said with `special_use` of the backend: [extensions.md](extensions.md#what-mailboxes-are-for)."},
	{[]string{"imapc_features", "imapc_cmd_timeout", "imapc_connection_*", "imapc_max_*", "imapc_rawlog_dir"}, "", NotNeeded, "After the login, client and backend talk to each other. Sessions end after `idle_timeout` of the handler."},
	{[]string{"imap_capability"}, "", NoEqual, "Clients are told the backend's capabilities, and those of `extensions`. `capability` of the handler changes the lists that come with the greeting and the login."},
	{[]string{"imap_*", "imap4rev2_enable"}, "", NotNeeded, "After the login, client and backend talk to each other."},
	{[]string{"plugin { }", "mail_plugins", "acl_*", "fts_*", "quota_*", "sieve_*", "zlib_*", "dict { }", "dict_*", "quota { }", "acl { }", "fts { }", "sieve_script { }", "dict_server { }", "crypt_*", "lazy_expunge_*", "push_notification { }", "push_notification_*", "language { }", "language_*", "textcat_*", "tokenizer*", "virtual_*", "fs { }", "fs_*"}, "", NotNeeded, "Plugins work on mail that is stored here."},
	{[]string{"pop3_*", "pop3c_*", "lmtp_*", "lda_*", "submission_*", "managesieve_*", "deliver_*", "sendmail_path", "postmaster_address", "rejection_*", "recipient_delimiter", "hostname", "quota_full_tempfail"}, "", NotNeeded, "It is about POP3, delivery or submission, which Caddy does not serve."},
	{[]string{"service pop3-login { }", "service submission-login { }", "service managesieve-login { }", "service lmtp { }"}, "", NoEqual, "This protocol is not served by Caddy; leave it to another server."},
	{[]string{"service imap { }"}, "", NotNeeded, "Caddy is one process, which serves all clients. A script that is run after the login, such as `imap-postlogin`, is refused."},
	{[]string{"service { }", "default_*", "service_*", "shutdown_clients", "verbose_proctitle", "version_ignore", "config_cache_size", "libexec_dir", "state_dir", "instance_name", "import_environment", "login_plugin_dir", "mail_plugin_dir", "dovecot_storage_version"}, "", NotNeeded, "Caddy is one process, which serves all clients."},
	{[]string{"login_plugins", "login_socket_path", "auth_socket_path", "auth_master_socket_path", "dns_client_*", "http_client_*", "http_server_*"}, "", NotNeeded, "Dovecot's processes find one another by it."},
	{[]string{"auth_verbose", "auth_debug", "mail_debug", "verbose_ssl", "log_debug"}, "", NotNeeded, "Each login is one line of the log. Caddy's global option `debug` has it say more."},
	{[]string{"auth_verbose_passwords", "auth_debug_passwords"}, "", NotNeeded, "A password is never logged."},
	{[]string{"log_path", "info_log_path", "debug_log_path", "syslog_facility", "log_timestamp", "log_core_filter", "process_shutdown_filter"}, "", NoEqual, "Caddy's log goes to where its unit sends it. The global option `log` of a Caddyfile changes that."},
	{[]string{"login_log_format", "login_log_format_elements"}, "", NoEqual, "The log has lines of its own; see [metrics.md](metrics.md) and [fail2ban.md](fail2ban.md) for what reads them."},
	{[]string{"auth_cache_negative_ttl", "auth_cache_verify_password_with_worker"}, "", NotNeeded, "The guard remembers refusals by itself: [guard.md](guard.md)."},
	{[]string{"auth_internal_failure_delay", "auth_worker_max_count", "auth_stats", "auth_proxy_self"}, "", NotNeeded, "Logins do not wait for one another."},
	{[]string{"auth_username_chars"}, "", NoEqual, "Names with other characters go to the backend, too, which decides on them. Those that could deceive a mail server are refused."},
	{[]string{"auth_username_translation", "auth_realms"}, "", NotNeeded, "The backend decides on names. Those that could deceive a mail server are refused."},
	{[]string{"auth_default_realm", "auth_default_domain"}, "", NoEqual, "Names go to the backend as they were typed. If nobody types a domain: `username {imap.user.local}@example.org` in the backend."},
	{[]string{"auth_master_user_separator", "master_user_separator"}, "", NoEqual, "Nobody can log in for another user here."},
	{[]string{"auth_policy_*"}, "", NoEqual, "The guard slows guessing down: [guard.md](guard.md)."},
	{[]string{"auth_anonymous_username", "auth_gssapi_hostname", "auth_krb5_keytab", "auth_use_winbind", "auth_winbind_helper_path", "auth_allow_weak_schemes", "oauth2 { }", "oauth2_*", "ldap_*", "sql_*", "mysql { }", "mysql_*", "pgsql { }", "pgsql_*"}, "", NotNeeded, "The backend checks passwords, tokens and tickets."},
	{[]string{"ssl_cert_username_field", "ssl_server_cert_username_field"}, "", NoEqual, "The user's name is the one that he logs in with. By the certificate alone, users log in with [`client_certificate`](certificates.md#users-that-log-in-with-a-certificate) and a master user of the backend."},
	{[]string{"login_source_ips"}, "", NoEqual, "Connections to the backend have the address that the system chooses."},
	{[]string{"login_proxy_*"}, "", NotNeeded, "A login takes as long as `auth_timeout` of the backend says, 9 seconds by default."},
	{[]string{"ssl_client_ca_dir"}, "", NoEqual, "The authorities that this machine trusts are used. For others name a file, with `ssl_client_ca_file`."},
	{[]string{"ssl_key_password", "ssl_server_key_password", "ssl_client_key_password"}, "", NoEqual, "The key must be without a password; `openssl pkey` writes it so."},
	{[]string{"ssl_dh", "ssl_dh_parameters_length", "ssl_server_dh_file", "ssl_prefer_server_ciphers", "ssl_server_prefer_ciphers", "ssl_options", "ssl_crypto_device", "ssl_parameters_regenerate", "ssl_peer_certificate_fingerprint_hash", "ssl_client_options"}, "", NotNeeded, "Caddy chooses well by itself."},
	{[]string{"ssl_curve_list", "ssl_cipher_suites"}, "", NoEqual, "Caddy's own choice is offered. `curves` in a `connection_policy` narrows the curves."},
	{[]string{"doveadm_*", "replication_*", "replicator_*", "dsync_*", "director_*", "stats_*", "old_stats_*", "metric { }", "metric_*", "event_exporter { }", "event_exporter_*", "rawlog_dir"}, "", NotNeeded, "It is about Dovecot's own tools. Caddy has an admin API and metrics: [sessions.md](sessions.md), [metrics.md](metrics.md)."},
	{[]string{"@*", "group { }"}, "", NoEqual, "Groups of settings are not put in where they are named; write the settings there."},
}

// markdown is what a link of a page is.
var markdown = regexp.MustCompile(`\[[^\]]+\]\(([^)#]+)[^)]*\)`)

// text returns what a rule says, for a terminal.
func (r *Rule) text() string {
	return strings.ReplaceAll(markdown.ReplaceAllString(r.Here, "docs/$1"), "`", "")
}

// matches says how well a name fits a pattern: 0 not at all, and more the better.
func matches(pattern, name string) int {
	if prefix, any := strings.CutSuffix(pattern, "*"); any {
		if strings.HasPrefix(name, prefix) {
			return len(prefix) + 1
		}
		return 0
	}
	if pattern == name {
		return 1 << 20
	}
	return 0
}

// bestRule returns the rule that fits a name best, or nil.
func bestRule(in string, names ...string) (best *Rule) {
	for _, name := range names {
		found := 0
		for i := range Rules {
			for _, pattern := range Rules[i].Names {
				if Rules[i].In == in && matches(pattern, name) > found {
					best, found = &Rules[i], matches(pattern, name)
				}
			}
		}
		if best != nil {
			return best
		}
	}
	return nil
}

// exactRule returns the rule that has a setting by its whole name, or nil.
func exactRule(in, name string) *Rule {
	for i := range Rules {
		for _, pattern := range Rules[i].Names {
			if Rules[i].In == in && pattern == name {
				return &Rules[i]
			}
		}
	}
	return nil
}

// ruleOf returns the rule for a setting or block in its place, or nil.
func ruleOf(n *dovecotconf.Node) *Rule {
	in, block := place(n)
	key := n.Key
	switch {
	case in != "":
		key = strings.TrimPrefix(key, block+"_")
	case block != "" && exactRule(in, fullName(block, key)) != nil:
		key = fullName(block, key)
	}
	switch {
	case n.Block && strings.HasPrefix(key, "group "):
		return bestRule(in, "group { }")
	case n.Block:
		return bestRule(in, key+" "+n.Name+" { }", key+" { }", key)
	}
	return bestRule(in, key)
}

// place returns the kind of block that a node stands in, of those that rules are about,
// and the block whose name settings of Dovecot 2.4 leave out.
func place(n *dovecotconf.Node) (in, block string) {
	parent := n.Parent()
	switch {
	case parent == nil:
		return "", ""
	case parent.Key == "passdb", parent.Key == "service", parent.Key == "inet_listener", parent.Key == "unix_listener":
		return parent.Key, parent.Key
	case parent.Key == "imapc" && parent.Parent() != nil && parent.Parent().Key == "passdb":
		return "passdb", "imapc"
	}
	return "", parent.Key
}
