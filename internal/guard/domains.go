package guard

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
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
// user@example.org\shared. So is what is behind a plus.
func (d *Domains) Account(name string) string { return d.read(name).account }

// spelling is a user name as it is understood.
type spelling struct {
	// account is what it counts as; name tells users apart that may share it,
	// since their domains are not mapped.
	account, name string
	// delegate says that it names somebody else's mailbox besides.
	delegate bool
}

func (d *Domains) read(name string) spelling {
	var s spelling
	local, domain, delegate := d.split(fold(strings.TrimSpace(name)))
	s.delegate = delegate
	if domain == "" {
		domain = d.first
	}
	if known, ok := d.byName[domain]; ok {
		s.name = at(local, known)
		s.account = at(undetailed(local), known)
	} else {
		// Nobody knows whether this is the same account as without a domain. If
		// it is, a budget of its own would be one more for who guesses.
		s.name = at(local, domain)
		s.account = at(undetailed(local), d.first)
	}
	return s
}

// undetailed cuts off what is behind a plus: to a Cyrus with imapmagicplus, alice+news is
// alice. Quotes, and dots at the end, are no such thing: no server is known that leaves
// them out.
func undetailed(local string) string {
	if i := strings.IndexByte(local, '+'); i > 0 {
		local = strings.TrimSpace(local[:i])
	}
	return local
}

// at returns the name of a user of a domain, which may be empty.
func at(local, domain string) string {
	if domain == "" {
		return local
	}
	return local + "@" + domain
}

const separators = `/\`

func (d *Domains) split(name string) (local, domain string, delegate bool) {
	// To a Dovecot with master users, alice*admin is admin.
	if i := strings.LastIndexByte(name, '*'); i >= 0 && i+1 < len(name) {
		name, delegate = name[i+1:], true
	}
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
		domain, local, delegate = first, second, delegate || third != ""
	default:
		local, delegate = first, true
	}
	// A backend that cuts domains off may do so at the first @ or at the last.
	// What goes by the first counts more together. Some take % for it.
	after := ""
	if i := strings.IndexAny(local, "@%"); i >= 0 {
		local, after = local[:i], local[i+1:]
	}
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

// fold makes names the same that differ in case only, in all scripts, and those
// that Active Directory may take for one: it looks neither at accents nor at the
// width of letters, nor at characters that nobody sees.
func fold(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	return strings.Map(func(r rune) rune {
		if unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf) {
			return -1
		}
		if plain, ok := strokes[foldRune(r)]; ok {
			return plain
		}
		return foldRune(r)
	}, norm.NFKD.String(strings.Map(foldRune, s)))
}

// foldRune returns the same for all cases of a letter.
func foldRune(r rune) rune {
	least := r
	for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
		// One letter, the iota, is an accent in one of its cases.
		if !unicode.Is(unicode.Mn, f) && (f < least || unicode.Is(unicode.Mn, least)) {
			least = f
		}
	}
	return unicode.ToLower(least)
}

// strokes are letters with a part that Unicode does not take for an accent.
var strokes = map[rune]rune{
	'\u00f8': 'o', // o with a stroke
	'\u0142': 'l', // l with a stroke
	'\u0111': 'd', // d with a stroke
	'\u0127': 'h', // h with a stroke
	'\u0167': 't', // t with a stroke
	'\u0131': 'i', // i without a dot
	'\u1806': -1,  // a hyphen that a backend leaves out which prepares names for SCRAM (RFC 4013 section 2.1)
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}
