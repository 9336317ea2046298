package caddyimap

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/oauthlogin"
	"github.com/caddy-imap/caddy-imap/internal/pool"
)

// nameKey makes hashes of names useless to whoever has the log alone. It is the
// same in all configurations of a process.
var nameKey = []byte(rand.Text())

// hashLength is how many bytes of a name's hash are shown: enough to see that two
// names are the same.
const hashLength = 6

// What an operator can do about a backend that gives no answer.
const (
	adviceBackend = "see that its upstreams run, can be reached from here, and are trusted as tls_trust_pool and tls_server_name say"
	adviceMaster  = "see what the error says about its master user"
	adviceNames   = "see what the error says about the options for names"
	adviceDrain   = "every upstream of it drains; add another one, or take drain away"
	advicePenalty = "Dovecot lets an address wait after wrong passwords, with a right one, too; have it told where clients come from, with forward_client, and set auth_timeout to 20s"
	adviceToken   = "see that the token_url of its option oauth2 can be reached from here and is trusted, and that the server there has the client, its secret, scopes and permissions as they are set here"
	adviceConfig  = "see what the handlers and the backends of the configuration are called"
)

// log tells about an attempt, in one line, the same for all handlers.
//
// A backend that gives no answer is the operator's trouble, and an error besides.
func (a *App) log(ctx context.Context, at *login.Attempt, backend string, v login.Verdict, advice string) {
	fields := append(make([]zap.Field, 0, 14),
		zap.Stringer("result", v.Result),
		zap.String("code", string(v.Code)),
		zap.String("service", printable(at.Service)),
	)
	user, hash := a.nameToShow(at.User, isNamed(at, v))
	fields = append(fields, zap.String("user", user))
	if hash != "" {
		fields = append(fields, zap.String("user_hash", hash))
	}
	if at.Remote.IsValid() {
		fields = append(fields, zap.Stringer("remote_ip", at.Remote))
	}
	if at.TLS != 0 {
		fields = append(fields, zap.String("tls_version", caddytls.ProtocolName(at.TLS)))
	}
	fields = append(fields,
		zap.String("mechanism", printable(at.Mechanism)),
		zap.String("backend", backend),
		zap.String("upstream", v.Upstream),
		zap.Duration("duration", time.Since(at.Start)),
		zap.String("session", at.ID),
	)
	if v.Err != nil {
		fields = append(fields, zap.Error(v.Err))
	}
	a.logger.Info("login", fields...)
	a.loginDone(at, backend, v)
	if v.Result != login.Unavailable || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	switch {
	case errors.Is(v.Err, pool.ErrDraining):
		advice = adviceDrain
	case errors.Is(v.Err, imapauth.ErrPenalty):
		advice = advicePenalty
	case errors.Is(v.Err, errNoMaster), errors.Is(v.Err, imapauth.ErrNoAuthzID):
		advice = adviceMaster
	case errors.Is(v.Err, errRename), errors.Is(v.Err, errRelayedName), errors.Is(v.Err, errSameName), errors.Is(v.Err, errDelegateAccount):
		advice = adviceNames
	case errors.Is(v.Err, oauthlogin.ErrNoToken):
		advice = adviceToken
	}
	what := "the credentials could not be checked"
	if at.Certificate != nil {
		what = "a user with a client certificate could not be logged in"
	}
	a.logger.Error(what+", because the backend gave no answer that decides: "+advice,
		zap.String("backend", backend), zap.String("upstream", v.Upstream), zap.Error(v.Err), zap.String("session", at.ID))
}

// isNamed says whether the user's name is one, and no password in its place: the
// backend, or a certificate, has said so, or it was not typed by anybody.
func isNamed(at *login.Attempt, v login.Verdict) bool {
	return v.Result == login.Granted || at.Certificate != nil || at.Nameless
}

// addrText is empty for an address that is not known.
func addrText(addr netip.Addr) string {
	if !addr.IsValid() {
		return ""
	}
	return addr.String()
}

// The words of log_user.
const (
	logKnown = "known"
	logAll   = "all"
	logNone  = "none"
)

// nameToShow returns a user name as it may be shown, and a hash of it if that does not
// say all. Whatever somebody typed into the field for his name may be his
// password, so the name of one who was not let in is only shown if somebody was
// let in with it before, or if it looks like a name.
func (a *App) nameToShow(user string, granted bool) (name, hash string) {
	show := granted
	switch a.LogUser {
	case logNone:
		show = false
	case logAll:
		show = true
	default:
		show = show || looksLikeName(user) || a.knows(user)
	}
	if !show {
		return "?", hashName(user)
	}
	if name = printable(user); name != user {
		hash = hashName(user)
	}
	return name, hash
}

// printable returns what a client has said as it may be shown: nothing in it changes
// the direction of writing, or is a command to a terminal. JSON escapes only what is
// below the space.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return utf8.RuneError
		}
		return r
	}, s)
}

// knows says whether somebody was let in with a name. What counts as a known account
// is none if it is not the account's name in another case: in alice@2026 and alice/2026
// it may be the rest that is secret.
func (a *App) knows(user string) bool {
	local, _, _ := strings.Cut(a.Guard.cfg.Domains.Account(user), "@")
	return !a.Guard.Off && strings.EqualFold(user, local) && !strings.ContainsFunc(user, isOddInName) &&
		a.Guard.current().Knows(&a.Guard.cfg, user)
}

func hashName(name string) string {
	h := hmac.New(sha256.New, nameKey)
	h.Write([]byte(name))
	return hex.EncodeToString(h.Sum(nil)[:hashLength])
}

// maxName is the longest name that may look like one.
const maxName = 256

// looksLikeName reports whether somebody who typed this meant to type a name:
// user@example.org or DOMAIN\user. A password with an @ in it has no domain
// behind that.
func looksLikeName(s string) bool {
	if len(s) > maxName || strings.ContainsFunc(s, isOddInName) {
		return false
	}
	if domain, user, found := strings.Cut(s, `\`); found {
		return user != "" && isLabel(domain) && !strings.ContainsFunc(user, isOddInLogon)
	}
	at := strings.LastIndexByte(s, '@')
	if at <= 0 {
		return false
	}
	labels := strings.Split(s[at+1:], ".")
	for _, label := range labels {
		if !isLabel(label) {
			return false
		}
	}
	// The last one is no number, as in p@ss.w0rd it would not be a domain's.
	top := labels[len(labels)-1]
	return len(labels) > 1 && len(top) > 1 && (!strings.ContainsAny(top, "0123456789") || strings.HasPrefix(top, "xn--"))
}

// isOddInName reports what no name has and a log should not show, such as what
// changes the direction of writing.
func isOddInName(r rune) bool { return r == ' ' || r == '"' || !unicode.IsPrint(r) }

// isOddInLogon reports what the part of a name behind its domain does not have,
// unlike many passwords.
func isOddInLogon(r rune) bool {
	return !unicode.IsLetter(r) && !unicode.IsDigit(r) && !strings.ContainsRune(`.-_@/\`, r)
}

// isLabel reports whether the text could be a part of a domain name.
func isLabel(s string) bool {
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' {
			return false
		}
	}
	return s != ""
}
