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
	exact := &searchKey{name: k.name, exact: &matcher{needs: needsDates, matches: func(m *candidate) bool {
		return (m.date < bound) == older
	}}}
	const day = 24 * 60 * 60
	if bound < 3*day {
		return exact
	}
	on := func(name string, days int64) *searchKey {
		return &searchKey{name: name, args: []string{time.Unix(bound+days*day, 0).UTC().Format(searchDate)}}
	}
	sure, maybe := on("SINCE", 2), on("SINCE", -1)
	if older {
		sure, maybe = on("BEFORE", -1), on("BEFORE", 2)
	}
	return &searchKey{op: searchOr, subs: []*searchKey{sure, {op: searchAnd, subs: []*searchKey{maybe, exact}}}}
}
