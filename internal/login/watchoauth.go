package login

import (
	"fmt"
	"strings"
)

// The parts of messages with tokens end with control-A.
const tokenEnd = "\x01"

// xoauth2Watcher reads Google's XOAUTH2, which Microsoft took over: the user's name
// and the token are in the one message that is not an answer to an error.
type xoauth2Watcher struct {
	attempt *Attempt
	done    bool
}

// Next implements Watcher.
func (w *xoauth2Watcher) Next(message []byte) (proof bool, err error) {
	if w.done {
		return false, ErrMessage
	}
	w.done = true
	user, rest, _ := strings.Cut(string(message), tokenEnd)
	user, found := strings.CutPrefix(user, "user=")
	if !found {
		return false, fmt.Errorf("%w: it names no user", ErrMessage)
	}
	w.attempt.User = user
	return true, w.attempt.takeToken(rest)
}

// bearerWatcher reads OAUTHBEARER (RFC 7628), which has a GS2 header for the name.
// Without a name in it, nobody but the backend knows whose token it is, so there must
// be one.
type bearerWatcher struct {
	attempt *Attempt
	done    bool
}

// Next implements Watcher.
func (w *bearerWatcher) Next(message []byte) (proof bool, err error) {
	if w.done {
		return false, ErrMessage
	}
	w.done = true
	authzID, rest, err := cutGS2(string(message))
	if err != nil {
		return false, err
	}
	if authzID == "" {
		return false, fmt.Errorf("%w: it names no user", ErrMessage)
	}
	w.attempt.User = authzID
	rest, found := strings.CutPrefix(rest, tokenEnd)
	if !found {
		return false, ErrMessage
	}
	return true, w.attempt.takeToken(rest)
}

// takeToken finds the token among the parts of a message, and nothing behind them.
func (a *Attempt) takeToken(parts string) error {
	for {
		part, rest, found := strings.Cut(parts, tokenEnd)
		switch {
		case !found || part == "" && rest != "":
			return ErrMessage
		case part == "" && a.Secret == "":
			return fmt.Errorf("%w: it has no token", ErrMessage)
		case part == "":
			return nil
		}
		if value, found := strings.CutPrefix(part, "auth="); found {
			if a.Secret != "" {
				return fmt.Errorf("%w: it has two tokens", ErrMessage)
			}
			a.Secret = Secret(value)
		}
		parts = rest
	}
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
	if s == "" {
		return "", fmt.Errorf("%w: an empty name", ErrMessage)
	}
	name := strings.NewReplacer("=2C", ",", "=3D", "=").Replace(s)
	if strings.Count(s, "=") != strings.Count(s, "=2C")+strings.Count(s, "=3D") {
		return "", fmt.Errorf("%w: a name with a bare equals sign", ErrMessage)
	}
	return name, nil
}
