package dovecotconf

import (
	"errors"
	"strings"
)

// kind is what a line is.
type kind int

const (
	skip        kind = iota // nothing, or a comment
	more                    // continued by the next
	setting                 // key = value
	fileSetting             // key = <path
	variable                // key = value with a $
	heredoc                 // key = <<marker
	begin                   // key [name] {
	end                     // }
	include                 // !include
	includeTry              // !include_try
)

// line is a line that was taken apart.
type line struct {
	kind       kind
	key, value string
	// ambiguous says that a comment begins without a space before it.
	ambiguous bool
}

// white is what separates words. Dovecot 2.4 takes a few more characters for it,
// which nobody has in a configuration.
const white = " \t"

// stripComment takes away the blanks at both sides, and the comment. A # in quotes
// begins none, wherever the quotes are.
func stripComment(text string) (rest string, ambiguous bool) {
	text = strings.TrimLeft(text, white)
	if strings.HasPrefix(text, "#") {
		return "", false
	}
scan:
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '\'', '"':
			for i++; i < len(text) && text[i] != c; i++ {
				if text[i] == '\\' && i+1 < len(text) {
					i++
				}
			}
			if i >= len(text) { // a quote that is not closed
				break scan
			}
		case '#':
			ambiguous = !strings.ContainsRune(white, rune(text[i-1]))
			text = text[:i]
			break scan
		}
	}
	return strings.TrimRight(text, white), ambiguous
}

// scanLine takes a line apart. What was said by the lines that it continues is in
// before, and is put before it.
func scanLine(before, text string, modern bool) (line, error) {
	text, ambiguous := stripComment(text)
	if text == "" {
		return line{kind: skip}, nil
	}
	if rest, found := strings.CutSuffix(text, `\`); found {
		if rest = strings.TrimRight(rest, white); rest != "" {
			rest += " "
		}
		return line{kind: more, value: before + rest, ambiguous: ambiguous}, nil
	}
	l, err := scanWhole(before+text, modern)
	l.ambiguous = ambiguous
	return l, err
}

// scanWhole takes apart what is complete.
func scanWhole(text string, modern bool) (l line, err error) {
	rest := text
	if modern && strings.HasPrefix(text, `"`) {
		var quoted string
		if quoted, rest, err = cutQuoted(text[1:]); err != nil {
			return l, err
		}
		if l.key, err = unescape(quoted, modern); err != nil {
			return l, err
		}
	} else {
		i := strings.IndexAny(text, white+"=")
		if i < 0 {
			i = len(text)
		}
		l.key, rest = text[:i], text[i:]
	}
	blank := strings.TrimLeft(rest, white) != rest || rest == ""
	rest = strings.TrimLeft(rest, white)
	switch l.key {
	case "!include", "!include_try":
		l.kind, l.value = include, rest
		if l.key == "!include_try" {
			l.kind = includeTry
		}
		if rest == "" {
			return l, errors.New(l.key + " names no file")
		}
		return l, nil
	}
	if value, found := strings.CutPrefix(rest, "="); found {
		if l.key == "" {
			return l, errors.New("a value without a setting before it")
		}
		return scanValue(l, strings.TrimLeft(value, white), modern)
	}
	if l.key == "}" && rest == "" {
		return line{kind: end}, nil
	}
	if !blank {
		return l, errors.New("expected = or {")
	}
	return scanBegin(l, rest, modern)
}

// scanValue reads what is behind the = of a setting.
func scanValue(l line, value string, modern bool) (line, error) {
	l.kind, l.value = setting, value
	if marker, found := strings.CutPrefix(value, "<<"); found && modern && strings.TrimLeft(marker, white) != "" {
		l.kind, l.value = heredoc, strings.TrimLeft(marker, white)
		return l, nil
	}
	if path, found := strings.CutPrefix(value, "<"); found {
		l.kind, l.value = fileSetting, strings.TrimLeft(path, white)
		return l, nil
	}
	if value == "" {
		return l, nil
	}
	first, last := value[0], value[len(value)-1]
	if first != '"' && first != '\'' {
		if strings.Contains(value, "$") {
			l.kind = variable
		}
		return l, nil
	}
	if last != first {
		return l, nil
	}
	if len(value) == 1 {
		l.value = ""
		return l, nil
	}
	var err error
	l.value, err = unescape(value[1:len(value)-1], modern)
	return l, err
}

// scanBegin reads what is behind the key of a block.
func scanBegin(l line, rest string, modern bool) (line, error) {
	l.kind = begin
	if modern && l.key == "group" && rest != "" && rest[0] != '{' {
		label, after, _ := cutWord(rest)
		l.key, rest = "group "+label, after
	}
	if !strings.HasPrefix(rest, "{") {
		if quoted, found := strings.CutPrefix(rest, `"`); found {
			name, after, err := cutQuoted(quoted)
			if err != nil {
				return l, err
			}
			if l.value, err = unescape(name, modern); err != nil {
				return l, err
			}
			rest = strings.TrimLeft(after, white)
		} else {
			l.value, rest, _ = cutWord(rest)
		}
	}
	switch {
	case !strings.HasPrefix(rest, "{"):
		return l, errors.New("expected {, or = before a value")
	case rest != "{":
		return l, errors.New("something behind {, which must be the last on its line")
	}
	return l, nil
}

// cutWord returns the first word and what is behind the blanks after it.
func cutWord(text string) (word, rest string, found bool) {
	i := strings.IndexAny(text, white)
	if i < 0 {
		return text, "", false
	}
	return text[:i], strings.TrimLeft(text[i:], white), true
}

// cutQuoted returns what is before the closing quote, and behind it.
func cutQuoted(text string) (quoted, rest string, err error) {
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case '"':
			return text[:i], text[i+1:], nil
		}
	}
	return "", "", errors.New("a quote that is not closed")
}

// unescape takes the backslashes away, and leaves what they protect.
func unescape(text string, modern bool) (string, error) {
	if !strings.Contains(text, `\`) {
		return text, nil
	}
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		if text[i] == '\\' {
			i++
			switch {
			case i == len(text):
				if modern {
					return "", errors.New(`a \ before the closing quote`)
				}
				continue
			case modern && text[i] != '\\' && text[i] != '"':
				return "", errors.New(`in quotes, \ can only stand before \ and "`)
			}
		}
		b.WriteByte(text[i])
	}
	return b.String(), nil
}
