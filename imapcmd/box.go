package imapcmd

import (
	"path/filepath"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/doctor"
)

// box is what the demo prints: commands to try.
func box(o *options, dir string) string {
	root := filepath.Join(dir, rootCertificate)
	lines := []string{
		"The proxy runs, in front of a mailbox in memory. Stop it with Ctrl-C.",
		"User demo, password demo. Things to try in another terminal:",
		"",
		"# A dialogue by hand: type  01 LOGIN demo demo  and  02 SELECT INBOX",
		"openssl s_client " + connect(o.imap) + " -starttls imap -quiet -CAfile \\",
		"    " + root,
		"",
		"# Read a message, over STARTTLS, with the certificate verified",
		"curl --cacert " + root + " --ssl-reqd \\",
		"    -u demo:demo " + url("imap", o.imap, "/INBOX;UID=1"),
		"",
		"# The same over implicit TLS",
		"curl --cacert " + root + " \\",
		"    -u demo:demo " + url("imaps", o.imaps, "/INBOX;UID=1"),
		"",
		"# What a mail server asks: OK for the right password, FAIL for another",
		`(printf 'VERSION\t1\t2\nCPID\t1\nAUTH\t1\tPLAIN\tservice=smtp\tresp=AGRlbW8AZGVtbw==\n'; sleep 1) \`,
		"    | curl -sN -m 4 " + url("telnet", o.auth, ""),
		"",
		"# Let Postfix check passwords here: in main.cf",
	}
	auth := doctor.Auth{Network: "tcp", Dial: o.auth}
	if path := unixPath(o.auth); path != "" {
		auth.Network, auth.Dial = "unix", path
	}
	lines = append(lines, doctor.MainCF(auth)[:2]...)
	// No lines at the sides, which would be in the way of copying.
	rule := strings.Repeat("─", ruleWidth)
	return "\n" + rule + "\n" + strings.Join(lines, "\n") + "\n" + rule + "\n\n"
}

const ruleWidth = 72

// host names the host as the certificate does.
func host(addr string) string {
	return strings.Replace(strings.TrimPrefix(addr, "kept/"), "127.0.0.1", "localhost", 1)
}

// connect is how openssl is told where to.
func connect(addr string) string {
	if path := unixPath(addr); path != "" {
		return "-unix " + path
	}
	return "-connect " + host(addr)
}

// url is how curl is told.
func url(scheme, addr, rest string) string {
	if path := unixPath(addr); path != "" {
		return "--unix-socket " + path + " '" + scheme + "://localhost" + rest + "'"
	}
	return "'" + scheme + "://" + host(addr) + rest + "'"
}
