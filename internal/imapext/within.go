package imapext

import (
	"math"
	"time"
)

// within returns how OLDER and YOUNGER (RFC 5032) are looked for where the backend does
// not know them. Both are bounded by a time: what has come before it is older, and all
// else younger. Days that are clearly on one side are told by the backend; times are
// looked at for the days around it, since backends count days in their own zone.
func within(k *searchKey, now time.Time) *searchKey {
	seconds := parseNumber(k.args[0])
	bound := now.Unix() - int64(min(seconds, math.MaxInt64>>1))
	older := k.name == "OLDER"
	m := &matcher{needs: needsDates, matches: func(c *candidate) bool { return (c.date < bound) == older }}
	const day = 24 * 60 * 60
	if bound < 3*day {
		return &searchKey{name: k.name, exact: m} // long before there was mail
	}
	// No NOT is used: Dovecot 2.3 mixes up dates with NOT if OR has two of them.
	on := func(name string, days int64) *searchKey {
		return &searchKey{name: name, args: []string{time.Unix(bound+days*day, 0).UTC().Format(searchDate)}}
	}
	m.may, m.mayNot, m.sure = on("SINCE", -1), on("BEFORE", 2), on("SINCE", 2)
	if older {
		m.may, m.mayNot, m.sure = on("BEFORE", 2), on("SINCE", -1), on("BEFORE", -1)
	} else if seconds <= 3*day {
		m.sure = nil // few are, if any
	}
	return &searchKey{name: k.name, exact: m}
}
