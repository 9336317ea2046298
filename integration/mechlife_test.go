//go:build integration

package integration

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// halfway is a client in the middle of an exchange: it has the server's challenge, and
// has not proved anything.
type halfway struct {
	*imapConn
	client saslClient
	answer string
}

func startHalfway(t *testing.T, addr, mechanism, user, password string) *halfway {
	t.Helper()
	h := &halfway{imapConn: dialSecure(t, addr), client: newSASL(mechanism, user, password)}
	_, first, err := h.client.Start()
	if err != nil {
		t.Fatal(err)
	}
	command := "AUTHENTICATE " + mechanism
	if first != nil {
		command += " " + b64(string(first))
	}
	challenge, _ := h.Cmd("%s", command)
	challenge, found := strings.CutPrefix(challenge, "+ ")
	if !found {
		t.Fatalf("%s: challenge %q", mechanism, challenge)
	}
	if h.answer, err = answerTo(h.client, challenge); err != nil {
		t.Fatal(err)
	}
	return h
}

// Finish proves it and returns what the client is told in the end.
func (h *halfway) Finish() string {
	h.t.Helper()
	h.Send(h.answer + "\r\n")
	told, _ := h.Answer()
	if challenge, found := strings.CutPrefix(told, "+ "); found {
		answer, err := answerTo(h.client, challenge)
		if err != nil {
			h.t.Error(err)
		}
		h.Send(answer + "\r\n")
		told, _ = h.Answer()
	}
	if err := h.client.Done(); err != nil && strings.HasPrefix(told, "OK") {
		h.t.Error(err)
	}
	return told
}

// testMechLife has the configuration replaced, the backend away and the backend changed,
// also in the middle of exchanges.
func testMechLife(t *testing.T, d *mechDovecot, p *mechProxy) {
	halfwayAll := func() (all []*halfway) {
		for _, mechanism := range challenges {
			user, _, good := d.Secrets(mechanism)
			all = append(all, startHalfway(t, p.imap, mechanism, user, good))
		}
		return all
	}
	all := halfwayAll()
	p.Load(strings.Replace(p.options, "source_failures 12", "source_failures 13", 1))
	for _, h := range all {
		if told := h.Finish(); told != imapGranted {
			t.Errorf("after a reload: %q", told)
		}
	}

	all = halfwayAll()
	d.Stop()
	for _, h := range all {
		if told := h.Finish(); told != imapAway {
			t.Errorf("with Dovecot gone: %q", told)
		}
	}
	// A server that starts now cannot know what there is, and lets no mail server wait.
	blind := startMechProxy(t, d, "failure_delay 1ms")
	if offered := offeredBy(t, blind.imap); offered != "PLAIN LOGIN" {
		t.Errorf("without Dovecot %q is offered", offered)
	}
	d.configure("scram-sha-1 scram-sha-256 ", "")
	d.Start()
	for _, c := range []*mechProxy{blind, p} {
		// Each login shows what there is.
		user, _, good := d.Secrets(login.CramMD5)
		if answer, err := imapLogin("127.0.64.1", c.imaps, user, good); err != nil || answer != imapGranted {
			t.Errorf("with Dovecot back: %q, %v", answer, err)
		}
		awaitMechanism(t, c.imap, login.CramMD5)
		if offered := offeredBy(t, c.imap); strings.Contains(offered, "SCRAM") {
			t.Errorf("what Dovecot has no more is offered: %q", offered)
		}
		if answer, err := imapSASL("127.0.64.1", c.imaps, newSASL(login.CramMD5, user, good)); err != nil || answer != imapGranted {
			t.Errorf("with CRAM-MD5: %q, %v", answer, err)
		}
	}
	blind.Stop()
}

// offeredBy is what an IMAP handler offers inside TLS.
func offeredBy(t *testing.T, addr string) string {
	t.Helper()
	var names []string
	_, caps := dialSecure(t, addr).Cmd("CAPABILITY")
	for _, word := range strings.Fields(strings.Join(caps, " ")) {
		if name, found := strings.CutPrefix(word, "AUTH="); found {
			names = append(names, name)
		}
	}
	return strings.Join(names, " ")
}

// configure changes words of the configuration, for the next Start.
func (d *dovecot) configure(old, replacement string) {
	d.t.Helper()
	path := filepath.Join(d.dir, "dovecot.conf")
	b, err := os.ReadFile(path)
	if err != nil {
		d.t.Fatal(err)
	}
	text := strings.ReplaceAll(string(b), old, replacement)
	if text == string(b) {
		d.t.Fatalf("the configuration of Dovecot does not have %q", old)
	}
	writeFile(d.t, path, text)
}
