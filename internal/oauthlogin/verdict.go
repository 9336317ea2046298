package oauthlogin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/oauth2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Errors that a login without a token can end with. They are for the operator, and
// quote nothing that the endpoint said but registered words and the numbers of
// Microsoft's errors: what it says in words may hold names, or what it was sent.
var (
	// ErrNoToken says that there is no token, and not because of the user. All errors of
	// verdicts that are unavailable wrap it.
	ErrNoToken = errors.New("no token could be got")
	// ErrTimeout says that the endpoint did not answer in time.
	ErrTimeout = errors.New("the token endpoint did not answer in time")
	// ErrAnswer says that the answer is not what RFC 6749 section 5 has.
	ErrAnswer = errors.New("the answer of the token endpoint cannot be read, or is none of OAuth 2.0")
	// ErrTrouble says that the endpoint has troubles of its own.
	ErrTrouble = errors.New("the token endpoint is in trouble")
	// ErrSettings says that the endpoint does not take this program, whoever the user is.
	ErrSettings = errors.New("the token endpoint refuses this program, and not the user")
	// ErrUnknown says that the endpoint refuses for a reason that nobody here knows.
	ErrUnknown = errors.New("the token endpoint refuses, for a reason that is not known to be a wrong password")
	// ErrBusy says that the endpoint wants to be left alone for a while.
	ErrBusy = errors.New("the token endpoint holds off logins")
	// ErrTenant says that there is no tenant for the domain of the user's name.
	ErrTenant = errors.New("the option tenant of oauth2 has no tenant for the domain of this name")
	// ErrWrong says that name or password are wrong, where the endpoint has a number for it.
	ErrWrong = errors.New("the token endpoint refuses the name or the password")
	// ErrLocked says that the account is locked. The password was not looked at.
	ErrLocked = errors.New("the account is locked at the token endpoint after wrong passwords, or the address of this server is thought to be hostile")
	// ErrExpired says that the password was right, and has to be changed.
	ErrExpired = errors.New("the password has expired, or must be changed")
	// ErrDisabled says that the account is disabled.
	ErrDisabled = errors.New("the account is disabled")
	// ErrMore says that a password is not enough.
	ErrMore = errors.New("a password is not enough for this account: multi-factor authentication, conditional access or " +
		"an assignment to the application stands against it")
)

// lockedFor is for how long a locked account is left alone, which is for how long
// Microsoft locks it first. maxBackoff bounds what an endpoint may ask for.
const (
	lockedFor  = time.Minute
	maxBackoff = time.Hour
)

// verdict says what it means for a login that there is no token.
func (s *Source) verdict(ctx context.Context, err error) login.Verdict {
	var refused *oauth2.RetrieveError
	switch {
	case errors.As(err, &refused):
		return s.classify(refused)
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return unanswered(fmt.Errorf("%w: %w", ErrTimeout, context.DeadlineExceeded))
	case ctx.Err() != nil:
		return unanswered(context.Cause(ctx))
	case errors.Is(err, errToken):
		return unanswered(fmt.Errorf("%w: %w", ErrAnswer, err))
	}
	if err := own(err); err != nil {
		return unanswered(fmt.Errorf("asking the token endpoint: %w", err))
	}
	return unanswered(ErrAnswer)
}

// unavailable is the verdict of a login that says nothing about the password, which
// the endpoint has not looked at; unanswered is one where it may have.
func unavailable(err error) login.Verdict {
	return login.UnavailableFor(fmt.Errorf("%w: %w", ErrNoToken, err))
}

func unanswered(err error) login.Verdict {
	v := unavailable(err)
	v.Unanswered = true
	return v
}

// classify says what an error of the endpoint means.
func (s *Source) classify(r *oauth2.RetrieveError) login.Verdict {
	status := r.Response.StatusCode
	number := microsoftError(r)
	switch {
	case status == http.StatusTooManyRequests:
		return held(backoff(r.Response.Header.Get("Retry-After"), time.Now()), fmt.Errorf("%w: status %d", ErrBusy, status))
	case status >= http.StatusInternalServerError:
		return unanswered(fmt.Errorf("%w: status %d", ErrTrouble, status))
	case s.cfg.Grant == ClientCredentials:
		// There is no user who could be refused.
		return unavailable(fmt.Errorf("%w: %s", ErrSettings, words(r, number)))
	case number != 0:
		return microsoftVerdict(number, words(r, number))
	}
	switch r.ErrorCode {
	case "invalid_grant":
		return login.DeniedWith("")
	case "mfa_required", "interaction_required":
		return proven(imap.ResponseCodeAuthorizationFailed, ErrMore, words(r, number))
	case "invalid_client", "unauthorized_client", "unsupported_grant_type", "invalid_scope", "invalid_request", "invalid_target":
		return unavailable(fmt.Errorf("%w: %s", ErrSettings, words(r, number)))
	case "temporarily_unavailable", "server_error":
		return unanswered(fmt.Errorf("%w: %s", ErrTrouble, words(r, number)))
	case "slow_down":
		return held(0, fmt.Errorf("%w: %s", ErrBusy, words(r, number)))
	case "":
		return unanswered(fmt.Errorf("%w: status %d", ErrAnswer, status))
	default:
		return unanswered(fmt.Errorf("%w: %s", ErrUnknown, words(r, number)))
	}
}

// held is the verdict of an endpoint that wants to be left alone. It does not say
// whether it has counted the password.
func held(backoff time.Duration, err error) login.Verdict {
	v := login.ThrottledFor(imap.ResponseCodeUnavailable, backoff, err)
	v.Unanswered = true
	return v
}

// refusal is the verdict for a user who is refused for another reason than his
// password, and says nothing about that; proven is one where it was right.
func refusal(code imap.ResponseCode, why error, words string) login.Verdict {
	v := login.DeniedWith(code)
	v.Err = fmt.Errorf("%w: %s", why, words)
	return v
}

func proven(code imap.ResponseCode, why error, words string) login.Verdict {
	v := refusal(code, why, words)
	v.Proven = true
	return v
}

// errorWords are those that are registered, or that everybody uses. Any other may be
// what the endpoint was sent.
var errorWords = []string{
	// RFC 6749, sections 4.1.2.1 and 5.2
	"invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
	"access_denied", "unsupported_response_type", "server_error", "temporarily_unavailable",
	// RFC 8628, RFC 8693, RFC 9449 and OpenID Connect
	"slow_down", "expired_token", "invalid_target", "invalid_dpop_proof", "use_dpop_nonce",
	"interaction_required", "login_required", "consent_required", "account_selection_required",
	"mfa_required", // Auth0
}

// maxNumber is the largest number of Microsoft's; a larger one may be anything.
const maxNumber = 9_999_999

// words names an error without quoting more than a word and a number that are known to be
// those of errors.
func words(r *oauth2.RetrieveError, number int) string {
	word := r.ErrorCode
	if !slices.Contains(errorWords, word) {
		word = "status " + strconv.Itoa(r.Response.StatusCode)
	}
	if number > 0 && number <= maxNumber {
		word += ", AADSTS" + strconv.Itoa(number)
	}
	return word
}

// backoff reads Retry-After: seconds, or a date (RFC 9110 section 10.2.3). It is 0 for
// anything else.
func backoff(text string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(text, 10, 32); err == nil {
		return min(time.Duration(seconds)*time.Second, maxBackoff)
	}
	if at, err := http.ParseTime(text); err == nil {
		return min(max(at.Sub(now), 0), maxBackoff)
	}
	return 0
}
