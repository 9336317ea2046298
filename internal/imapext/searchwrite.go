package imapext

import "strings"

// criteriaText is part of a command to a backend: text and literals in turns, beginning
// and ending with text.
type criteriaText struct{ parts []string }

func newCriteriaText(text string) *criteriaText { return &criteriaText{[]string{text}} }

// text adds text.
func (c *criteriaText) text(text string) { c.parts[len(c.parts)-1] += text }

// key adds a search program; inner says that it is a part of another.
func (c *criteriaText) key(k *searchKey, inner bool) {
	switch k.op {
	case searchOr:
		c.text("OR")
	case searchNot:
		c.text("NOT")
	case searchFuzzy:
		c.text("FUZZY")
	case searchAnd:
		if inner {
			c.text("(")
		}
		for i, sub := range k.subs {
			if i > 0 {
				c.text(" ")
			}
			c.key(sub, true)
		}
		if inner {
			c.text(")")
		}
		return
	default:
		c.leaf(k)
		return
	}
	for _, sub := range k.subs {
		c.text(" ")
		c.key(sub, true)
	}
}

func (c *criteriaText) leaf(k *searchKey) {
	if k.name == "" {
		c.text(k.args[0])
		return
	}
	c.text(k.name)
	kinds := searchKeys[k.name]
	if len(k.args) == 3 {
		kinds = "qan" // of MODSEQ
	}
	for i, arg := range k.args {
		c.text(" ")
		switch kinds[i] {
		case 's':
			c.string(arg)
		case 'q':
			c.text(quote(arg))
		default:
			c.text(arg)
		}
	}
}

// string adds a string in a form that every server understands: some do not know of a
// backslash in quotes.
func (c *criteriaText) string(text string) {
	if quotable(text) && !strings.ContainsAny(text, `"\`) {
		c.text(quote(text))
		return
	}
	c.parts = append(c.parts, text, "")
}

// isASCII says that nothing in a text has its eighth bit.
func isASCII(text string) bool {
	for i := range len(text) {
		if text[i] >= 0x80 {
			return false
		}
	}
	return true
}
