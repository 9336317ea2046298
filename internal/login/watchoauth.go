package login

import (
	"fmt"
	"slices"
	"strings"
)

// The parts of messages with tokens end with control-A.
const tokenEnd = "\x01"

// xoauth2Watcher reads Google's XOAUTH2, which Microsoft took over: the user's name
// and the token are in the one message that is not an answer to an error.
type xoauth2Watcher struct{ attempt *Attempt }

// Next implements Watcher.
func (w *xoauth2Watcher) Next(message []byte) (proof bool, err error) {
	user, rest, _ := strings.Cut(string(message), tokenEnd)
	user, found := strings.CutPrefix(user, "user=")
	if !found {
		return false, fmt.Errorf("%w: it names no user", ErrMessage)
	}
	if err := w.attempt.names(user, ""); err != nil {
		return false, err
	}
	// A backend may look for the name in all parts, and would take another one.
	if err := w.attempt.takeToken(rest, "auth"); err != nil {
		return false, err
	}
	return true, nil
}

// bearerKeys are the parts that OAUTHBEARER may have (RFC 7628 section 3.1). Others
// are to be ignored, but then a backend could read a name in them that we do not.
var bearerKeys = []string{"auth", "host", "port", "mthd", "path", "post", "qs"}

// bearerWatcher reads OAUTHBEARER (RFC 7628), which has a GS2 header for the name.
// Without a name in it, nobody but the backend knows whose token it is, so there must
// be one.
type bearerWatcher struct{ attempt *Attempt }

// Next implements Watcher.
func (w *bearerWatcher) Next(message []byte) (proof bool, err error) {
	user, rest, err := cutGS2(string(message))
	if err != nil {
		return false, err
	}
	rest, found := strings.CutPrefix(rest, tokenEnd)
	if !found || user == "" {
		return false, fmt.Errorf("%w: it names no user, or its GS2 header does not end", ErrMessage)
	}
	if err := w.attempt.names(user, ""); err != nil {
		return false, err
	}
	if err := w.attempt.takeToken(rest, bearerKeys...); err != nil {
		return false, err
	}
	return true, nil
}

// takeToken finds the token among the parts of a message, each of which has one of
// the keys, and no two of them the same. Nothing is behind them.
func (a *Attempt) takeToken(parts string, keys ...string) error {
	parts, found := strings.CutSuffix(parts, tokenEnd+tokenEnd)
	if !found {
		return fmt.Errorf("%w: it does not end", ErrMessage)
	}
	var token string
	seen := make([]string, 0, len(keys))
	for part := range strings.SplitSeq(parts, tokenEnd) {
		key, value, found := strings.Cut(part, "=")
		if !found || !slices.Contains(keys, key) || slices.Contains(seen, key) {
			return fmt.Errorf("%w: it has an unknown part, or one twice", ErrMessage)
		}
		seen = append(seen, key)
		if key == "auth" {
			token = value
		}
	}
	scheme, token, _ := strings.Cut(token, " ")
	if !strings.EqualFold(scheme, "Bearer") || !isToken(token) {
		return fmt.Errorf("%w: it has no token", ErrMessage)
	}
	a.Secret = Secret(token)
	return nil
}

// isToken says whether a token has the form of RFC 6750 section 2.1, more or less.
func isToken(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// cutGS2 reads the header of RFC 5801 section 4: whether the client binds to a channel,
// which cannot get through us, and whom it wants to be.
func cutGS2(message string) (authzID, rest string, err error) {
	binding, rest, _ := strings.Cut(message, ",")
	if binding != "n" && binding != "y" {
		return "", "", fmt.Errorf("%w: it binds to a channel, or has no GS2 header", ErrMessage)
	}
	authzID, rest, found := strings.Cut(rest, ",")
	if !found {
		return "", "", fmt.Errorf("%w: its GS2 header does not end", ErrMessage)
	}
	if authzID == "" {
		return "", rest, nil
	}
	if authzID, found = strings.CutPrefix(authzID, "a="); !found {
		return "", "", fmt.Errorf("%w: its GS2 header has an unknown field", ErrMessage)
	}
	authzID, err = saslName(authzID)
	return authzID, rest, err
}

// saslName undoes what keeps commas and equals signs out of a name (RFC 5801
// section 4).
func saslName(s string) (string, error) {
	name := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s)
	if s == "" || strings.Count(s, "=") != strings.Count(s, "=2C")+strings.Count(s, "=3D") {
		return "", fmt.Errorf("%w: a name that is empty, or has a bare equals sign", ErrMessage)
	}
	return name, nil
}
