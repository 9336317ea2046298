package imapext

import (
	"strings"
	"time"
)

// sentDate returns the sent date of a message (RFC 5256 section 2.2) in seconds since
// 1970 UTC. A zone that is not known is UTC, and a time that is wrong or missing is that
// of midnight. There is none if the day is wrong or missing: INTERNALDATE takes its place.
func sentDate(value []byte) (unix int64, ok bool) {
	t := tokens{rest: value}
	t.space()
	word := t.dateWord()
	if len(word) == 3 && t.next() == ',' {
		t.take()
		t.space()
		word = t.dateWord()
	}
	day, ok := decimal(word, 1, 2)
	month, known := monthNamed(t.dateWord())
	word = t.dateWord()
	year, valid := decimal(word, 2, 4)
	if !ok || !known || !valid || len(word) == 3 {
		return 0, false
	}
	if len(word) == 2 {
		if year += 1900; year < 1970 {
			year += 100
		}
	}
	date := time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
	if date.Day() != day || year < 1900 {
		return 0, false
	}
	return date.Unix() + t.timeOfDay(), true
}

// dateWord takes a word, which is valid until the next one.
func (t *tokens) dateWord() []byte {
	t.out = t.out[:0]
	t.atom()
	return t.out
}

// timeOfDay reads time and zone and returns how many seconds they are from midnight UTC.
func (t *tokens) timeOfDay() int64 {
	parts := [3]int{}
	for i := range parts {
		if i > 0 {
			if b := t.next(); b != ':' && b != '.' {
				if i == 1 {
					return 0 // hours alone are no time
				}
				break
			}
			t.take()
			t.space()
		}
		var ok bool
		if parts[i], ok = decimal(t.dateWord(), min(2, i+1), 2); !ok {
			return 0
		}
	}
	if parts[2] == 60 {
		parts[2] = 59 // a leap second
	}
	if parts[0] > 23 || parts[1] > 59 || parts[2] > 59 {
		return 0
	}
	return int64(parts[0]*3600+parts[1]*60+parts[2]) - int64(zone(t.dateWord()))*60
}

// zone returns by how many minutes a zone is before UTC.
func zone(name []byte) int {
	if len(name) == 5 && (name[0] == '+' || name[0] == '-') {
		if hm, ok := decimal(name[1:], 4, 4); ok {
			minutes := hm/100*60 + hm%100
			if name[0] == '-' {
				return -minutes
			}
			return minutes
		}
		return 0
	}
	// RFC 5322 section 4.3. Letters alone mean nothing there.
	switch strings.ToUpper(string(name)) {
	case "EDT":
		return -4 * 60
	case "EST", "CDT":
		return -5 * 60
	case "CST", "MDT":
		return -6 * 60
	case "MST", "PDT":
		return -7 * 60
	case "PST":
		return -8 * 60
	}
	return 0
}

// decimal reads a number of so many digits.
func decimal(text []byte, least, most int) (n int, ok bool) {
	if len(text) < least || len(text) > most {
		return 0, false
	}
	for _, b := range text {
		if b < '0' || b > '9' {
			return 0, false
		}
		n = n*10 + int(b-'0')
	}
	return n, true
}

const monthNames = "jan feb mar apr may jun jul aug sep oct nov dec"

// monthNamed returns the month whose name begins like that.
func monthNamed(name []byte) (time.Month, bool) {
	if len(name) < 3 {
		return 0, false
	}
	i := strings.Index(monthNames, strings.ToLower(string(name[:3])))
	return time.Month(i/4 + 1), i >= 0 && i%4 == 0
}

// internalDate reads what INTERNALDATE has (RFC 3501 section 9, date-time).
func internalDate(text string) (unix int64, ok bool) {
	t, err := time.Parse("_2-Jan-2006 15:04:05 -0700", strings.TrimSpace(text))
	return t.Unix(), err == nil
}
