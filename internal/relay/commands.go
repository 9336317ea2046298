package relay

import "sync/atomic"

const (
	// maxTag is the length of the longest tag, and maxName that of the longest
	// command name that matters.
	maxTag  = 64
	maxName = 16
	// maxHead is where a command's name begins at the latest: all before it is
	// held back until the name is known.
	maxHead = 112
	// maxLiteral is the size of the largest literal of a client. A server that
	// counts with 32 bits does not take it for another size.
	maxLiteral = 1<<31 - 1
)

// commands follows what the client says, and sees to it that the backend cannot
// take for a command what is none here: wherever it depends on the backend what
// the next bytes are, its answer is waited for.
type commands struct {
	ledger *ledger
	hook   Interceptor
	// strict has every literal agreed on with the backend: "{5+}" is sent as
	// "{5}", and the invitation is kept from the client.
	strict *atomic.Bool

	state commandState
	// drop keeps the command from the backend; answer, if any, is for the client.
	drop   bool
	answer *Answer
	// tag is the command's, hash its hash. It is empty if it is none.
	tag    [maxTag]byte
	tagLen int
	hash   uint32
	// name is the beginning of the command's name, in upper case. Behind UID there is
	// room for the name that follows.
	name    [len(uid) + maxName]byte
	nameLen int
	// begun says that the ledger knows the command.
	begun bool
	// last is what an IDLE or COMPRESS waits for at its end.
	last wait
	// literal is how much of a literal is still to come.
	literal int64
	line    lineScanner
	// fault is what the client is told about a command that cannot be relayed.
	fault    string
	gathered gathering
}

type commandState uint8

const (
	atCommand commandState = iota
	inCommandLine
	inCommandLiteral
	inIdle
	// awaitingLiteral and awaitingEnd need the backend's answer, given to resume.
	awaitingLiteral
	awaitingEnd
	compressedCommands
)

// event is why a scan of commands has stopped.
type event uint8

const (
	// nothing: go on with the next bytes.
	nothing event = iota
	// short: more bytes are needed to tell, of which there never are many.
	short
	// crowded: the ledger has no room for the command, see ledger.awaitRoom.
	crowded
	// awaits: the backend has to answer before resume can be called.
	awaits
	// answered: the answer is to be sent under the tag.
	answered
	// faulty: the session cannot go on, because of fault.
	faulty
	// inviting: the client is to be invited to send a literal.
	inviting
	// gathered: what is wanted of the command is there.
	gathered
)

const (
	faultTag     = "Tag too long."
	faultHead    = "Command without a name."
	faultLiteral = "Literal where none can be, or too long."
	faultUntag   = "Command without a tag."
	faultCR      = "CR without LF."
	faultIdle    = "Expected DONE."
	faultLine    = "Line too long."
)

// next says what becomes of the beginning of p: so many bytes are to be passed
// on, and so many behind them dropped, and then the event is to be attended to.
func (c *commands) next(p []byte) (pass, skip int, ev event) {
	i := 0
	for i < len(p) && ev == nothing {
		var n int
		dropping := c.drop
		switch c.state {
		case atCommand:
			if n, ev = c.begin(p[i:]); c.drop {
				return i, 0, ev
			}
		case inCommandLine:
			n, ev = c.readLine(p[i:])
			if ev == stripped {
				return i + n, 1, nothing
			}
		case inCommandLiteral:
			n = int(min(c.literal, int64(len(p)-i)))
			if c.literal -= int64(n); c.literal == 0 {
				c.state = inCommandLine
			}
		case inIdle:
			n, ev = c.readIdle(p[i:])
		case compressedCommands:
			n = len(p) - i
		default:
			return i, 0, awaits
		}
		if dropping {
			c.keep(p[i:i+n], ev == nothing)
			if ev == inviting && c.gathered.interest != Pass {
				c.gathered.announce()
			}
			return 0, n, ev
		}
		i += n
	}
	return i, 0, ev
}

// stripped says that a '+' is to be dropped; next does not return it.
const stripped event = 255

// begin finds tag and name of a command.
func (c *commands) begin(p []byte) (int, event) {
	tag, name, at, whole := head(p)
	switch {
	case len(tag) > maxTag:
		return c.fail(faultTag)
	case at > maxHead:
		return c.fail(faultHead)
	case !whole && len(name) <= maxName:
		return 0, short
	}
	var second []byte
	if c.gathered.extension != nil && equalFold(name, uid[:3]) {
		from, to := word(p, at+len(name))
		switch {
		case from > maxHead:
		case to == len(p) && to-from <= maxName:
			return 0, short
		case to-from <= maxName:
			second = p[from:to]
		}
	}
	c.line, c.begun, c.last, c.answer = lineScanner{}, false, waitNothing, nil
	c.hash, c.tagLen, c.nameLen = hashStart, 0, 0
	if isTag(tag) {
		c.tagLen = copy(c.tag[:], tag)
	}
	for _, b := range tag {
		c.hash = hashByte(c.hash, b)
	}
	c.state = inCommandLine
	if len(name) == 0 || len(name) > maxName {
		c.nameLen = min(len(name), 1)
		return 0, nothing
	}
	c.nameLen = copyUpper(c.name[:], name)
	c.answer = c.hook.Intercept(c.name[:c.nameLen])
	c.drop = c.answer != nil
	if g := &c.gathered; g.extension != nil && !g.forwarding && !c.drop {
		n := c.nameLen
		if len(second) > 0 {
			n = len(uid) + copyUpper(c.name[copy(c.name[:], uid):], second)
		}
		g.interest = g.extension.Wants(c.name[:n])
		c.drop = g.interest != Pass
	}
	switch string(c.name[:c.nameLen]) {
	case "IDLE":
		c.last = waitIdle
	case "COMPRESS":
		c.last = waitCompress
	}
	return 0, nothing
}

// uid is in front of the names of commands that say UID where others say a number.
const uid = "UID "

// copyUpper copies a word in upper case.
func copyUpper(to, word []byte) int {
	for i, b := range word {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		to[i] = b
	}
	return len(word)
}

// head returns the first two words of a line, where the second begins, and whether
// it is whole. Servers differ in what they take for a space: here it is all that
// cannot be seen.
func head(p []byte) (tag, name []byte, at int, whole bool) {
	begin, end := word(p, 0)
	tag = p[begin:end]
	at, end = word(p, end)
	return tag, p[at:end], at, end < len(p)
}

// word returns where the next word of a line begins and ends.
func word(p []byte, begin int) (int, int) {
	for begin < len(p) && p[begin] <= ' ' && p[begin] != '\n' {
		begin++
	}
	end := begin
	for end < len(p) && p[end] > ' ' {
		end++
	}
	return begin, end
}

// isTag reports whether a server will complete the command under its tag (RFC
// 3501 section 9).
func isTag(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			return false
		}
		switch c {
		case '(', ')', '{', '%', '*', '"', '\\', '+':
			return false
		}
	}
	return len(b) > 0
}

func (c *commands) readLine(p []byte) (int, event) {
	strict := c.strict.Load() || c.gathered.extension != nil && c.gathered.polite
	n, found := c.line.scan(p, strict && !c.drop)
	switch found {
	case lineLoneCR:
		_, ev := c.fail(faultCR)
		return n, ev
	case lineUndecided:
		return n, short
	case linePlus:
		return n, stripped
	case lineGoesOn:
		return n, nothing
	}
	ev := c.endLine()
	if ev == crowded || ev == faulty {
		return n, ev // without the LF, so that there is no line yet
	}
	return n + 1, ev
}

// endLine is at the LF of a line, which was not passed on yet.
func (c *commands) endLine() event {
	l := &c.line
	literal := l.brace == braceClosed
	// Without an invitation the literal follows at once, so it must be certain
	// that the backend takes it for one, and how long it is.
	follows := literal && l.plus
	if follows && !(l.canonical && l.placed && !l.odd && l.size <= maxLiteral) {
		_, ev := c.fail(faultLiteral)
		return ev
	}
	if c.drop {
		return c.endDropped(literal, follows)
	}
	w := waitNothing
	switch {
	case literal && (!follows || l.stripped):
		w = waitLiteral
	case !literal:
		w = c.last
	}
	if !c.begun && c.tagLen > 0 && c.nameLen > 0 {
		if !c.ledger.begin(c.hash, w != waitNothing) {
			return crowded
		}
		c.begun = true
	}
	switch {
	case w != waitNothing && !c.begun:
		_, ev := c.fail(faultUntag)
		return ev
	case w == waitLiteral:
		c.state = awaitingLiteral
	case w != waitNothing:
		c.state = awaitingEnd
	case follows:
		c.beginLiteral()
		return nothing
	default:
		c.state = atCommand
		return nothing
	}
	c.ledger.expect(c.hash, w, l.stripped)
	return awaits
}

// endDropped is at the end of a line that the backend does not get. A literal
// that the client waits with is refused by the answer.
func (c *commands) endDropped(literal, follows bool) event {
	if c.gathered.interest != Pass {
		return c.endGathered(literal, follows)
	}
	if follows {
		c.beginLiteral()
		return nothing
	}
	c.state, c.drop = atCommand, false
	if c.answer == nil {
		return nothing
	}
	c.ledger.commands.Add(1)
	return answered
}

func (c *commands) beginLiteral() {
	c.literal = c.line.size
	c.line = lineScanner{}
	c.state = inCommandLiteral
}

// resume goes on with the backend's answer.
func (c *commands) resume(a answer) event {
	end := c.state == awaitingEnd
	switch {
	case a == compressed:
		c.state = compressedCommands
	case end && a == invited:
		c.state = inIdle
	case !end && a == invited:
		if !c.line.canonical || c.line.size > maxLiteral {
			_, ev := c.fail(faultLiteral)
			return ev
		}
		c.beginLiteral()
	case !end && c.line.stripped:
		// The client is sending already what the backend does not want.
		c.drop = true
		c.beginLiteral()
	default:
		c.state = atCommand
	}
	return nothing
}

// readIdle is at the line that ends an IDLE, unless the backend has ended it.
func (c *commands) readIdle(p []byte) (int, event) {
	if !c.ledger.isIdling() {
		c.state = atCommand
		return 0, nothing
	}
	const done = "DONE"
	n := min(len(p), len(done))
	if !equalFold(p[:n], done[:n]) {
		return c.fail(faultIdle)
	}
	for ; n < len(p) && n < maxName; n++ {
		switch p[n] {
		case '\n':
			c.ledger.done()
			c.state = atCommand
			return n + 1, nothing
		case ' ', '\r':
		default:
			return c.fail(faultIdle)
		}
	}
	if n == maxName {
		return c.fail(faultIdle)
	}
	return 0, short
}

func (c *commands) fail(why string) (int, event) {
	c.fault = why
	return 0, faulty
}
