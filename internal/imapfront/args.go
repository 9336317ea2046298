package imapfront

import (
	"bytes"
	"errors"
	"strings"
)

var errArgs = errors.New("invalid arguments")

// args walks over the arguments of a command, literals included.
type args struct {
	cmd  *command
	line int // index into cmd.lines
	pos  int // index into that line
}

// end reports whether nothing is left but trailing spaces, which some clients
// send.
func (a *args) end() bool {
	rest := a.cmd.lines[a.line][a.pos:]
	for _, c := range rest {
		if c != ' ' {
			return false
		}
	}
	return a.line == len(a.cmd.lines)-1
}

// astring returns the next argument, which may be an atom, a quoted string or
// a literal.
//
// It is lenient where users and scripts are: an atom may hold characters that
// RFC 3501 wants quoted, and in a quoted string a backslash that escapes
// neither a quote nor a backslash stands for itself, as in "DOM\user".
func (a *args) astring() (string, error) {
	line := a.cmd.lines[a.line]
	if a.pos >= len(line) || line[a.pos] != ' ' {
		return "", errArgs
	}
	a.pos++
	return a.value()
}

// value returns the string that begins here.
func (a *args) value() (string, error) {
	line := a.cmd.lines[a.line]
	if a.pos == len(line) { // the announcement of a literal was cut off here
		if a.line == len(a.cmd.literals) {
			return "", errArgs
		}
		a.line, a.pos = a.line+1, 0
		return string(a.cmd.literals[a.line-1]), nil
	}
	if line[a.pos] == '"' {
		return a.quoted(line)
	}
	start := a.pos
	for a.pos < len(line) && isLenientAtomChar(line[a.pos]) {
		a.pos++
	}
	if a.pos == start {
		return "", errArgs
	}
	return string(line[start:a.pos]), nil
}

func (a *args) quoted(line []byte) (string, error) {
	out := make([]byte, 0, len(line)-a.pos)
	for i := a.pos + 1; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			a.pos = i + 1
			return string(out), nil
		case c == '\\' && i+1 < len(line) && (line[i+1] == '"' || line[i+1] == '\\'):
			i++
			out = append(out, line[i])
		default:
			out = append(out, c)
		}
	}
	return "", errArgs
}

// idFields returns the parameters of ID (RFC 2971), of which there are few, or nil
// if it has none.
func (a *args) idFields() (map[string]string, error) {
	const open = " ("
	if line := a.cmd.lines[a.line][a.pos:]; !bytes.HasPrefix(line, []byte(open)) {
		return nil, nil
	}
	a.pos += len(open)
	fields := make(map[string]string)
	for n := 1; ; n++ {
		name, err := a.value()
		if err != nil {
			return nil, err
		}
		value, err := a.astring()
		if err != nil {
			return nil, err
		}
		fields[strings.ToLower(name)] = value
		rest := a.cmd.lines[a.line][a.pos:]
		switch {
		case len(rest) > 0 && rest[0] == ')':
			return fields, nil
		case len(rest) == 0 || rest[0] != ' ' || n == maxIDFields:
			return nil, errArgs
		}
		a.pos++
	}
}

// maxIDFields is that of RFC 2971 section 3.3.
const maxIDFields = 30

func isLenientAtomChar(c byte) bool {
	switch c {
	case '"', '(', ')', '{', 0x7f:
		return false
	}
	return c > ' '
}
