// Package integration tests the whole server, as it is built and shipped,
// against the servers and clients that it will meet: Dovecot as backend, Postfix
// as the asker of passwords, Pebble as the authority that certificates come from,
// openssl and swaks as people at a keyboard; curl, mbsync, neomutt, imapflow, gsasl and Python's imaplib
// and smtplib as mail programs; MIT's Kerberos and Samba's NTLM as what Windows' domains
// have.
//
// Those tests have the build tag integration. They need root, because Dovecot
// and Postfix do, and the Debian packages that install.sh names. A test whose
// programs are missing is skipped and says so; with CI=true it fails instead.
// Pebble is built from the module in tools, by make or by the tests themselves. The
// Debian package is tried in a small Debian of its own, with a systemd that runs,
// which is made for that in memory.
//
// The tests of the Caddyfile in caddyfile_adapt need nothing and run with the
// unit tests.
package integration
