//go:build integration

package integration

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// diffReason is a difference between Dovecot's answers and ours that stays.
type diffReason struct {
	// why has the sentence of an RFC, and told is how docs/extensions.md begins to tell it.
	why, told string
	// apply takes away from both answers what differs by this rule. It is nil where Dovecot
	// is asked again in another way instead, and where messages and programs by chance have
	// none of it.
	apply func(command string, dovecot, ours map[string]string)
}

// Reasons for which Dovecot is asked again, and others that need more than the answers.
var (
	whyKeys = &diffReason{
		why:  "Dovecot simplifies programs with NOT in them wrongly. It has been asked for each key by itself (RFC 3501 section 6.4.4: NOT <search-key> is \"Messages that do not match the specified search key.\").",
		told: "NOT below OR, and before several keys,",
	}
	// Its sort index gives messages that come later another place than those that are equal
	// to them.
	whyMemory = &diffReason{
		why:  "Dovecot remembers the order of messages, and forgets that those that come later are equal to others. It has been asked without what it remembers (RFC 5256 section 3: \"If two or more messages exactly match according to the sorting criteria, these messages are sorted according to the order in which they appear in the mailbox.\").",
		told: "Messages that are equal by one key are ordered by the next one",
	}
	whyAddresses = &diffReason{
		why:  "An address in letters beyond ASCII is found in the whole field. Dovecot looks at the addresses that it makes of it, which end where one is broken (RFC 3501 section 6.4.4: \"Messages that contain the specified string in the envelope structure's TO field.\").",
		told: "Addresses in letters beyond ASCII are looked for in the whole field",
	}
	whyTies = &diffReason{
		why:  "Threads by REFS whose latest messages are of the same second may be in any order if their first ones are not there (draft-ietf-morg-inthread says nothing of it).",
		told: "By REFS, threads whose latest messages are of the same second",
	}
	whyLimit = &diffReason{
		why:  "We read so many messages and no more (RFC 5530 section 3, LIMIT: \"The operation ran up against an implementation limit of some kind\").",
		told: "A search that would have to read more than",
	}
)

// leftOut are differences that messages and programs by chance have none of: one of them
// would make all behind it differ.
var leftOut = []*diffReason{
	{why: "RFC 5256 section 2.2: \"If the time is also invalid, the time SHOULD be treated as 00:00:00.\"; Dovecot takes INTERNALDATE.", told: "A time of day that cannot be read"},
	{why: "RFC 5234 section 2.3: \"ABNF strings are case insensitive\".", told: "Names of time zones count in any case"},
	{why: "RFC 5051 section 2 has decompositions replaced again and again.", told: "Letters that stand for two"},
	{why: "RFC 5256 section 2.1: \"Convert all multiple spaces to a single space.\"; Dovecot makes two of a space and a fold.", told: "A space and a fold in a subject are one space"},
	{why: "RFC 5256 section 3: \"If a message does not contain a References header line ... use the first (if any) valid Message ID found in the In-Reply-To header line\"; Dovecot puts what was read of a broken one before the next one.", told: "What is broken in References does not matter to what follows"},
	{why: "RFC 3501 section 6.3.2: \"No changes to the permanent state of the mailbox, including per-user state, are permitted\"; Dovecot moves messages out of it.", told: "Messages are not moved out of a mailbox that was opened with EXAMINE"},
	{why: "RFC 7888 section 4 has a server read a literal that needs no invitation even if it refuses the command; Dovecot takes it for commands.", told: "A MULTIAPPEND that is refused is read to its end"},
}

var (
	statusSize    = regexp.MustCompile(`(?i)\bSTATUS .*\bSIZE\b`)
	statusUIDNext = regexp.MustCompile(`UIDNEXT \d+`)
)

// diffReasons are all that are applied to answers.
var diffReasons = append([]*diffReason{
	{
		why:  "While a mailbox is selected, the sizes of another one cannot be had without leaving the first (RFC 8438 section 3 has the server compute them; ours can only be asked with FETCH).",
		told: "While a mailbox is selected, the size of another one is refused",
		apply: func(command string, dovecot, ours map[string]string) {
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
		},
	},
	{
		why:  "Messages that were taken back have used up their UIDs (RFC 3501 section 2.3.1.1: \"Unlike message sequence numbers, unique identifiers are not necessarily contiguous.\").",
		told: "Messages that were taken back have used up their UIDs",
		apply: func(_ string, dovecot, ours map[string]string) {
			for _, answer := range []map[string]string{dovecot, ours} {
				if text, there := answer["STATUS "+takenBox+" "]; there {
					answer["STATUS "+takenBox+" "] = statusUIDNext.ReplaceAllString(text, "UIDNEXT")
				}
			}
		},
	},
}, listReasons...)

// TestDifferencesAreTold compares the reasons with the documentation.
func TestDifferencesAreTold(t *testing.T) {
	page, err := os.ReadFile("../docs/extensions.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(strings.ReplaceAll(string(page), "`", "")), " ")
	for _, r := range slices.Concat(diffReasons, leftOut, []*diffReason{whyKeys, whyMemory, whyAddresses, whyTies, whyLimit}) {
		if r.told == "" || !strings.Contains(text, r.told) {
			t.Errorf("%q is not told: %s", r.told, r.why)
		}
	}
}
