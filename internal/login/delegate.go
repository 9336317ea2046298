package login

import "strings"

// IsDelegate says whether a name asks for the mailbox of somebody else, in one of
// the spellings of Exchange: user/shared, DOM\user\shared, user@domain\shared.
func IsDelegate(user string) bool {
	if strings.Contains(user, "/") {
		return true
	}
	before, after, found := strings.Cut(user, `\`)
	return found && (strings.Contains(before, "@") || strings.Contains(after, `\`))
}
