// Package imaptest holds the doubles that stand in for the world outside in
// tests: a certificate authority, an IMAP server that follows a script and may
// be as faulty as the test wants it (Script), one that behaves and can be told
// what to look like, Exchange included (Fake), and one with real mailboxes in
// memory (Memory).
//
// All servers listen on the loopback, on a port of their own. Each belongs to
// the test that started it: the test's cleanup closes it and waits for its
// goroutines, so that a leak is the leak of whoever is tested.
package imaptest
