package imapauth

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// summary is a verdict in one line, as the tables have it.
func summary(v login.Verdict) string {
	s := v.Result.String()
	if v.Code != "" {
		s += fmt.Sprintf(" [%s]", v.Code)
	}
	if v.Backoff != 0 {
		s += " for " + v.Backoff.String()
	}
	return s
}

const (
	denied      = "denied [AUTHENTICATIONFAILED]"
	unavailable = "unavailable [UNAVAILABLE]"
	limited     = "throttled [LIMIT]"
	throttling  = "throttled [UNAVAILABLE]"
)

// The table of verdicts: what the backend answers to complete credentials.
func TestClassify(t *testing.T) {
	for _, tc := range []struct{ says, want string }{
		{"A1 OK LOGIN completed.", "granted"},
		{"A1 OK", "granted"},
		{"A1 OK [CAPABILITY IMAP4rev1] Logged in", "granted"},
		{"A1 OK [ALERT] Your account is throttled", "granted"},
		{"A1 OK [REFERRAL imap://other.example.org/] moved", "granted"},

		// Refused.
		{"A1 NO LOGIN failed.", denied},
		{"A1 NO AUTHENTICATE failed.", denied},
		{"A1 NO", denied},
		{"A1 no nope", denied},
		{"A1 NO [AUTHENTICATIONFAILED] Authentication failed.", denied},
		{"A1 NO [AUTHENTICATIONFAILED] Too many connections, Server Unavailable", denied},
		{"A1 NO [authenticationfailed] x", denied},
		{"A1 NO [AUTHORIZATIONFAILED] x", "denied [AUTHORIZATIONFAILED]"},
		{"A1 NO [EXPIRED] x", "denied [EXPIRED]"},
		{"A1 NO [CONTACTADMIN] x", "denied [CONTACTADMIN]"},
		{"A1 NO [NOPERM] x", "denied [NOPERM]"},
		{"A1 NO [UNCLOSED x", denied},

		// NO, but not about the password.
		{"A1 NO Server Unavailable. 15", unavailable},
		{"A1 NO server unavailable", unavailable},
		{"A1 NO Service Unavailable", unavailable},
		{"A1 NO Mailbox temporarily unavailable", unavailable},
		{"A1 NO Temporary authentication failure.", unavailable},
		{"A1 NO Internal error occurred", unavailable},
		{"A1 NO Internal Server Error", unavailable},

		// Wants to be left alone.
		{"A1 NO [LIMIT] x", limited},
		{"A1 BAD [LIMIT] x", limited},
		{"* BYE [LIMIT] x", limited},
		{"A1 NO Too many connections", limited},
		{"A1 NO [ALERT] Too many simultaneous connections. (Failure)", limited},
		{"* BYE Too many connections from your address", limited},
		{"A1 NO [UNAVAILABLE] Maximum number of connections from user+IP exceeded", limited},
		{"A1 BAD Request is throttled.", throttling},
		{"A1 BAD Request is throttled. Suggested Backoff Time: 90000 milliseconds", throttling + " for 1m30s"},
		{"A1 NO REQUEST IS THROTTLED. SUGGESTED BACKOFF TIME: 1 MILLISECONDS", throttling + " for 1ms"},
		{"* BYE Request is throttled. Suggested Backoff Time: 250 milliseconds", throttling + " for 250ms"},
		{"A1 BAD Request is throttled. Suggested Backoff Time: soon", throttling},
		{"A1 BAD Request is throttled. Suggested Backoff Time: -5 milliseconds", throttling},
		{"A1 BAD Request is throttled. Suggested Backoff Time: 99999999999999999999999 milliseconds", throttling + " for 1h0m0s"},
		{"A1 NO Rate limit exceeded", throttling},

		// Anything else is the operator's trouble.
		{"A1 NO [UNAVAILABLE] x", unavailable},
		{"A1 NO [INUSE] x", unavailable},
		{"A1 NO [SERVERBUG] x", unavailable},
		{"A1 NO [PRIVACYREQUIRED] x", unavailable},
		{"A1 NO [ALERT] x", unavailable},
		{"A1 NO [REFERRAL imap://u@other.example.org/] x", unavailable},
		{"A1 NO [CANNOT] x", unavailable},
		{"A1 NO [X-OURS] LOGIN failed.", unavailable},
		{"A1 BAD Command received in Invalid state.", unavailable},
		{"A1 BAD [AUTHENTICATIONFAILED] x", unavailable},
		{"A1 BAD User is authenticated but not connected.", unavailable},
		{"* BYE Connection closed. 14", unavailable},
		{"* BYE [AUTHENTICATIONFAILED] x", unavailable},
		{"* BYE", unavailable},

		// The words count only where a text is.
		{"A1 NO [X-THROTTLED throttled] LOGIN failed.", unavailable},
	} {
		r := imapwire.ParseResponse([]byte(tc.says))
		v := classify(&r)
		if got := summary(v); got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.says, got, tc.want)
		}
		checkErr(t, tc.says, v)
	}
}

// The same for what comes before the credentials were complete: never granted,
// never denied.
func TestClassifyEarly(t *testing.T) {
	for _, tc := range []struct{ says, want string }{
		{"A1 OK LOGIN completed.", unavailable},
		{"A1 NO LOGIN failed.", unavailable},
		{"A1 NO [AUTHENTICATIONFAILED] x", unavailable},
		{"A1 NO [CANNOT] Unsupported authentication mechanism", unavailable},
		{"A1 BAD x", unavailable},
		{"* BYE x", unavailable},
		{"A1 NO [LIMIT] x", limited},
		{"A1 BAD Request is throttled. Suggested Backoff Time: 1000 milliseconds", throttling + " for 1s"},
	} {
		r := imapwire.ParseResponse([]byte(tc.says))
		v := classifyEarly(&r)
		if got := summary(v); got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.says, got, tc.want)
		}
		checkErr(t, tc.says, v)
	}
}

// The same for the command that follows a granted login.
func TestClassifyProbe(t *testing.T) {
	for _, tc := range []struct{ says, want string }{
		{"A1 OK NAMESPACE completed.", "granted"},
		{"A1 BAD User is authenticated but not connected.", throttling},
		{"A1 bad user is AUTHENTICATED but NOT CONNECTED", throttling},
		{"A1 NO NAMESPACE failed.", throttling},
		{"A1 NO [SERVERBUG] x", throttling},
		{"A1 NO Too many connections", limited},
		{"A1 BAD Request is throttled. Suggested Backoff Time: 1000 milliseconds", throttling + " for 1s"},
		{"A1 BAD Command Error. 10", unavailable},
		{"* BYE Connection closed. 14", unavailable},
	} {
		r := imapwire.ParseResponse([]byte(tc.says))
		v := classifyProbe(&r)
		if got := summary(v); got != tc.want {
			t.Errorf("%s\n got %s\nwant %s", tc.says, got, tc.want)
		}
		checkErr(t, tc.says, v)
	}
}

// checkErr checks that a verdict has an error where it needs one, and that the
// error quotes nothing of what the backend said.
func checkErr(t *testing.T, line string, v login.Verdict) {
	t.Helper()
	wantErr := v.Result == login.Throttled || v.Result == login.Unavailable
	if (v.Err != nil) != wantErr {
		t.Errorf("%s: error %v", line, v.Err)
	}
	if v.Err == nil {
		return
	}
	r := imapwire.ParseResponse([]byte(line))
	if len(r.Text) > 1 && strings.Contains(v.Err.Error(), string(r.Text)) {
		t.Errorf("%s: the error quotes it: %v", line, v.Err)
	}
}

func TestRefusalErrors(t *testing.T) {
	for _, tc := range []struct {
		says, want string
		is         error
	}{
		{"A1 NO [SERVERBUG] secret", "the backend refused: NO [SERVERBUG]", ErrRefused},
		{"A1 BAD secret", "the backend refused: BAD", ErrRefused},
		{"A1 NO [SECRET] x", "the backend refused: NO and an unknown response code", ErrRefused},
		{"* BYE [UNAVAILABLE] secret", "the backend hung up: BYE [UNAVAILABLE]", ErrBye},
		{"A1 NO [PRIVACYREQUIRED] secret", ErrPrivacy.Error() + ": NO [PRIVACYREQUIRED]", ErrPrivacy},
		{"* BYE Too many connections, secret", "the backend holds off logins: BYE", ErrThrottled},
		{"* PREAUTH secret", ErrPreAuth.Error(), ErrPreAuth},
		{"+ secret", ErrProtocol.Error(), ErrProtocol},
		{"secret", ErrProtocol.Error(), ErrProtocol},
		{"* SECRET secret", ErrProtocol.Error(), ErrProtocol},
	} {
		r := imapwire.ParseResponse([]byte(tc.says))
		err := refusal(&r)
		if !errors.Is(err, tc.is) || err.Error() != tc.want {
			t.Errorf("%s\n got %v\nwant %s", tc.says, err, tc.want)
		}
	}
}

// Failure makes verdicts of the errors of Prepare, also of several joined ones
// with the names of their upstreams.
func TestFailure(t *testing.T) {
	r := imapwire.ParseResponse([]byte("* BYE Request is throttled. Suggested Backoff Time: 1000 milliseconds"))
	held := fmt.Errorf("upstream a: reading the greeting: %w", refusal(&r))
	down := errors.New("upstream b: connecting: refused")
	for _, tc := range []struct {
		err  error
		want login.Verdict
	}{
		{down, login.UnavailableFor(down)},
		{held, login.Verdict{Result: login.Throttled, Code: imap.ResponseCodeUnavailable, Backoff: time.Second, Everybody: true, Err: held}},
	} {
		if got := Failure(tc.err); !reflect.DeepEqual(got, tc.want) {
			t.Errorf("%v: %+v, want %+v", tc.err, got, tc.want)
		}
	}
	both := errors.Join(down, held)
	if got := Failure(both); got.Result != login.Throttled || !errors.Is(got.Err, ErrThrottled) || !strings.Contains(got.Err.Error(), "upstream b") {
		t.Errorf("both: %+v", got)
	}
}
