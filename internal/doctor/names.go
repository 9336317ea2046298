package doctor

import (
	"maps"
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// spellings are other forms of the user's name, in the order in which they are to be
// tried: user, DOMAIN\user, user@domain. There are none for names that ask for
// the mailbox of somebody else.
func (l *Login) spellings() (others []string) {
	if login.IsDelegate(l.User) {
		return nil
	}
	local, short, domain := l.User, "", l.Domain
	if before, after, found := strings.Cut(l.User, `\`); found {
		short, local = before, after
		if known := l.Domains[strings.ToUpper(short)]; known != "" {
			domain = known
		}
	} else if at := strings.LastIndexByte(l.User, '@'); at >= 0 {
		local, domain = l.User[:at], l.User[at+1:]
	}
	if short == "" {
		short = l.short(domain)
	}
	add := func(form string) {
		if form != l.User && !slices.Contains(others, form) {
			others = append(others, form)
		}
	}
	add(local)
	if short != "" {
		add(short + `\` + local)
	}
	if domain != "" {
		add(local + "@" + domain)
	}
	return others
}

// short is the short name of a domain: the one that is configured, or what Windows
// takes by default, which is the first part of it.
func (l *Login) short(domain string) string {
	for _, name := range slices.Sorted(maps.Keys(l.Domains)) {
		if strings.EqualFold(l.Domains[name], domain) {
			return name
		}
	}
	first, _, _ := strings.Cut(domain, ".")
	return strings.ToUpper(first)
}

// usernameFor is what the option username has to be for a backend to be told one name
// when users type the other. It is empty if that cannot be told.
func usernameFor(typed, told string) string {
	local, _ := login.SplitUser(typed)
	before, after, found := strings.Cut(told, local)
	switch {
	case local == "" || !found:
		return ""
	case before == "" && (after == "" || after[0] == '@'):
		return "{imap.user.local}" + after
	case after == "" && strings.HasSuffix(before, `\`):
		return `"` + before + `{imap.user.local}"`
	}
	return ""
}
