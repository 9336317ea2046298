package relay

// Extension answers commands in the backend's place, by others that the backend knows.
// Its methods are called by one goroutine at a time; Wants and Plan must not block.
type Extension interface {
	// Wants says how much of a command is to be withheld from the backend until Plan has
	// looked at it. It is asked for each command that the relay does not answer in any
	// case. The name is in upper case, such as "SORT" and "UID SORT", and valid during the
	// call only; a name of more than 16 bytes is not asked for.
	Wants(name []byte) Interest
	// Plan looks at what was withheld. The command is passed on as it is if there is no
	// plan for it, and else carried out by the plan. Literals in it are announced in the
	// form that needs no invitation, and the client has been invited already; but that
	// of a Head is announced as the client has done it, and is still to come.
	Plan(command []byte) func(*Turn) error
}

// Interest says how much of a command is withheld.
type Interest uint8

const (
	// Pass has the command passed on as it comes.
	Pass Interest = iota
	// Whole withholds all of it, which is refused if it is larger than MaxCommand.
	Whole
	// Head withholds it up to the first literal, so that a mail need not be held.
	Head
)

// MaxCommand is the size of the largest command that is withheld, in bytes.
const MaxCommand = 64 << 10

// answerTooLong is for a command that is too long to be withheld.
var answerTooLong = &Answer{Text: "BAD Command too long."}

// gathering is what is withheld of a command.
type gathering struct {
	extension Extension
	interest  Interest
	text      []byte
	// forwarding says that a command is passed on that was withheld; polite, that
	// the backend has to invite all literals.
	forwarding, polite bool
}

// keep withholds bytes of the command, which may go on.
func (c *commands) keep(p []byte, goesOn bool) {
	g := &c.gathered
	switch {
	case g.interest == Pass:
	case goesOn && len(g.text) > MaxCommand:
		c.tooLong()
	default:
		g.text = append(g.text, p...)
	}
}

// tooLong gives a command up that was to be withheld.
func (c *commands) tooLong() {
	c.gathered.interest, c.gathered.text = Pass, nil
	c.answer = answerTooLong
}

// endGathered is at the end of a line that is withheld.
func (c *commands) endGathered(literal, follows bool) event {
	l := &c.line
	switch {
	case len(c.gathered.text) > MaxCommand:
		c.tooLong()
		return c.endDropped(literal, follows)
	case !literal || c.gathered.interest == Head:
		c.state, c.drop = atCommand, false
		return gathered
	case !l.canonical || l.size > maxLiteral:
		_, ev := c.fail(faultLiteral)
		return ev
	case int64(len(c.gathered.text))+l.size >= MaxCommand:
		c.tooLong()
		return c.endDropped(literal, follows)
	}
	c.beginLiteral()
	if follows {
		return nothing
	}
	return inviting
}

// announce makes the announcement at the end of what is withheld one that needs no
// invitation.
func (g *gathering) announce() {
	for i := len(g.text) - 1; i > 0; i-- {
		if g.text[i] == '}' {
			g.text = append(g.text, 0)
			copy(g.text[i+1:], g.text[i:])
			g.text[i] = '+'
			return
		}
	}
}

// take returns what was withheld, and withholds it no longer.
func (g *gathering) take() []byte {
	text := g.text
	g.text, g.interest = nil, Pass
	return text
}
