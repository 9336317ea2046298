package guard

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Domains says which spellings of user names are one account: DOM\user, and user
// alone, are user@example.org if DOM stands for example.org. Its zero value knows
// none.
type Domains struct {
	// byName has the domain for the short name, and for the domain itself.
	byName map[string]string
	// first is the domain of names that have none, or one that is not mapped.
	first string
}

// Map says that a short name, such as a NetBIOS domain, stands for a domain. The
// first domain is that of names without one.
func (d *Domains) Map(short, domain string) error {
	short, domain = fold(short), fold(domain)
	if short == "" || domain == "" {
		return fmt.Errorf("domain %q %q: neither may be empty", short, domain)
	}
	for name, other := range d.byName {
		if other != domain && (name == short || name == domain) {
			return fmt.Errorf("domain %s: it stands for %s already", name, other)
		}
	}
	if d.byName == nil {
		d.byName = make(map[string]string)
		d.first = domain
	}
	d.byName[short], d.byName[domain] = domain, domain
	return nil
}

// Account returns what all spellings of one account have in common. It is for
// counting only: two users may share it, if their domains are not mapped.
//
// Case is folded, and whose mailbox is asked for besides is cut off, in the
// spellings of Exchange: user/shared, DOM/user/shared, DOM\user\shared and
// user@example.org\shared.
func (d *Domains) Account(name string) string { return d.read(name).account }

// spelling is a user name as it is understood.
type spelling struct {
	// account is what it counts as; folded is the whole of it in one case.
	account, folded string
	// delegate says that it names somebody else's mailbox besides.
	delegate bool
}

func (d *Domains) read(name string) spelling {
	s := spelling{folded: fold(strings.TrimSpace(name))}
	local, domain, delegate := d.split(s.folded)
	s.account, s.delegate = local, delegate
	if known, ok := d.byName[domain]; ok {
		domain = known
	} else {
		// Nobody knows whether this is the same account as without a domain. If
		// it is, a budget of its own would be one more for who guesses.
		domain = d.first
	}
	if domain != "" {
		s.account += "@" + domain
	}
	return s
}

const separators = `/\`

func (d *Domains) split(name string) (local, domain string, delegate bool) {
	name = strings.TrimLeft(name, separators)
	first, separator, rest := cut(name)
	second, _, third := cut(rest)
	_, mapped := d.byName[first]
	switch {
	case second == "":
		local = first
	case strings.Contains(first, "@"):
		local, delegate = first, true
	case separator == '\\', third != "", mapped:
		domain, local, delegate = first, second, third != ""
	default:
		local, delegate = first, true
	}
	// A backend that cuts domains off may do so at the first @ or at the last.
	// What goes by the first counts more together.
	local, after, _ := strings.Cut(local, "@")
	if domain == "" {
		domain = after
	}
	return strings.TrimSpace(local), domain, delegate
}

// cut splits a name at its first separator, however many there are in a row.
func cut(name string) (before string, separator byte, after string) {
	i := strings.IndexAny(name, separators)
	if i < 0 {
		return name, 0, ""
	}
	return name[:i], name[i], strings.TrimLeft(name[i:], separators)
}

// fold makes names that differ in case only the same, in all scripts.
func fold(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	return strings.Map(func(r rune) rune {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		return unicode.ToLower(least)
	}, s)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
