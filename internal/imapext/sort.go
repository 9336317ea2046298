package imapext

import "github.com/caddy-imap/caddy-imap/internal/relay"

// sortCommands are those of SORT (RFC 5256), which has more keys with SORT=DISPLAY (RFC
// 5957) and RETURN with ESORT and CONTEXT=SORT (RFC 5267).
var sortCommands = map[string]handler{
	"SORT":     {relay.Whole, planSort},
	"UID SORT": {relay.Whole, planSort},
}

var (
	sortPlain    = &feature{name: "SORT", commands: withMailbox(sortCommands)}
	sortDisplay  = &feature{name: "SORT=DISPLAY", needs: []string{"SORT"}, commands: withMailbox(sortCommands)}
	sortExtended = &feature{name: "ESORT", needs: []string{"SORT"}, commands: withMailbox(sortCommands)}
	sortContext  = &feature{name: "CONTEXT=SORT", needs: []string{"SORT"}, commands: withMailbox(sortCommands)}
)

// sorting is a SORT command.
type sorting struct {
	*command
	// options are those of RETURN; nil without.
	options  *returnOptions
	keys     order
	criteria *criteria
}

// planSort passes SORT on if the backend can do all that it asks for.
func planSort(s *Session, c *command) func(*relay.Turn) error {
	cmd, err := readSort(c)
	if err != nil {
		if s.offer.native["SORT"] {
			return nil
		}
		return func(t *relay.Turn) error { return t.Tellf("%s BAD Invalid SORT.", c.tag) }
	}
	native := s.offer.native
	if native["SORT"] && (cmd.options == nil || native["ESORT"]) && (!cmd.keys.display() || native["SORT=DISPLAY"]) && !s.needs(cmd.criteria) {
		return nil
	}
	return func(t *relay.Turn) error { return s.sort(t, cmd) }
}

func readSort(c *command) (*sorting, error) {
	cmd := &sorting{command: c}
	args := c.args
	var err error
	if cmd.options, err = parseReturn(&args); err != nil {
		return nil, err
	}
	if cmd.keys, err = readOrder(&args); err != nil {
		return nil, err
	}
	cmd.criteria, err = readCriteria(&args)
	return cmd, err
}

// readCriteria reads a charset and what to search for, which SORT and THREAD end with.
func readCriteria(s *scanner) (*criteria, error) {
	s.spaces()
	charset, err := s.astring()
	if err != nil || !s.take(' ') || s.end() {
		return nil, errSyntax
	}
	s.spaces()
	cr := parseCriteria(charset, *s)
	if isUTF8(charset) && isASCII(string(cr.raw)) {
		cr.charset = "" // which some backends do not know
	}
	return cr, nil
}

// sort carries SORT out: the backend searches, tells the headers that are not known, and
// the order is found here.
func (s *Session) sort(t *relay.Turn, c *sorting) error {
	memory := &share{budget: orderBudget}
	defer memory.giveBack()
	f, messages, status, err := s.findMessages(t, memory, c.command, c.criteria, c.keys.needs(), c.options != nil && c.options.save)
	if err != nil {
		return err
	}
	c.keys.sort(messages)
	if c.options != nil && c.options.save {
		f.uids = f.uids[:0]
		for _, m := range messages {
			f.uids = append(f.uids, m.uid)
		}
		if status, err = s.save(t, c.options, f, status); err != nil {
			return err
		}
	}
	if !status.OK {
		return t.Tellf("%s %s", c.tag, status)
	}
	ids := make([]uint32, len(messages))
	for i, m := range messages {
		ids[i] = m.number
	}
	memory.giveBack() // a client may take its time to read
	if err := tellFound(t, c.command, c.options, "SORT", ids, f.modseq); err != nil {
		return err
	}
	return t.Tellf("%s OK Sort completed.", c.tag)
}
