package imaptest

import (
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The words in which Exchange refuses.
const (
	poorUnknown  = "BAD Command Error. 10"
	poorArgument = "BAD Command Argument Error. 11"
	poorCharset  = "NO [BADCHARSET (US-ASCII)] The specified charset is not supported."
)

// poorNeeds are the commands that need a capability.
var poorNeeds = map[string]string{
	"UID EXPUNGE": "UIDPLUS", "MOVE": "MOVE", "UID MOVE": "MOVE", "ID": "ID", "UNSELECT": "UNSELECT", "IDLE": "IDLE", "NAMESPACE": "NAMESPACE",
}

// Arguments of commands, one byte each: a a string, p a pattern of LIST, s a set of
// numbers, the rest in poorTail.
var poorArguments = map[string]string{
	"CAPABILITY": "", "NOOP": "", "LOGOUT": "", "CHECK": "", "CLOSE": "", "EXPUNGE": "", "UNSELECT": "", "IDLE": "", "NAMESPACE": "",
	"SELECT": "a", "EXAMINE": "a", "CREATE": "a", "DELETE": "a", "RENAME": "aa", "SUBSCRIBE": "a", "UNSUBSCRIBE": "a",
	"LIST": "pp", "LSUB": "pp", "COPY": "sa", "UID COPY": "sa", "MOVE": "sa", "UID MOVE": "sa", "UID EXPUNGE": "s",
	"STATUS": "a", "APPEND": "a", "FETCH": "s", "UID FETCH": "s", "STORE": "s", "UID STORE": "s", "SEARCH": "", "UID SEARCH": "", "ID": "",
}

// poorTail says whether what follows the first arguments may be so.
var poorTail = map[string]func(tail []word) bool{
	"STATUS": func(tail []word) bool {
		return len(tail) == 1 && tail[0].kind == '(' && len(tail[0].list) > 0 && !slices.ContainsFunc(tail[0].list, func(w word) bool {
			return w.kind != 0 || !slices.Contains([]string{"MESSAGES", "RECENT", "UIDNEXT", "UIDVALIDITY", "UNSEEN"}, strings.ToUpper(w.text))
		})
	},
	"APPEND": func(tail []word) bool {
		if len(tail) > 0 && tail[0].kind == '(' {
			tail = tail[1:]
		}
		if len(tail) > 0 && tail[0].kind == '"' {
			tail = tail[1:]
		}
		return len(tail) == 1 && tail[0].kind == '{'
	},
	"FETCH": func(tail []word) bool {
		if len(tail) != 1 {
			return false
		}
		if tail[0].kind == '(' {
			return len(tail[0].list) > 0 && !slices.ContainsFunc(tail[0].list, func(w word) bool { return w.kind != 0 || !poorItem.MatchString(w.text) })
		}
		return tail[0].kind == 0 && (poorItem.MatchString(tail[0].text) || slices.Contains([]string{"ALL", "FAST", "FULL"}, strings.ToUpper(tail[0].text)))
	},
	"STORE": func(tail []word) bool {
		return len(tail) >= 2 && tail[0].kind == 0 && regexp.MustCompile(`(?i)^[+-]?FLAGS(\.SILENT)?$`).MatchString(tail[0].text) && (tail[1].kind == 0 || tail[1].kind == '(' && len(tail) == 2)
	},
	"ID": func(tail []word) bool { return len(tail) == 1 },
}

var (
	poorSet  = regexp.MustCompile(`^(?:\d+|\*)(?::(?:\d+|\*))?(?:,(?:\d+|\*)(?::(?:\d+|\*))?)*$`)
	poorItem = regexp.MustCompile(`(?i)^(?:ENVELOPE|FLAGS|INTERNALDATE|RFC822(?:\.HEADER|\.SIZE|\.TEXT)?|BODY|BODYSTRUCTURE|UID|` +
		`BODY(?:\.PEEK)?\[(?:[\d.]*(?:HEADER|TEXT|MIME|HEADER\.FIELDS(?:\.NOT)? \([^()]+\)|\d)?)\](?:<\d+\.\d+>)?)$`)
	poorDate = regexp.MustCompile(`^\d{1,2}-(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)-\d{4}$`)
)

// maxPoorLine is the longest command of an odd server: Exchange's MaxCommandSize.
const maxPoorLine = exchangeCommand

// refuses returns the answer to a command that is refused; none if it is not.
func (p *Poor) refuses(command string) string {
	words, ok := readWords(command)
	if !ok || len(words) == 0 || words[0].kind != 0 {
		return poorArgument
	}
	name := strings.ToUpper(words[0].text)
	words = words[1:]
	if name == "UID" && len(words) > 0 {
		name += " " + strings.ToUpper(words[0].text)
		words = words[1:]
	}
	shape, known := poorArguments[name]
	if need := poorNeeds[name]; !known || need != "" && !p.has(need) {
		return poorUnknown
	}
	if line, _, _ := strings.Cut(command, "\r\n"); p.Odd && len(line) > maxPoorLine {
		return poorArgument
	}
	for _, kind := range shape {
		if len(words) == 0 || words[0].kind == '(' || kind == 's' && !(words[0].kind == 0 && poorSet.MatchString(words[0].text)) {
			return poorArgument
		}
		words = words[1:]
	}
	if strings.HasSuffix(name, "SEARCH") {
		return refusesSearch(words)
	}
	tail := poorTail[strings.TrimPrefix(name, "UID ")]
	if tail == nil && len(words) > 0 || tail != nil && !tail(words) {
		return poorArgument
	}
	return ""
}

// poorKeys are the keys of SEARCH with their arguments: s a string, f a field's name or a
// keyword, n a number, d a date, k another key.
var poorKeys = map[string]string{
	"ALL": "", "ANSWERED": "", "DELETED": "", "FLAGGED": "", "NEW": "", "OLD": "", "RECENT": "", "SEEN": "", "UNANSWERED": "", "UNDELETED": "", "UNFLAGGED": "", "UNSEEN": "", "DRAFT": "", "UNDRAFT": "",
	"BCC": "s", "BODY": "s", "CC": "s", "FROM": "s", "SUBJECT": "s", "TEXT": "s", "TO": "s", "HEADER": "fs", "KEYWORD": "f", "UNKEYWORD": "f",
	"BEFORE": "d", "ON": "d", "SINCE": "d", "SENTBEFORE": "d", "SENTON": "d", "SENTSINCE": "d", "LARGER": "n", "SMALLER": "n", "UID": "u", "NOT": "k", "OR": "kk",
}

// refusesSearch is refuses for the arguments of SEARCH.
func refusesSearch(words []word) string {
	if len(words) > 1 && words[0].kind == 0 && strings.EqualFold(words[0].text, "CHARSET") {
		if !strings.EqualFold(words[1].text, "US-ASCII") {
			return poorCharset
		}
		words = words[2:]
	}
	if len(words) == 0 {
		return poorArgument
	}
	for len(words) > 0 {
		var ok bool
		if words, ok = searchKey(words); !ok {
			return poorArgument
		}
	}
	return ""
}

// searchKey reads one key.
func searchKey(words []word) (rest []word, ok bool) {
	if len(words) == 0 {
		return nil, false
	}
	w, rest := words[0], words[1:]
	if w.kind == '(' {
		list := w.list
		for ok = len(list) > 0; ok && len(list) > 0; {
			list, ok = searchKey(list)
		}
		return rest, ok
	}
	if w.kind != 0 {
		return nil, false
	}
	if poorSet.MatchString(w.text) {
		return rest, true
	}
	arguments, known := poorKeys[strings.ToUpper(w.text)]
	if !known {
		return nil, false
	}
	for _, kind := range arguments {
		if kind == 'k' {
			if rest, ok = searchKey(rest); !ok {
				return nil, false
			}
			continue
		}
		if len(rest) == 0 || rest[0].kind == '(' {
			return nil, false
		}
		text := rest[0].text
		switch kind {
		case 's', 'f':
			ok = !strings.ContainsFunc(text, func(r rune) bool { return r >= 0x80 })
		case 'd':
			ok = poorDate.MatchString(text)
		case 'u':
			ok = rest[0].kind == 0 && poorSet.MatchString(text)
		case 'n':
			_, err := strconv.ParseUint(text, 10, 32)
			ok = err == nil
		}
		if !ok {
			return nil, false
		}
		rest = rest[1:]
	}
	return rest, true
}

// word is a part of a command: kind is 0 for an atom or what is like one, otherwise the
// byte with which it begins.
type word struct {
	kind byte
	text string
	list []word
}

// readWords reads a command with its literals. Between words there is one space.
func readWords(text string) (words []word, ok bool) {
	r := &wordReader{text}
	words, ok = r.words(0)
	return words, ok && r.rest == ""
}

type wordReader struct{ rest string }

// words reads words up to a parenthesis or the end.
func (r *wordReader) words(depth int) (words []word, ok bool) {
	if depth > 50 {
		return nil, false
	}
	for depth == 0 || !strings.HasPrefix(r.rest, ")") {
		if len(words) > 0 {
			if r.rest, ok = strings.CutPrefix(r.rest, " "); !ok {
				return words, depth == 0 && r.rest == ""
			}
		}
		w, ok := r.word(depth)
		if !ok {
			return nil, false
		}
		words = append(words, w)
	}
	r.rest = r.rest[1:]
	return words, true
}

func (r *wordReader) word(depth int) (w word, ok bool) {
	if r.rest == "" {
		return w, false
	}
	switch w.kind = r.rest[0]; w.kind {
	case '(':
		r.rest = r.rest[1:]
		w.list, ok = r.words(depth + 1)
		return w, ok
	case '"':
		for i := 1; i < len(r.rest); i++ {
			switch r.rest[i] {
			case '"':
				r.rest = r.rest[i+1:]
				return w, true
			case '\\':
				i++
			}
			if i < len(r.rest) {
				w.text += r.rest[i : i+1]
			}
		}
		return w, false
	case '{':
		size, rest, found := strings.Cut(r.rest[1:], "+}\r\n")
		n, err := strconv.Atoi(size)
		if !found || err != nil || n > len(rest) {
			return w, false
		}
		w.text, r.rest = rest[:n], rest[n:]
		return w, true
	}
	// An atom, or a section of BODY with what stands in its brackets.
	w.kind = 0
	brackets := 0
	n := 0
	for ; n < len(r.rest); n++ {
		c := r.rest[n]
		switch {
		case c == '[':
			brackets++
		case c == ']' && brackets > 0:
			brackets--
		}
		if brackets == 0 && strings.IndexByte(` ()"{`, c) >= 0 || c < ' ' {
			break
		}
	}
	w.text, r.rest = r.rest[:n], r.rest[n:]
	return w, n > 0
}
