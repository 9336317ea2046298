// Package dovecotconf reads configuration files of Dovecot 2.3 and 2.4, in the way
// that Dovecot does: comments, quotes, continued lines, blocks, variables, and
// files that include others. It knows nothing of what settings mean.
//
// What it returns is a tree in which everything has the file and line that it stands
// at, so that whoever translates it can account for each line.
package dovecotconf

import "fmt"

// Config is what the files say.
type Config struct {
	// Nodes are the settings and blocks at the top level, in the order in which
	// Dovecot reads them. Those of included files are where they are included.
	Nodes []*Node

	// Modern says that the first setting is dovecot_config_version, and so the
	// syntax that of Dovecot 2.4.
	Modern bool

	// Notes are about lines that stand for less than one may think.
	Notes []Note

	p *parser
}

// Node is a setting or a block.
type Node struct {
	// File and Line are where it begins.
	File string
	Line int

	// Key is the name of the setting, or what the block is.
	Key string

	// Block says that it is a block. Name is behind its Key, and may be empty; End
	// is the line with its closing brace, in the file that it began in; Nodes are
	// in it. A group of settings of Dovecot 2.4 has "group @label" as its Key.
	Block bool
	Name  string
	End   int
	Nodes []*Node

	// Value is that of a setting, without quotes and with variables replaced. It
	// is empty if the value is the content of a file.
	Value string

	// Path is the file whose content is the value, if the setting says so.
	Path string

	// Unknown are variables in the value that no line has set. They were taken as
	// empty.
	Unknown []string

	parent *Node
	// last are the last settings of each name in it, so far.
	last map[string]*Node
}

// Note is about a line.
type Note struct {
	File string
	Line int
	Text string
}

// Error is what makes the files unusable.
type Error struct {
	File string
	Line int
	Err  error
}

func (e *Error) Error() string { return fmt.Sprintf("%s:%d: %v", e.File, e.Line, e.Err) }

// Unwrap returns what is wrong, without the line.
func (e *Error) Unwrap() error { return e.Err }

// Limits, far beyond what real configurations have, so that a file that includes
// others without end, or is none of Dovecot's, ends with an error.
const (
	maxDepth     = 16       // files that include one another
	maxFiles     = 1000     // files in all
	maxFile      = 1 << 20  // bytes of a file
	maxNodes     = 20_000   // settings and blocks
	maxBlocks    = 16       // blocks in one another
	maxLine      = 64 << 10 // bytes of a line with those that continue it
	maxValue     = 64 << 10 // bytes of a value with its variables replaced
	maxExpanded  = 8 << 20  // bytes of all values that have variables
	maxBraces    = 100      // patterns that braces in one pattern make
	maxVariables = 1000     // variables in one value
)

// Walk calls f for each node and those in it, until f returns false for a block,
// whose nodes are then left out.
func Walk(nodes []*Node, f func(*Node) bool) {
	for _, n := range nodes {
		if f(n) {
			Walk(n.Nodes, f)
		}
	}
}

// Parent returns the block that it stands in, or nil at the top level.
func (n *Node) Parent() *Node {
	if n.parent == nil || n.parent.parent == nil && !n.parent.Block {
		return nil
	}
	return n.parent
}
