package doctor

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// Text writes checks for people: a heading for each place, and a line for each check.
type Text struct {
	W io.Writer

	place place
	begun bool
}

// marks are what lines begin with.
var marks = map[Status]string{OK: "✓", Warning: "!", Failed: "✗", Skipped: "-"}

const (
	stepWidth = 12
	lineWidth = 96
)

// Tell writes a check. It is for Doctor.Tell.
func (t *Text) Tell(c Check) {
	p := place{c.Part, c.Name, c.Address, c.Endpoint}
	if p != t.place || !t.begun {
		if t.begun {
			fmt.Fprintln(t.W)
		}
		t.place, t.begun = p, true
		fmt.Fprintln(t.W, heading(c))
	}
	took := ""
	if c.Milliseconds >= 0.1 {
		took = fmt.Sprintf(" (%.1fms)", c.Milliseconds)
	}
	t.wrap(fmt.Sprintf("  %s %-*s ", marks[c.Status], stepWidth, c.Step), c.Message+took)
	for _, advice := range c.Advice {
		if command, found := strings.CutPrefix(advice, "$ "); found {
			fmt.Fprintln(t.W, "      "+command) // to be copied
			continue
		}
		t.wrap("    > ", advice)
	}
}

func heading(c Check) string {
	switch c.Part {
	case PartFront:
		return "For IMAP clients: " + c.Address
	case PartAuth:
		return "For mail servers: " + c.Address
	case PartConfig:
		return "Configuration: " + c.Address
	}
	text := "Backend: " + c.Address
	if c.Name != "" {
		text = "Backend " + c.Name + ": " + c.Address
	}
	if c.Endpoint != "" {
		text += " at " + c.Endpoint
	}
	return text
}

// wrap writes text behind a head, in lines of a width that terminals have. Words are
// not cut, so that commands and fingerprints can be copied.
func (t *Text) wrap(head, text string) {
	indent := strings.Repeat(" ", utf8.RuneCountInString(head))
	line := head
	empty := true
	for word := range strings.FieldsSeq(text) {
		if !empty && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > lineWidth {
			fmt.Fprintln(t.W, line)
			line, empty = indent, true
		}
		if !empty {
			line += " "
		}
		line += word
		empty = false
	}
	fmt.Fprintln(t.W, line)
}
