package caddyimap

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"strings"
	"time"
	"unicode"

	"github.com/caddyserver/caddy/v2/modules/caddytls"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// loginLog writes one line about each login.
type loginLog struct{ logger *zap.Logger }

func newLoginLog(logger *zap.Logger) *loginLog { return &loginLog{logger: logger} }

// nameKey makes hashes of names useless to whoever has the log alone. It is the
// same in all configurations of a process.
var nameKey = []byte(rand.Text())

// hashLength is how many bytes of a name's hash are shown: enough to see that two
// names are the same.
const hashLength = 6

// write tells about an attempt. Whatever a user typed into the field for his name
// may be his password, so a name that was not granted is only shown if it looks
// like one.
//
// A backend that gives no answer is the operator's trouble, and an error besides.
func (l *loginLog) write(ctx context.Context, a *login.Attempt, backend string, v login.Verdict) {
	fields := []zap.Field{
		zap.Stringer("result", v.Result),
		zap.String("code", string(v.Code)),
		zap.String("service", a.Service),
	}
	if v.Result == login.Granted || looksLikeName(a.User) {
		fields = append(fields, zap.String("user", a.User))
	} else {
		fields = append(fields, zap.String("user", "?"), zap.String("user_hash", hashName(a.User)))
	}
	if a.Remote.IsValid() {
		fields = append(fields, zap.Stringer("remote_ip", a.Remote))
	}
	if a.TLS != 0 {
		fields = append(fields, zap.String("tls_version", caddytls.ProtocolName(a.TLS)))
	}
	fields = append(fields,
		zap.String("mechanism", a.Mechanism),
		zap.String("backend", backend),
		zap.String("upstream", v.Upstream),
		zap.Duration("duration", time.Since(a.Start)),
		zap.String("session", a.ID),
	)
	if v.Err != nil {
		fields = append(fields, zap.Error(v.Err))
	}
	l.logger.Info("login", fields...)
	if v.Result != login.Unavailable || errors.Is(ctx.Err(), context.Canceled) {
		return
	}
	advice := "see that its upstreams run, can be reached from here, and are trusted as tls_trust_pool and tls_server_name say"
	if v.Upstream == "" { // nobody was asked
		advice = "see what the handlers and the backends of the configuration are called"
	}
	l.logger.Error("a password could not be checked, because the backend gave no answer that decides: "+advice,
		zap.String("backend", backend), zap.String("upstream", v.Upstream), zap.Error(v.Err), zap.String("session", a.ID))
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
