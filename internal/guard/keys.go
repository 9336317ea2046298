package guard

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"hash"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// ID is the keyed hash of an account's name. shortID is one of a source or a
// password.
type (
	ID      [16]byte
	shortID [8]byte
)

// keys makes hashes.
type keys struct {
	// shared is the same in all instances; own is this process's alone, for all
	// that a password goes into.
	shared, own *hashes
}

func newKeys(secret []byte) keys {
	return keys{shared: newHashes(secret), own: newHashes([]byte(rand.Text()))}
}

// ticket is what an attempt is known by.
type ticket struct {
	id      uint64
	account ID
	source  shortID
	// home is the source together with the user's name. A source that is known
	// for alice of one domain is not for alice of another, even if the two share
	// an account, since their domains are not mapped.
	home shortID
	// pair is the account with the password, however the account is spelled. It
	// is what was right before, and what counts against the source.
	pair shortID
	// try is all that a refusal is about: the name in this spelling, whom the
	// user wants to be, the password, and the backend. Another spelling may be
	// another user, or one that the backend takes.
	try shortID
	// exact is try with the very name that was typed. Only who types the same
	// again may be let in without asking. It is all zero if nobody is.
	exact shortID
	// guess is what counts against the source: its first half is the account's, and its
	// second that of pair.
	guess shortID
	// backend is the one that is asked.
	backend shortID
	// hasSource says that the source is known at all; exempt, that it is never
	// banned; checkOnly, that no session is wanted; oneTime, that nobody will ever
	// try the same again; token, that it ends by itself; nameless, that only the
	// backend knows the account.
	hasSource, exempt, checkOnly, oneTime, token, nameless bool
}

// half is how much of a guess is the account's.
const half = len(shortID{}) / 2

func (k keys) ticket(cfg *Config, a *login.Attempt, checkOnly bool) ticket {
	name := cfg.Domains.read(a.User)
	t := ticket{
		id: newID(), account: k.account(name.account), backend: k.shared.sum("backend", cfg.Backend).short(), checkOnly: checkOnly,
		oneTime: a.OneTime, token: slices.Contains(login.TokenMechanisms, a.Mechanism), nameless: a.Nameless,
	}
	form := ""
	if name.delegate && a.Form == login.FormLogin {
		// Exchange takes some names with a mailbox in them from one command and
		// not from the other, and clients try both.
		form = "LOGIN"
	}
	// A password that is shown as a token is none, and says nothing about the password.
	secret, kind := string(a.Secret), ""
	if t.token {
		kind = "token"
	}
	t.pair = k.own.sum("pair", name.account, kind, secret).short()
	t.try = k.own.sum("try", cfg.Backend, strings.ToLower(strings.TrimSpace(a.User)), a.AuthzID, form, kind, secret).short()
	if cfg.PositiveCache > 0 {
		t.exact = k.own.sum("exact", cfg.Backend, a.User, a.AuthzID, form, kind, secret).short()
	}
	if a.Remote.IsValid() {
		t.hasSource, t.exempt = true, exempt(cfg, a.Remote)
		t.source = k.source(a.Remote)
		t.home = k.shared.sum("home", name.name, string(t.source[:])).short()
	}
	if t.nameless {
		// What stands for a name could be typed as one, too.
		t.account = ID(k.shared.sum("nameless", string(t.source[:])))
	}
	copy(t.guess[:half], t.account[:])
	copy(t.guess[half:], t.pair[half:])
	return t
}

func newID() uint64 {
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	return binary.LittleEndian.Uint64(id[:])
}

func (k keys) account(name string) ID {
	return ID(k.shared.sum("account", name))
}

const ipv6Source = 64

// Source returns what an address counts as: an IPv4 address is itself, and one of
// IPv6 the /64 network that a customer gets.
func Source(addr netip.Addr) netip.Addr {
	addr = plain(addr)
	if addr.Is6() {
		addr = netip.PrefixFrom(addr, ipv6Source).Masked().Addr()
	}
	return addr
}

func (k keys) source(addr netip.Addr) shortID {
	b := Source(addr).As16()
	return k.shared.sum("source", string(b[:])).short()
}

// plain returns an address in the one form that all of its spellings have.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// sum is the part of a hash that is used.
type sum [16]byte

func (s sum) short() shortID { return shortID(s[:]) }

// hashes makes HMACs under one key, without making the hash anew for each.
type hashes struct{ pool sync.Pool }

type hasher struct {
	mac     hash.Hash
	in, out []byte
}

func newHashes(key []byte) *hashes {
	return &hashes{pool: sync.Pool{New: func() any { return &hasher{mac: hmac.New(sha256.New, key)} }}}
}

// sum hashes the parts, each with its length, so that none can pass for two.
func (h *hashes) sum(parts ...string) sum {
	s := h.pool.Get().(*hasher)
	s.mac.Reset()
	s.in = s.in[:0]
	for _, part := range parts {
		s.in = binary.LittleEndian.AppendUint64(s.in, uint64(len(part)))
		s.in = append(s.in, part...)
	}
	_, _ = s.mac.Write(s.in)
	clear(s.in)
	s.out = s.mac.Sum(s.out[:0])
	short := sum(s.out[:len(sum{})])
	h.pool.Put(s)
	return short
}
