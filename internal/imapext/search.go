package imapext

import (
	"strconv"
	"strings"
	"time"
)

// searchOp is how a search program is put together (RFC 3501 section 6.4.4).
type searchOp uint8

const (
	// searchLeaf is a key such as SEEN or FROM.
	searchLeaf searchOp = iota
	// searchAnd has all its parts match, searchOr one of two, searchNot not its one.
	searchAnd
	searchOr
	searchNot
	// searchFuzzy is a part that may match loosely (RFC 6203).
	searchFuzzy
)

// searchKey is a search program, or a part of it. It is not changed once parsed.
type searchKey struct {
	op   searchOp
	subs []*searchKey
	// name of a leaf, in upper case. That of a set of numbers is empty, and that of
	// the saved result is savedResult.
	name string
	args []string
	// exact is of a leaf that is answered here, and mixed of what has such parts.
	exact *matcher
	mixed bool
}

// savedResult is the result that was saved (RFC 5182).
const savedResult = "$"

// searchKeys are the keys with what follows them: s a string, d a date, n a number, a an
// atom, u a set of numbers. Those behind the first lines are of extensions.
var searchKeys = map[string]string{
	"ALL": "", "ANSWERED": "", "BCC": "s", "BEFORE": "d", "BODY": "s", "CC": "s", "DELETED": "",
	"DRAFT": "", "FLAGGED": "", "FROM": "s", "HEADER": "ss", "KEYWORD": "a", "LARGER": "n",
	"NEW": "", "OLD": "", "ON": "d", "RECENT": "", "SEEN": "", "SENTBEFORE": "d", "SENTON": "d",
	"SENTSINCE": "d", "SINCE": "d", "SMALLER": "n", "SUBJECT": "s", "TEXT": "s", "TO": "s",
	"UID": "u", "UNANSWERED": "", "UNDELETED": "", "UNDRAFT": "", "UNFLAGGED": "",
	"UNKEYWORD": "a", "UNSEEN": "",

	"OLDER": "n", "YOUNGER": "n", // RFC 5032
	"MODSEQ":  "m",                  // RFC 7162
	"EMAILID": "a", "THREADID": "a", // RFC 8474
	"SAVEDBEFORE": "d", "SAVEDON": "d", "SAVEDSINCE": "d", // RFC 8514
	"X-GM-RAW": "s", "X-GM-LABELS": "s", "X-GM-MSGID": "n", "X-GM-THRID": "n",
}

// parseSearch reads a search program up to the end.
func parseSearch(s *scanner) (*searchKey, error) {
	all := &searchKey{op: searchAnd}
	for {
		key, err := parseSearchKey(s, maxDepth)
		if err != nil {
			return nil, err
		}
		all.add(key)
		if s.end() {
			return all.simple(), nil
		}
		if s.next() != ' ' {
			return nil, errSyntax
		}
		s.spaces()
	}
}

// add adds a part; those of a list in a list are parts of the one list.
func (k *searchKey) add(sub *searchKey) {
	if sub.op == searchAnd {
		k.subs = append(k.subs, sub.subs...)
		return
	}
	k.subs = append(k.subs, sub)
}

// simple returns the one part of a list that has no other.
func (k *searchKey) simple() *searchKey {
	if len(k.subs) == 1 {
		return k.subs[0]
	}
	return k
}

func parseSearchKey(s *scanner, depth int) (*searchKey, error) {
	if depth == 0 {
		return nil, errSyntax
	}
	if s.next() == '(' {
		all := &searchKey{op: searchAnd}
		err := s.list(func() error {
			key, err := parseSearchKey(s, depth-1)
			if err == nil {
				all.add(key)
			}
			if b := s.next(); b != ' ' && b != ')' {
				return errSyntax
			}
			return err
		})
		if err != nil || len(all.subs) == 0 {
			return nil, errSyntax
		}
		return all.simple(), nil
	}
	word, err := s.atom()
	if err != nil {
		return nil, err
	}
	switch name := strings.ToUpper(word); name {
	case "OR":
		return parseSearchParts(s, searchOr, 2, depth)
	case "NOT":
		return parseSearchParts(s, searchNot, 1, depth)
	case "FUZZY":
		return parseSearchParts(s, searchFuzzy, 1, depth)
	default:
		return parseSearchLeaf(s, name)
	}
}

func parseSearchParts(s *scanner, op searchOp, n, depth int) (*searchKey, error) {
	k := &searchKey{op: op}
	for range n {
		if !s.take(' ') {
			return nil, errSyntax
		}
		s.spaces()
		sub, err := parseSearchKey(s, depth-1)
		if err != nil {
			return nil, err
		}
		k.subs = append(k.subs, sub)
	}
	return k, nil
}

func parseSearchLeaf(s *scanner, name string) (*searchKey, error) {
	if name == savedResult {
		return &searchKey{name: savedResult}, nil
	}
	if validSet(name) {
		return &searchKey{args: []string{name}}, nil
	}
	kinds, known := searchKeys[name]
	if !known {
		return nil, errSyntax
	}
	k := &searchKey{name: name}
	for _, kind := range []byte(kinds) {
		if !s.take(' ') {
			return nil, errSyntax
		}
		s.spaces()
		if err := k.parseArg(s, kind); err != nil {
			return nil, err
		}
	}
	if (name == "OLDER" || name == "YOUNGER") && k.args[0] == "0" {
		return nil, errSyntax
	}
	if name == "UID" && k.args[0] == savedResult {
		return &searchKey{name: savedResult}, nil
	}
	return k, nil
}

// parseArg reads what follows a key.
func (k *searchKey) parseArg(s *scanner, kind byte) error {
	if kind == 'm' && s.next() == '"' {
		// The name of an entry and its type may stand before the number.
		entry, err := s.quoted()
		if err != nil || strings.ContainsAny(entry, "\x00\r\n") || !s.take(' ') {
			return errSyntax
		}
		typ, err := s.atom()
		if err != nil || strings.ContainsAny(typ, "\x00\r\n") || !s.take(' ') {
			return errSyntax
		}
		k.args = append(k.args, entry, typ)
	}
	if kind == 'm' || kind == 'n' {
		n, err := s.number()
		k.args = append(k.args, strconv.FormatUint(n, 10))
		return err
	}
	var arg string
	var err error
	if kind == 's' || kind == 'd' {
		arg, err = s.astring()
	} else {
		arg, err = s.atom()
	}
	if kind == 'd' && err == nil {
		_, err = time.Parse(searchDate, arg)
	}
	if kind != 's' && strings.ContainsAny(arg, "\x00\r\n") {
		err = errSyntax
	}
	if kind == 'u' && arg != savedResult && !validSet(arg) {
		err = errSyntax
	}
	k.args = append(k.args, arg)
	return err
}

// searchDate is how a date is written in a search program.
const searchDate = "2-Jan-2006"
