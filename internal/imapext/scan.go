package imapext

import (
	"bytes"
	"errors"
	"strconv"
	"strings"
)

// errSyntax says that a command or a response is not what its grammar has.
var errSyntax = errors.New("syntax error")

// command is one of the client's. What is read of it is valid as long as its text.
type command struct {
	// text is all of it, as it came, and untagged what follows the tag up to the line's end.
	text, untagged []byte
	tag            string
	// name is in upper case, as in "SORT" and "UID SORT"; uid says that it has UID.
	name string
	uid  bool
	// args are what follows the name, up to the line's end.
	args scanner
}

// parseCommand reads tag and name.
func parseCommand(text []byte) *command {
	c := &command{text: text, args: scanner{rest: withoutEnd(text)}}
	c.tag = c.args.head()
	c.untagged = bytes.TrimLeftFunc(c.args.rest, blank)
	c.name = strings.ToUpper(c.args.head())
	if c.name == "UID" {
		c.uid = true
		c.name += " " + strings.ToUpper(c.args.head())
	}
	return c
}

// head takes one of the first words of a command, and a space behind it. What separates them
// is what the relay takes for that: the name is the one that it has asked for.
func (s *scanner) head() string {
	text := bytes.TrimLeftFunc(s.rest, blank)
	n := bytes.IndexFunc(text, blank)
	if n < 0 {
		n = len(text)
	}
	s.rest = text[n:]
	s.take(' ')
	return string(text[:n])
}

func blank(r rune) bool { return r <= ' ' }

// scanner reads what commands and responses are made of (RFC 3501 section 9), from the
// beginning of rest. It is lenient in what an atom may hold, as servers are.
type scanner struct{ rest []byte }

// word takes the next word, up to a space, and the space.
func (s *scanner) word() string {
	word, rest, _ := bytes.Cut(s.rest, []byte{' '})
	s.rest = rest
	return string(word)
}

// end says whether nothing is left but spaces.
func (s *scanner) end() bool { return len(bytes.TrimLeft(s.rest, " ")) == 0 }

// take takes a byte if it is the next one.
func (s *scanner) take(b byte) bool {
	if len(s.rest) == 0 || s.rest[0] != b {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// spaces takes spaces; some servers write two.
func (s *scanner) spaces() { s.rest = bytes.TrimLeft(s.rest, " ") }

// next returns the next byte, which is not taken; 0 at the end.
func (s *scanner) next() byte {
	if len(s.rest) == 0 {
		return 0
	}
	return s.rest[0]
}

// atom takes an atom. One of them may have brackets with spaces in them, as in
// BODY[HEADER.FIELDS (DATE)].
func (s *scanner) atom() (string, error) {
	n, depth := 0, 0
	for ; n < len(s.rest); n++ {
		b := s.rest[n]
		switch b {
		case '[':
			depth++
		case ']':
			depth--
		}
		if depth <= 0 && (b == ' ' || b == '(' || b == ')' || b == '"' || b == '{') {
			break
		}
	}
	if n == 0 {
		return "", errSyntax
	}
	atom := string(s.rest[:n])
	s.rest = s.rest[n:]
	return atom, nil
}

// astring takes an atom, a quoted string or a literal.
func (s *scanner) astring() (string, error) {
	switch {
	case s.next() == '"':
		return s.quoted()
	case s.atLiteral():
		return s.literal()
	}
	return s.atom()
}

// atLiteral says whether a literal is next, or a literal8 (RFC 3516): an atom may begin
// with its tilde as well, as names of mailboxes do.
func (s *scanner) atLiteral() bool {
	return s.next() == '{' || bytes.HasPrefix(s.rest, []byte("~{"))
}

// nstring takes an astring that may be NIL, which is another thing than an empty one.
func (s *scanner) nstring() (text string, ok bool, err error) {
	quoted := s.next() == '"' || s.atLiteral()
	text, err = s.astring()
	if err != nil || !quoted && strings.EqualFold(text, "NIL") {
		return "", false, err
	}
	return text, true, nil
}

func (s *scanner) quoted() (string, error) {
	out := make([]byte, 0, 32)
	for i := 1; i < len(s.rest); i++ {
		switch b := s.rest[i]; b {
		case '"':
			s.rest = s.rest[i+1:]
			return string(out), nil
		case '\\':
			if i++; i == len(s.rest) {
				return "", errSyntax
			}
			out = append(out, s.rest[i])
		default:
			out = append(out, b)
		}
	}
	return "", errSyntax
}

// literal takes one with its announcement.
func (s *scanner) literal() (string, error) {
	s.take('~')
	line, after, found := bytes.Cut(s.rest, []byte{'\n'})
	digits, ok := bytes.CutPrefix(bytes.TrimSuffix(line, []byte{'\r'}), []byte{'{'})
	digits, closed := bytes.CutSuffix(digits, []byte{'}'})
	size, err := strconv.ParseUint(string(bytes.TrimSuffix(digits, []byte{'+'})), 10, 31)
	if !found || !ok || !closed || err != nil || size > uint64(len(after)) {
		return "", errSyntax
	}
	s.rest = after[size:]
	return string(after[:size]), nil
}

// number takes a number of up to 63 bits.
func (s *scanner) number() (uint64, error) {
	n := 0
	for n < len(s.rest) && '0' <= s.rest[n] && s.rest[n] <= '9' {
		n++
	}
	value, err := strconv.ParseUint(string(s.rest[:n]), 10, 63)
	if err != nil {
		return 0, errSyntax
	}
	s.rest = s.rest[n:]
	return value, nil
}

// list takes what is in parentheses, and calls f in front of each element.
func (s *scanner) list(f func() error) error {
	if !s.take('(') {
		return errSyntax
	}
	for {
		s.spaces()
		if s.take(')') {
			return nil
		}
		if len(s.rest) == 0 {
			return errSyntax
		}
		before := len(s.rest)
		if err := f(); err != nil {
			return err
		}
		if len(s.rest) == before {
			return errSyntax
		}
	}
}

// skip takes one value, whatever it is.
func (s *scanner) skip() error { return s.skipWithin(maxDepth) }

// maxDepth is how deep lists may be in lists.
const maxDepth = 100

func (s *scanner) skipWithin(depth int) error {
	if depth == 0 {
		return errSyntax
	}
	if s.next() == '(' {
		return s.list(func() error { return s.skipWithin(depth - 1) })
	}
	_, err := s.astring()
	return err
}

// untagged reads the beginning of an untagged response: the number, if it has one, and
// its name in upper case. What is left is read on.
func untagged(r []byte) (number uint64, name string, s scanner) {
	s.rest = bytes.TrimSuffix(bytes.TrimSuffix(r, []byte{'\n'}), []byte{'\r'})
	if !s.take('*') {
		return 0, "", s
	}
	s.spaces()
	if b := s.next(); '0' <= b && b <= '9' {
		number, _ = s.number()
		s.spaces()
	}
	name = strings.ToUpper(s.word())
	return number, name, s
}
