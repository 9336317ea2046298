// Package integration tests the whole server, as it is built and shipped,
// against the servers and clients that it will meet: Dovecot as backend, Postfix
// as the asker of passwords, openssl and swaks as people at a keyboard.
//
// Those tests have the build tag integration. They need root, because Dovecot
// and Postfix do, and the Debian packages that install.sh names. A test whose
// programs are missing is skipped and says so; with CI=true it fails instead.
//
// The tests of the Caddyfile in caddyfile_adapt need nothing and run with the
// unit tests.
package integration
