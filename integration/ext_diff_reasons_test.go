//go:build integration

package integration

import (
	"regexp"
	"strings"
)

// diffReason is a difference between Dovecot's answers and ours that stays, and why. It
// takes away from both what differs by a rule.
type diffReason struct {
	why   string
	apply func(command string, dovecot, ours map[string]string)
}

// Reasons for which Dovecot is asked again.
const (
	whyKeys      = "Dovecot simplifies programs with NOT in them wrongly. It has been asked for each key by itself (RFC 3501 section 6.4.4: NOT <search-key> is \"Messages that do not match the specified search key.\")."
	whyAddresses = "An address in letters beyond ASCII is found in the whole field. Dovecot looks at the addresses that it makes of it, which end where one is broken (RFC 3501 section 6.4.4: \"Messages that contain the specified string in the envelope structure's TO field.\")."
	whyTies      = "Threads by REFS whose latest messages are of the same second may be in any order if their first ones are not there (draft-ietf-morg-inthread says nothing of it)."
	// Its sort index gives messages that come later another place than those that are
	// equal to them.
	whyMemory = "Dovecot remembers the order of messages, and forgets that those that come later are equal to others. It has been asked without what it remembers (RFC 5256 section 3: \"the exact ordering is determined by the next sort criteria\")."
)

var (
	statusSize    = regexp.MustCompile(`(?i)\bSTATUS .*\bSIZE\b`)
	statusUIDNext = regexp.MustCompile(`UIDNEXT \d+`)
)

// diffReasons are all that there are, besides those of lists.
var diffReasons = append([]diffReason{
	{"While a mailbox is selected, the sizes of another one cannot be had without leaving the first (RFC 8438 section 3 has the server compute them; ours can only be asked with FETCH).",
		func(command string, dovecot, ours map[string]string) {
			if !statusSize.MatchString(command) {
				return
			}
			for key := range dovecot {
				if _, there := ours[key]; !there && strings.HasPrefix(key, "STATUS ") {
					delete(dovecot, key)
					if strings.HasPrefix(command, "STATUS ") {
						dovecot["status"] = "NO"
					}
				}
			}
			if strings.HasPrefix(command, "STATUS ") && ours["status"] == "NO" {
				delete(ours, "code")
			}
		}},
	{"Messages that were taken back have used up their UIDs (RFC 3501 section 2.3.1.1: \"Unlike message sequence numbers, unique identifiers are not necessarily contiguous.\").",
		func(_ string, dovecot, ours map[string]string) {
			for _, answer := range []map[string]string{dovecot, ours} {
				if text, there := answer["STATUS "+takenBox+" "]; there {
					answer["STATUS "+takenBox+" "] = statusUIDNext.ReplaceAllString(text, "UIDNEXT")
				}
			}
		}},
}, listReasons...)
