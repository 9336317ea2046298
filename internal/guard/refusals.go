package guard

import (
	"slices"

	"github.com/emersion/go-imap/v2"
)

// refused is a password that was wrong.
type refused struct {
	try  shortID
	code imap.ResponseCode
	// times is how often it was refused; next is when it may be asked about again.
	times int
	next  instant
}

// refusalOf returns what is remembered of a refusal; nil if there was none.
func (a *account) refusalOf(try shortID) *refused {
	for i := range a.refused {
		if a.refused[i].try == try {
			return &a.refused[i]
		}
	}
	return nil
}

// refuse remembers a wrong password. If it was right before, and is the last that
// was, the account may be locked or the password expired, and it is asked about
// again soon; if another was right since, it has been changed.
func (a *account) refuse(t *ticket, code imap.ResponseCode, now instant) {
	r := refused{try: t.try, code: code, times: 1}
	if old := a.refusalOf(t.try); old != nil {
		r.times += old.times
	}
	if a.isLatest(t) {
		r.next = now.add(grantedAgain)
	} else {
		r.next = now.add(refusedAgain[min(r.times, len(refusedAgain))-1])
	}
	a.refused = slices.DeleteFunc(a.refused, func(old refused) bool { return old.try == t.try })
	a.refused = last(a.refused, maxRefused, r)
}
