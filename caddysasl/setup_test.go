package caddysasl

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

func TestSetUpErrors(t *testing.T) {
	for _, tc := range []struct {
		handler DovecotAuth
		want    string
	}{
		{DovecotAuth{Deadline: caddy.Duration(-time.Second)}, "deadline -1s: must be more than 0 and at most 9s"},
		{DovecotAuth{Deadline: caddy.Duration(9*time.Second + 1)}, "deadline 9.000000001s: must be more than 0 and at most 9s"},
		{DovecotAuth{Mechanisms: []string{"EXTERNAL"}}, `mechanisms "EXTERNAL": unknown SASL mechanism; known are PLAIN, LOGIN, XOAUTH2, ` +
			`OAUTHBEARER, SCRAM-SHA-256, SCRAM-SHA-1 and CRAM-MD5`},
		{DovecotAuth{Mechanisms: []string{"PLAIN", "GSSAPI"}}, `mechanisms "GSSAPI": unknown SASL mechanism`},
		{DovecotAuth{Mechanisms: []string{"ntlm"}}, `mechanisms "ntlm": unknown SASL mechanism`},
		{DovecotAuth{Mechanisms: []string{"SCRAM-SHA-256-PLUS"}}, `mechanisms "SCRAM-SHA-256-PLUS": unknown SASL mechanism`},
		{DovecotAuth{Mechanisms: []string{""}}, `mechanisms "": unknown SASL mechanism`},
		{DovecotAuth{Mechanisms: []string{"PLAIN", "plain"}}, `mechanisms "plain": named twice`},
		{DovecotAuth{OnUnavailable: "reject"}, `on_unavailable "reject": must be disconnect or fail`},
		{DovecotAuth{Identity: "{env.HOME}{imap.domain}"}, "identity: template "},
		{DovecotAuth{Identity: "{imap.domain}"}, `identity: template "{imap.domain}": unknown placeholder {imap.domain}; known are {imap.user}`},
		{DovecotAuth{Identity: "postmaster"}, `identity: template "postmaster" has no placeholder`},
		{DovecotAuth{Identity: "{imap.user} x"}, `identity: template "{imap.user} x": must have no spaces`},
		{DovecotAuth{MaxConnections: -1}, "max_connections -1: must be more than 0"},
		{DovecotAuth{Allow: []string{"localhost"}}, `allow "localhost": neither a network in CIDR notation nor an address`},
		{DovecotAuth{Allow: []string{"127.0.0.1", "0.0.0.0:0"}}, `allow "0.0.0.0:0": neither a network in CIDR notation nor an address`},
		{DovecotAuth{Allow: []string{"192.0.2.0/33"}}, `allow "192.0.2.0/33": not a network in CIDR notation`},
		{DovecotAuth{Allow: []string{"::ffff:192.0.2.0/120"}}, `allow "::ffff:192.0.2.0/120": an IPv4 network must be written as one`},
	} {
		h := tc.handler
		h.logger = zap.NewNop()
		err := h.setUp(caddy.NewReplacer())
		if err == nil || !strings.HasPrefix(err.Error(), tc.want) {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
}

func TestSetUp(t *testing.T) {
	t.Setenv("SASL_TEST_NET", "192.0.2.0/24")
	t.Setenv("SASL_TEST_DOMAIN", "example.org")
	h := DovecotAuth{
		Mechanisms:    []string{"login", "scram-sha-256"},
		Deadline:      caddy.Duration(9 * time.Second),
		OnUnavailable: "disconnect",
		Allow:         []string{"{env.SASL_TEST_NET}"},
		Identity:      "{imap.user.local}@{env.SASL_TEST_DOMAIN}",
		logger:        zap.NewNop(),
	}
	if err := h.setUp(caddy.NewReplacer()); err != nil {
		t.Fatal(err)
	}
	if want := []string{"LOGIN", "SCRAM-SHA-256"}; !slices.Equal(h.mechanisms, want) {
		t.Errorf("mechanisms %q", h.mechanisms)
	}
	for user, want := range map[string]string{
		"Alice@corp.example.org": "alice@example.org",
		`CORP\Alice`:             "alice@example.org",
		"{env.SASL_TEST_DOMAIN}": "{env.sasl_test_domain}@example.org",
	} {
		got, err := h.server.Identity(&login.Attempt{User: user})
		if err != nil || got != want {
			t.Errorf("identity of %q is %q, %v; want %q", user, got, err, want)
		}
	}
	if !h.access.allows(&net.TCPAddr{IP: net.IPv4(192, 0, 2, 9)}) {
		t.Error("an address out of the environment is not allowed")
	}
}

// TestOffers pins that mail servers are always offered something.
func TestOffers(t *testing.T) {
	known := []string{"CRAM-MD5"}
	offered := offers([]string{"XOAUTH2", "CRAM-MD5"}, func() []string { return known })
	if got := offered(); !slices.Equal(got, known) {
		t.Errorf("offered are %q", got)
	}
	known = []string{}
	if got := offered(); !slices.Equal(got, []string{"XOAUTH2", "CRAM-MD5"}) {
		t.Errorf("offered are %q while nothing is known", got)
	}
}

func TestAccess(t *testing.T) {
	tcp := func(ip string) net.Addr { return &net.TCPAddr{IP: net.ParseIP(ip), Port: 4711} }
	ours, theirs := net.Pipe()
	defer ours.Close()
	defer theirs.Close()
	for _, tc := range []struct {
		allow string
		peer  net.Addr
		want  bool
	}{
		{"", tcp("127.0.0.1"), true},
		{"", tcp("127.8.9.10"), true},
		{"", tcp("::1"), true},
		{"", &net.TCPAddr{IP: net.ParseIP("::ffff:127.0.0.1").To16()}, true},
		{"", tcp("192.0.2.1"), false},
		{"", tcp("2001:db8::1"), false},
		{"", &net.UnixAddr{Name: "@", Net: "unix"}, true},
		{"", ours.RemoteAddr(), false},
		{"", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}, false},
		{"192.0.2.0/24", tcp("192.0.2.255"), true},
		{"192.0.2.0/24", tcp("192.0.3.0"), false},
		{"192.0.2.0/24", tcp("127.0.0.1"), false},
		{"192.0.2.0/24 127.0.0.1", tcp("127.0.0.1"), true},
		{"192.0.2.0/24", &net.UnixAddr{Name: "@", Net: "unix"}, true},
		{"192.0.2.7", tcp("192.0.2.7"), true},
		{"192.0.2.7", tcp("192.0.2.8"), false},
		{"::ffff:192.0.2.7", tcp("192.0.2.7"), true},
		{"2001:db8::/32", tcp("2001:db8:1::1"), true},
		{"fe80::/10", &net.TCPAddr{IP: net.ParseIP("fe80::1"), Zone: "eth0"}, true},
	} {
		a, err := newAccess(strings.Fields(tc.allow), zap.NewNop())
		if err != nil {
			t.Errorf("%s: %v", tc.allow, err)
			continue
		}
		if got := a.allows(tc.peer); got != tc.want {
			t.Errorf("allow %q, peer %v: %v, want %v", tc.allow, tc.peer, got, tc.want)
		}
	}
}
