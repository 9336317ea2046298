package imapauth

import (
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Words that servers use where they should use a response code (RFC 5530), in
// lower case. They are looked for in the text of a status only.
var (
	// throttlingWords: the backend wants to be left alone. It has not looked at
	// the password, or does not say what it found.
	throttlingWords = []string{
		"throttled", // Exchange
		"rate limit",
	}
	// crowdingWords: there are too many connections already.
	crowdingWords = []string{
		"too many connections",
		"too many simultaneous", // Gmail
		"maximum number of connections",
		"connection limit",
	}
	// troubleWords: a NO that says nothing about the password.
	troubleWords = []string{
		"server unavailable", // Exchange
		"service unavailable",
		"temporarily unavailable",
		"temporary authentication failure",
		"internal error",
		"internal server error",
	}
	// notConnectedWords: Exchange's second thought about a login that it
	// answered with OK.
	notConnectedWords = []string{"not connected"}
)

// classify is the table of verdicts: it says what the backend's answer to
// complete credentials means. The answer is the tagged one, or a BYE.
func classify(r *imapwire.Response) login.Verdict {
	switch r.Status {
	case imap.StatusResponseTypeOK:
		return login.Verdict{Result: login.Granted}
	case imap.StatusResponseTypeNo:
		switch r.Code {
		case imap.ResponseCodeAuthenticationFailed,
			imap.ResponseCodeAuthorizationFailed,
			imap.ResponseCodeExpired,
			imap.ResponseCodeContactAdmin,
			imap.ResponseCodeNoPerm:
			return login.DeniedWith(r.Code)
		}
	}
	if v, held := throttled(r); held {
		return v
	}
	if r.Status == imap.StatusResponseTypeNo && r.Code == "" && !says(r, troubleWords) {
		return login.DeniedWith(imap.ResponseCodeAuthenticationFailed)
	}
	return login.UnavailableFor(refusal(r))
}

// classifyEarly says what an answer means that came before the credentials were
// complete. Whatever it is, it says nothing about them.
func classifyEarly(r *imapwire.Response) login.Verdict {
	if v, held := throttled(r); held {
		return v
	}
	return login.UnavailableFor(refusal(r))
}

// classifyProbe says what the answer to a command after a granted login means,
// which is sent to see whether the login is real.
func classifyProbe(r *imapwire.Response) login.Verdict {
	if r.Status == imap.StatusResponseTypeOK {
		return login.Verdict{Result: login.Granted}
	}
	if v, held := throttled(r); held {
		return v
	}
	bad := r.Status == imap.StatusResponseTypeBad && says(r, notConnectedWords)
	if bad || r.Status == imap.StatusResponseTypeNo {
		err := fmt.Errorf("%w: %s", ErrNotConnected, words(r))
		v := login.ThrottledFor(imap.ResponseCodeUnavailable, 0, err)
		v.Suspect = true
		return v
	}
	return login.UnavailableFor(refusal(r))
}

// throttled recognises a backend that wants to be left alone, whatever it was
// asked.
func throttled(r *imapwire.Response) (login.Verdict, bool) {
	switch r.Status {
	case imap.StatusResponseTypeNo, imap.StatusResponseTypeBad, imap.StatusResponseTypeBye:
	default:
		return login.Verdict{}, false
	}
	code := imap.ResponseCodeLimit
	switch {
	case r.Code == imap.ResponseCodeLimit, says(r, crowdingWords):
	case says(r, throttlingWords):
		code = imap.ResponseCodeUnavailable
	default:
		return login.Verdict{}, false
	}
	return login.ThrottledFor(code, backoff(r), fmt.Errorf("%w: %s", ErrThrottled, words(r))), true
}

func says(r *imapwire.Response, anyOf []string) bool {
	text := strings.ToLower(string(r.Text))
	for _, word := range anyOf {
		if strings.Contains(text, word) {
			return true
		}
	}
	return false
}

// backoff finds the time in "Request is throttled. Suggested Backoff Time: 4711
// milliseconds".
func backoff(r *imapwire.Response) time.Duration {
	_, rest, found := strings.Cut(strings.ToLower(string(r.Text)), "backoff time:")
	if !found {
		return 0
	}
	rest = strings.TrimLeft(rest, " ")
	var d time.Duration
	for i := 0; i < len(rest) && '0' <= rest[i] && rest[i] <= '9'; i++ {
		d = min(d*10+time.Duration(rest[i]-'0')*time.Millisecond, maxBackoff)
	}
	return d
}
