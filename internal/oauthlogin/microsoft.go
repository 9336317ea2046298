package oauthlogin

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"github.com/emersion/go-imap/v2"
	"golang.org/x/oauth2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Microsoft Entra ID says invalid_grant to almost everything. What it means is in a
// number: https://learn.microsoft.com/en-us/entra/identity-platform/reference-error-codes

// meaning is what an error says about a login.
type meaning uint8

const (
	// wrong: the password, or there is no such user here.
	wrong meaning = iota + 1
	// locked: the password was not looked at.
	locked
	// expired, and more: the password was right, and does not do.
	expired
	more
	// blocked: refused for a reason that may come before the password.
	blocked
	disabled
	// tooMuch: too many questions.
	tooMuch
	// settings: the application, or its permissions.
	settings
)

// microsoftMeanings are the errors of which it is known what they mean. One that is not
// here counts as no answer.
var microsoftMeanings = map[int]meaning{
	50126: wrong, // user name or password
	50056: wrong, // no such password in the directory
	50064: wrong, // credential validation
	50034: wrong, // no such user
	51004: wrong, // no such user in the directory
	50020: wrong, // a user of another directory
	50014: wrong, // a guest who has not come yet
	50197: wrong, // the user could not be found
	// With the endpoint of one tenant these do not occur; with that for all
	// organizations it is the user's name that belongs to none.
	50059: wrong, 50128: wrong,

	50053: locked,

	50055: expired, // the password
	50144: expired, // the password in Active Directory
	50135: expired, // must be changed, because of a risk
	50142: expired, // must be changed, because of conditional access

	50072: more,                                                      // has to enroll for multi-factor authentication
	50074: more, 50076: more, 50078: more, 50079: more, 500121: more, // multi-factor authentication
	50097: more, 50129: more, 50155: more, // of the device
	50105: more,              // not assigned to the application
	50125: more,              // has to register for password reset
	50158: more, 50161: more, // of somebody else
	53000: more, 53001: more, 53002: more, 53003: more, // conditional access
	53004: more, 53010: more, 53011: more, // risk

	50131:  blocked,                  // conditional access of all kinds
	530032: blocked,                  // security policy
	530034: blocked,                  // suspicious activity
	530035: blocked,                  // security defaults
	500212: blocked, 500213: blocked, // policies between tenants

	50057: disabled,

	50196: tooMuch,

	65001: settings, 65004: settings, 650056: settings, // consent
	65005: settings, 650052: settings, 650057: settings, // permissions
	70001: settings, 700011: settings, 700016: settings, // no such application, or disabled
	7000112: settings,                                       // disabled
	70002:   settings, 7000215: settings, 7000222: settings, // client secret
	700025: settings, 7000218: settings, // public client or not
	70003: settings, 70011: settings, // grant, scope
	500011: settings, // no such resource
	90002:  settings, // no such tenant
	50194:  settings, // not for several tenants
}

// microsoftVerdict says what an error means for a login.
func microsoftVerdict(number int, words string) login.Verdict {
	switch microsoftMeanings[number] {
	case wrong:
		return refusal("", ErrWrong, words)
	case locked:
		return held(lockedFor, fmt.Errorf("%w: %s", ErrLocked, words))
	case expired:
		return proven(imap.ResponseCodeExpired, ErrExpired, words)
	case more:
		return proven(imap.ResponseCodeAuthorizationFailed, ErrMore, words)
	case blocked:
		return refusal(imap.ResponseCodeAuthorizationFailed, ErrMore, words)
	case disabled:
		return refusal(imap.ResponseCodeContactAdmin, ErrDisabled, words)
	case tooMuch:
		return held(lockedFor, fmt.Errorf("%w: %s", ErrBusy, words))
	case settings:
		return unavailable(fmt.Errorf("%w: %s", ErrSettings, words))
	default:
		return unanswered(fmt.Errorf("%w: %s", ErrUnknown, words))
	}
}

// inDescription finds the number at the beginning of a description.
var inDescription = regexp.MustCompile(`^AADSTS([0-9]{1,9})\b`)

// microsoftError returns the number of an error: of several, the first that is known. It
// is 0 if there is none.
func microsoftError(r *oauth2.RetrieveError) int {
	var body struct {
		Codes []int `json:"error_codes"`
	}
	_ = json.Unmarshal(r.Body, &body) // other servers have none
	for _, code := range body.Codes {
		if microsoftMeanings[code] != 0 {
			return code
		}
	}
	if match := inDescription.FindStringSubmatch(r.ErrorDescription); match != nil {
		number, _ := strconv.Atoi(match[1]) // it has digits only
		return number
	}
	if len(body.Codes) > 0 {
		return body.Codes[0]
	}
	return 0
}
