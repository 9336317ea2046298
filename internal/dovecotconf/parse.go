package dovecotconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// versionSetting is the first setting of a file for Dovecot 2.4.
const versionSetting = "dovecot_config_version"

// Parse reads a configuration, of which body is the main file. Files that it
// includes are looked for in the directory of name.
func Parse(name string, body []byte) (*Config, error) {
	p := &parser{root: new(Node), cfg: new(Config)}
	p.block = p.root
	p.cfg.p = p
	if err := p.file(name, body); err != nil {
		return nil, err
	}
	if p.cfg.Modern {
		if err := p.expandDelayed(); err != nil {
			return nil, err
		}
	}
	p.cfg.Nodes = p.root.Nodes
	return p.cfg, nil
}

// parser is the state while files are read.
type parser struct {
	cfg   *Config
	root  *Node
	block *Node // the innermost that is open
	// stack are the files that are being read, the main one first.
	stack    []string
	depth    int // of blocks
	files    int
	nodes    int
	expanded int // bytes
	// seen says that there was a setting or block.
	seen bool
	// delayed are settings whose variables are replaced at the end.
	delayed []*Node
	// resolving are those among them that are being replaced, for loops.
	resolving []*Node
}

// file reads one file.
func (p *parser) file(name string, body []byte) error {
	switch p.files++; {
	case p.files > maxFiles:
		return fmt.Errorf("more than %d files are included", maxFiles)
	case len(body) > maxFile:
		return fmt.Errorf("%s: more than %d bytes, which no configuration has", name, maxFile)
	}
	p.stack = append(p.stack, name)
	defer func() { p.stack = p.stack[:len(p.stack)-1] }()
	lines := strings.Split(string(body), "\n")
	for i := 0; i < len(lines); {
		n, err := p.statement(name, lines, i)
		if err != nil {
			// One of an included file says where it is by itself.
			if at := (*Error)(nil); errors.As(err, &at) {
				return err
			}
			return &Error{File: name, Line: i + 1, Err: err}
		}
		i = n
	}
	if len(p.stack) == 1 && p.block != p.root {
		return &Error{File: p.block.File, Line: p.block.Line, Err: fmt.Errorf("the block %s is not closed", p.block.Key)}
	}
	return nil
}

// statement reads what begins at line i, and returns the line behind it.
func (p *parser) statement(file string, lines []string, i int) (next int, err error) {
	start, before := i, ""
	for ; i < len(lines); i++ {
		text := strings.TrimSuffix(lines[i], "\r")
		switch {
		case len(before)+len(text) > maxLine:
			return 0, fmt.Errorf("a line of more than %d bytes", maxLine)
		case strings.IndexByte(text, 0) >= 0:
			return 0, errors.New("a NUL byte, which no configuration has")
		}
		l, err := scanLine(before, text, p.cfg.Modern)
		if err != nil {
			return 0, err
		}
		if l.ambiguous {
			p.note(file, i+1, "# begins a comment here, though there is no space before it")
		}
		if l.kind == more {
			before = l.value
			continue
		}
		if l.kind == skip {
			if i > start {
				p.note(file, start+1, "Dovecot drops this, since an empty line or a comment follows a \\ at the end of a line")
			}
			return i + 1, nil
		}
		if l.kind == heredoc {
			l, i, err = readHeredoc(l, lines, i)
			if err != nil {
				return 0, err
			}
		}
		return i + 1, p.apply(file, start+1, i+1, l)
	}
	return 0, errors.New("the last line of the file ends with \\, and nothing follows")
}

// readHeredoc reads the lines of a value up to its marker.
func readHeredoc(l line, lines []string, i int) (line, int, error) {
	var b strings.Builder
	for i++; i < len(lines); i++ {
		text := strings.TrimSuffix(lines[i], "\r")
		if text == l.value {
			return line{kind: setting, key: l.key, value: b.String(), ambiguous: l.ambiguous}, i, nil
		}
		if b.Len()+len(text) >= maxValue {
			return l, i, fmt.Errorf("a value of more than %d bytes", maxValue)
		}
		b.WriteString(text + "\n")
	}
	return l, i, fmt.Errorf("the line %s, which ends the value, is missing", l.value)
}

// apply puts a line into the tree.
func (p *parser) apply(file string, first, last int, l line) error {
	switch l.kind {
	case end:
		return p.closeBlock(file, last)
	case include, includeTry:
		return p.include(file, first, l)
	}
	if p.nodes++; p.nodes > maxNodes {
		return fmt.Errorf("more than %d settings", maxNodes)
	}
	if !p.seen {
		p.seen = true
		p.cfg.Modern = l.kind == setting && l.key == versionSetting
	}
	n := &Node{File: file, Line: first, Key: l.key, parent: p.block}
	switch l.kind {
	case setting:
		n.Value = l.value
	case fileSetting:
		n.Path = relativeTo(file, l.value)
	case variable:
		n.Value = l.value
		if err := p.expand(n); err != nil {
			return err
		}
	case begin:
		if p.depth++; p.depth > maxBlocks {
			return fmt.Errorf("more than %d blocks in one another", maxBlocks)
		}
		n.Block, n.Name = true, l.value
	}
	p.block.Nodes = append(p.block.Nodes, n)
	if !n.Block {
		if p.block.last == nil {
			p.block.last = make(map[string]*Node)
		}
		p.block.last[n.Key] = n
	}
	if n.Block {
		p.block = n
	}
	return nil
}

func (p *parser) closeBlock(file string, line int) error {
	if p.block == p.root {
		return errors.New("} without a block that it could close")
	}
	p.block.End = line
	if p.block.File != file {
		// A block may begin in one file and end in another.
		p.block.End = p.block.Line
	}
	p.block = p.block.parent
	p.depth--
	return nil
}

// include reads the files of a pattern.
func (p *parser) include(file string, line int, l line) error {
	files, err := glob(relativeTo(file, l.value))
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("looking for files to include, which Dovecot does as root: %w; let the user who runs this read the directory", err)
	}
	if err != nil {
		return err
	}
	if len(files) == 0 {
		if l.kind == include {
			return fmt.Errorf("!include %s: there is no such file", l.value)
		}
		p.note(file, line, "there is no file "+l.value)
		return nil
	}
	for _, name := range files {
		if i := slices.IndexFunc(p.stack, func(open string) bool { return filepath.Clean(open) == filepath.Clean(name) }); i >= 0 {
			return fmt.Errorf("a file includes itself: %s", strings.Join(append(slices.Clone(p.stack[i:]), name), " -> "))
		}
		if len(p.stack) >= maxDepth {
			return fmt.Errorf("more than %d files include one another: %s", maxDepth, strings.Join(p.stack, " -> "))
		}
		body, err := readFile(name)
		switch {
		case l.kind == includeTry && isAbsent(err):
			p.note(file, line, "left out, as Dovecot does: "+err.Error())
			continue
		case errors.Is(err, fs.ErrPermission):
			return fmt.Errorf("reading an included file, which Dovecot does as root: %w; let the user who runs this read it", err)
		case err != nil:
			// Dovecot may have read it, also with !include_try.
			return fmt.Errorf("reading an included file: %w", err)
		}
		if err := p.file(name, body); err != nil {
			return err
		}
	}
	return nil
}

func (p *parser) note(file string, line int, text string) {
	p.cfg.Notes = append(p.cfg.Notes, Note{File: file, Line: line, Text: text})
}

// relativeTo returns the path as seen from the directory of the file.
func relativeTo(file, path string) string {
	if filepath.IsAbs(path) || strings.HasPrefix(path, "/") {
		return path
	}
	return filepath.Join(filepath.Dir(file), path)
}

// readFile reads an ordinary file that is not too big: a device or a pipe could
// go on for ever.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is no ordinary file", name)
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	body, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(body) > maxFile {
		err = fmt.Errorf("%s has more than %d bytes, which no configuration has", name, maxFile)
	}
	return body, err
}

// Text returns the value of a setting, which may have to be read from its file.
func (n *Node) Text() (string, error) {
	if n.Path == "" {
		return n.Value, nil
	}
	body, err := readFile(n.Path)
	if err != nil {
		return "", &Error{File: n.File, Line: n.Line, Err: fmt.Errorf("reading the value of %s: %w", n.Key, err)}
	}
	return string(bytes.TrimRight(body, "\r\n")), nil
}
