package imapext

import (
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// threadCommands are those of THREAD (RFC 5256).
var threadCommands = map[string]handler{
	"THREAD":     {relay.Whole, planThread},
	"UID THREAD": {relay.Whole, planThread},
}

// A feature for each algorithm.
var (
	threadSubjects = &feature{name: "THREAD=ORDEREDSUBJECT", commands: withMailbox(threadCommands)}
	threadReplies  = &feature{name: "THREAD=REFERENCES", commands: withMailbox(threadCommands)}
	threadRefer    = &feature{name: "THREAD=REFS", commands: withMailbox(threadCommands)}
)

// planThread passes THREAD on if the backend can do it.
func planThread(s *Session, c *command) func(*relay.Turn) error {
	args := c.args
	name, _ := args.astring()
	name = strings.ToUpper(name)
	algorithm := threadings[name]
	cr, err := readCriteria(&args)
	native := s.offer.native["THREAD="+name]
	switch {
	case native && (err != nil || !s.needs(cr)):
		return nil
	case algorithm == nil || err != nil:
		return func(t *relay.Turn) error { return t.Tellf("%s BAD Invalid THREAD.", c.tag) }
	}
	return func(t *relay.Turn) error {
		memory := &share{budget: orderBudget}
		defer memory.giveBack()
		_, messages, status, err := s.findMessages(t, memory, c, cr, hasHeader|hasArrival, false)
		if err != nil {
			return err
		}
		if !status.OK {
			return t.Tellf("%s %s", c.tag, status)
		}
		out := []byte("* THREAD")
		if len(messages) > 0 {
			out = algorithm(append(out, ' '), messages)
		}
		memory.giveBack() // a client may take its time to read
		if err := t.Tell(append(out, "\r\n"...)); err != nil {
			return err
		}
		return t.Tellf("%s OK Thread completed.", c.tag)
	}
}
