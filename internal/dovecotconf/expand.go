package dovecotconf

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
)

// defaults are values of settings that configurations refer to without setting them.
var defaults = map[string]string{
	"default_internal_group":     "dovecot",
	"default_internal_user":      "dovecot",
	"default_login_user":         "dovenull",
	"mail_plugins":               "",
	"protocols":                  "",
	"login_log_format_elements":  "",
	"default_vsz_limit":          "256 M",
	"default_process_limit":      "100",
	"default_client_limit":       "1000",
	"default_idle_kill":          "1 mins",
	"default_idle_kill_interval": "1 mins",
}

// expand replaces the variables in the value of a setting: $name and $ENV:name for
// Dovecot 2.3, $SET:name and $ENV:name for 2.4. Those of 2.4 stand for what is set
// at the end, unless a setting refers to itself.
func (p *parser) expand(n *Node) error {
	if p.cfg.Modern && strings.Contains(n.Value, "$SET:") && !slices.Contains(strings.Fields(n.Value), "$SET:"+n.Key) {
		p.delayed = append(p.delayed, n)
		return nil
	}
	return p.replace(n)
}

// expandDelayed replaces what had to wait for the end.
func (p *parser) expandDelayed() error {
	for len(p.delayed) > 0 {
		n := p.delayed[0]
		if err := p.settle(n); err != nil {
			return &Error{File: n.File, Line: n.Line, Err: err}
		}
	}
	return nil
}

// settle replaces the variables of a setting that waits, if it does.
func (p *parser) settle(n *Node) error {
	i := slices.Index(p.delayed, n)
	if i < 0 {
		return nil
	}
	if slices.Contains(p.resolving, n) {
		return fmt.Errorf("$SET:%s leads back to itself", n.Key)
	}
	if len(p.resolving) >= maxVariables {
		return errors.New("too many variables that stand for one another")
	}
	p.resolving = append(p.resolving, n)
	defer func() { p.resolving = p.resolving[:len(p.resolving)-1] }()
	if err := p.replace(n); err != nil {
		return err
	}
	if i = slices.Index(p.delayed, n); i >= 0 {
		p.delayed = slices.Delete(p.delayed, i, i+1)
	}
	return nil
}

// replace replaces the words that are variables. Words are separated by one space
// in the result, however many there were.
func (p *parser) replace(n *Node) error {
	var b strings.Builder
	count := 0
	for rest, first := n.Value, true; first || rest != ""; first = false {
		if !first {
			b.WriteByte(' ')
		}
		word, after, _ := strings.Cut(rest, " ")
		rest = strings.TrimLeft(after, white)
		if !strings.HasPrefix(word, "$") {
			b.WriteString(word)
			continue
		}
		if count++; count > maxVariables {
			return fmt.Errorf("more than %d variables in one value", maxVariables)
		}
		value, err := p.lookUp(n, word)
		if err != nil {
			return err
		}
		b.WriteString(value)
		if b.Len() > maxValue {
			return fmt.Errorf("with its variables, the value has more than %d bytes", maxValue)
		}
	}
	if p.expanded += b.Len(); p.expanded > maxExpanded {
		return fmt.Errorf("with their variables, the values have more than %d bytes", maxExpanded)
	}
	n.Value = b.String()
	return nil
}

// lookUp returns what a variable stands for.
func (p *parser) lookUp(n *Node, word string) (string, error) {
	if name, found := strings.CutPrefix(word, "$ENV:"); found {
		return os.Getenv(name), nil
	}
	name, found := strings.CutPrefix(word, "$SET:")
	if !found {
		if p.cfg.Modern {
			return word, nil
		}
		if name = word[1:]; name == "" {
			return "", errors.New("$ without the name of a variable")
		}
	}
	set := p.find(n.parent, name)
	if set == nil {
		value, known := defaults[name]
		if !known {
			n.Unknown = append(n.Unknown, name)
		}
		return value, nil
	}
	if set.Path != "" {
		return "", fmt.Errorf("%s: its value is in a file, and cannot be a part of another", word)
	}
	if err := p.settle(set); err != nil {
		return "", err
	}
	return set.Value, nil
}

// find returns the last setting of that name so far, in the block or one around it. The
// name may have the way through blocks before it, as in
// service/auth/service_client_limit.
func (p *parser) find(block *Node, name string) *Node {
	way := strings.Split(name, "/")
	if len(way) > 1 {
		return findBelow([]*Node{p.root}, way)
	}
	for ; block != nil; block = block.parent {
		if n := block.last[name]; n != nil {
			return n
		}
	}
	return nil
}

// findBelow follows the way through blocks, which have a name or not.
func findBelow(blocks []*Node, way []string) (found *Node) {
	for _, block := range blocks {
		if len(way) == 1 {
			if n := block.last[way[0]]; n != nil {
				found = n
			}
			continue
		}
		for _, n := range block.Nodes {
			if !n.Block || n.Key != way[0] {
				continue
			}
			rest := way[1:]
			if n.Name != "" {
				if len(rest) < 2 || rest[0] != n.Name {
					continue
				}
				rest = rest[1:]
			}
			if deep := findBelow([]*Node{n}, rest); deep != nil {
				found = deep
			}
		}
	}
	return found
}
