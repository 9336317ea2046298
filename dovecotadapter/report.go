package dovecotadapter

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

// translation is the state of an adaptation: what there is to say of each line.
type translation struct {
	name string
	conf *dovecotconf.Config
	// fates has what became of each setting and block.
	fates    map[*dovecotconf.Node]Fate
	warnings []caddyconfig.Warning
	// refused are reasons why there is no configuration.
	refused []error

	top      settings
	passdbs  []*passdb
	services map[string]*service
	// narrowed are blocks that hold for some addresses or names only.
	narrowed []*dovecotconf.Node
	// imapOnly and mailOnly are blocks that do not hold for mail servers, or only for
	// them.
	imapOnly, mailOnly []*dovecotconf.Node
	// userdbs are those, and sessions the blocks service imap.
	userdbs, sessions []*dovecotconf.Node
	// uncached is the line that says that right passwords are not remembered.
	uncached *dovecotconf.Node
	// asked says that mail servers can ask about passwords.
	asked bool
}

func newTranslation(name string, conf *dovecotconf.Config) *translation {
	t := &translation{
		name: name, conf: conf,
		fates:    make(map[*dovecotconf.Node]Fate),
		services: make(map[string]*service),
	}
	t.top.t = t
	for _, note := range conf.Notes {
		t.warnings = append(t.warnings, caddyconfig.Warning{File: note.File, Line: note.Line, Message: note.Text})
	}
	return t
}

// mark notes what becomes of a setting or block. What is said last counts.
func (t *translation) mark(n *dovecotconf.Node, f Fate) { t.fates[n] = f }

// markAll does so for all that is in it, too.
func (t *translation) markAll(n *dovecotconf.Node, f Fate) {
	dovecotconf.Walk([]*dovecotconf.Node{n}, func(n *dovecotconf.Node) bool {
		t.mark(n, f)
		return true
	})
}

// warn adds a warning at the line of a setting or block.
func (t *translation) warn(n *dovecotconf.Node, format string, args ...any) {
	t.warnings = append(t.warnings, caddyconfig.Warning{
		File: n.File, Line: n.Line, Directive: directive(n), Message: fmt.Sprintf(format, args...),
	})
}

// directive is how a setting or block is called in a warning.
func directive(n *dovecotconf.Node) string { return strings.TrimSpace(n.Key + " " + n.Name) }

// safe warns that something is carried over in another way, which is safer.
func (t *translation) safe(n *dovecotconf.Node, format string, args ...any) {
	t.warn(n, "made safe: "+format, args...)
}

// drop notes that a setting, or a block with all that is in it, has no equal.
func (t *translation) drop(n *dovecotconf.Node, format string, args ...any) {
	t.leave(n, NoEqual, ": "+format, args...)
}

// leave notes that a setting, or a block with all that is in it, is not carried
// over. The text goes on behind the word for the fate.
func (t *translation) leave(n *dovecotconf.Node, f Fate, format string, args ...any) {
	t.markAll(n, f)
	text := f.String() + fmt.Sprintf(format, args...)
	if n.Block && n.End > n.Line {
		text += fmt.Sprintf(" (the block, to line %d)", n.End)
	}
	t.warn(n, "%s", text)
}

// refuse notes that there can be no configuration because of this line.
func (t *translation) refuse(n *dovecotconf.Node, format string, args ...any) {
	t.markAll(n, Refused)
	t.refused = append(t.refused, &dovecotconf.Error{File: n.File, Line: n.Line, Err: fmt.Errorf("%s: %w", n.Key, fmt.Errorf(format, args...))})
}

// finish accounts for all that nothing has been said of yet.
func (t *translation) finish() {
	dovecotconf.Walk(t.conf.Nodes, func(n *dovecotconf.Node) bool {
		if _, done := t.fates[n]; !done {
			t.account(n)
		}
		t.variables(n)
		return true
	})
}

// variables says of those that nothing sets what has become of them. Dovecot has values
// for its own settings; other names are an error for it, too.
func (t *translation) variables(n *dovecotconf.Node) {
	var unset []string
	for _, name := range n.Unknown {
		if !strings.Contains(name, "/") && bestRule("", name) == nil {
			if strings.Contains(n.Key, "pass") {
				name = "..." // it is a piece of a password
			}
			t.refuse(n, "nothing sets $%s, which is an error for Dovecot, too; what is to begin with $ must be in quotes", name)
			return
		}
		unset = append(unset, name)
	}
	if t.fates[n] == Carried && len(unset) > 0 {
		t.warn(n, "$%s is set nowhere in these files, and was taken as empty", strings.Join(unset, ", $"))
	}
}

// account says of a setting or block what its rule says.
func (t *translation) account(n *dovecotconf.Node) {
	rule := ruleOf(n)
	switch {
	case rule == nil && n.Block:
		t.leave(n, Unknown, ": no such block is known here; if something depends on it, look for it in docs/options.md")
	case rule == nil:
		t.leave(n, Unknown, ": no such setting is known here; if something depends on it, look for it in docs/options.md")
	case rule.Fate == Carried:
		t.leave(n, NoEffect, ": in this place it does nothing")
	case rule.Fate == Refused && !n.Block && n.Path == "" && !isSet(n.Value):
		t.leave(n, NoEffect, ": it is off")
	case rule.Fate == Refused:
		t.refuse(n, "%s", rule.text())
	default:
		t.leave(n, rule.Fate, ". %s", rule.text())
	}
}

// isSet reports whether a value says more than that something is off.
func isSet(value string) bool { return value != "" && value != "no" }

// sortedWarnings returns the warnings in the order of the lines.
func (t *translation) sortedWarnings() []caddyconfig.Warning {
	slices.SortStableFunc(t.warnings, func(a, b caddyconfig.Warning) int {
		if a.File != b.File {
			// The main file comes first.
			if a.File == t.name || b.File == t.name {
				return cmp.Compare(boolInt(a.File != t.name), boolInt(b.File != t.name))
			}
			return cmp.Compare(a.File, b.File)
		}
		return cmp.Compare(a.Line, b.Line)
	})
	return t.warnings
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}
