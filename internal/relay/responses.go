package relay

import (
	"bytes"
	"math"
	"sync/atomic"
)

// responses follows what the backend says: where a response ends, which commands
// are completed, what is invited. Lines that follow no grammar, such as a bare
// "[COPYUID ...]" of Exchange, decide nothing and pass.
type responses struct {
	ledger *ledger
	// strict is set when a capability list names UNAUTHENTICATE.
	strict *atomic.Bool
	// own is what the tags of our own commands begin with; empty if there were none. A
	// response under one of them that comes here is one too many: stray, if not nil, is
	// told of the first.
	own   string
	stray func()

	state responseState
	// word collects the first letters of a word that decides something, in upper
	// case.
	word    [len(capability)]byte
	wordLen int
	// tag is the hash of the line's tag. The line completes a command if completes
	// is set, with success if ok is.
	tag           uint32
	tagLen        int
	completes, ok bool
	// answered says that data with a number has come since a command was completed.
	answered bool
	// invites marks a continuation, hidden what the client does not get.
	invites, hidden bool
	// literal is how much of a literal is still to come.
	literal int64
	// tail holds the end of the part of a data line that was passed on already.
	tail    [maxAnnouncement]byte
	tailLen int
}

// Hidden is a capability that clients do not get to see, wherever a backend tells it.
const Hidden = "UNAUTHENTICATE"

const (
	capability     = "CAPABILITY"
	unauthenticate = Hidden
	// maxAnnouncement is the length of the longest announcement of a literal that
	// is recognised: braces, 19 digits, and the CR behind them.
	maxAnnouncement = 22
)

type responseState uint8

const (
	atResponse        responseState = iota
	atOwnTag                        // where a tag of ours may begin
	atStar                          // behind the star
	inName                          // in the first word of an untagged response
	inResponseTag                   // in a tag
	inStatus                        // in the word behind a tag
	atStatusText                    // behind a status
	atCode                          // where a response code may begin
	inCode                          // in the name of a response code
	inCaps                          // in a capability list, between words
	inCapsWord                      // in a capability
	inText                          // in what does not matter
	inData                          // in what may end with a literal
	inResponseLiteral               // in a literal
	compressedResponses
)

// fate is what becomes of bytes that a scanner has looked at.
type fate uint8

const (
	passed fate = iota
	dropped
	// undecided: more bytes are needed to tell.
	undecided
)

// atBoundary reports whether a line of ours may be put in here.
func (r *responses) atBoundary() bool { return r.state == atResponse }

// next says what becomes of the beginning of p: so many bytes are to be passed
// on, and so many behind them dropped. If both are 0, more bytes are needed to
// tell, of which there never are many. With stop set it returns at the first
// boundary between two responses.
func (r *responses) next(p []byte, stop bool) (pass, skip int) {
	for i := 0; i < len(p); {
		n, f := r.step(p[i:])
		switch {
		case f == undecided:
			return i, 0
		case f == dropped:
			return i, n
		case stop && r.atBoundary():
			return i + n, 0
		}
		i += n
	}
	return len(p), 0
}

// step looks at p until the state changes.
func (r *responses) step(p []byte) (int, fate) {
	switch r.state {
	case atResponse:
		return r.begin(p[0])
	case atOwnTag:
		return r.beginTag(p)
	case inResponseTag:
		return r.readTag(p), passed
	case inName, inStatus, inCode:
		return r.readWord(p), passed
	case inCaps:
		return r.filter(p)
	case inCapsWord:
		n := bytes.IndexAny(p, capabilityEnds)
		if n < 0 {
			return len(p), passed
		}
		r.state = inCaps
		return n, passed
	case inData:
		return r.readData(p), passed
	case inResponseLiteral:
		n := min(r.literal, int64(len(p)))
		if r.literal -= n; r.literal == 0 {
			r.state = inData
		}
		return int(n), passed
	case compressedResponses:
		return len(p), passed
	default:
		return r.glance(p)
	}
}

// begin looks at the first byte of a response.
func (r *responses) begin(b byte) (int, fate) {
	r.completes, r.ok, r.invites = false, false, false
	r.hidden, r.wordLen, r.tailLen, r.tagLen, r.tag = false, 0, 0, 0, hashStart
	switch b {
	case '*':
		r.state = atStar
	case '+':
		r.state, r.invites = inText, true
		if r.hidden = r.ledger.hides(); r.hidden {
			return 1, dropped
		}
	case '\r', '\n', ' ', '[':
		r.state = inText
		return 0, passed
	default:
		r.state = inResponseTag
		if len(r.own) > 0 && b == r.own[0] {
			r.state = atOwnTag
		}
		return 0, passed
	}
	return 1, passed
}

// beginTag tells tags of ours from those of the client.
func (r *responses) beginTag(p []byte) (int, fate) {
	n := min(len(p), len(r.own))
	switch {
	case string(p[:n]) != r.own[:n]:
		r.state = inResponseTag
		return 0, passed
	case n < len(r.own):
		return 0, undecided
	}
	if r.state, r.hidden = inText, true; r.stray != nil {
		r.stray()
		r.stray = nil
	}
	return n, dropped
}

// glance goes through the states that one byte decides, and through text.
func (r *responses) glance(p []byte) (int, fate) {
	switch {
	case r.state == atStar && p[0] == ' ':
		r.state = inName
		return 1, passed
	case r.state == atStatusText && p[0] == ' ':
		r.state = atCode
		return 1, passed
	case r.state == atCode && p[0] == '[':
		r.state, r.wordLen = inCode, 0
		return 1, passed
	}
	r.state = inText
	f := passed
	if r.hidden {
		f = dropped
	}
	n := bytes.IndexByte(p, '\n')
	if n < 0 {
		return len(p), f
	}
	r.end()
	return n + 1, f
}

// end is at the end of a response.
func (r *responses) end() {
	r.state = atResponse
	if r.completes {
		if tell := r.ledger.watcher(r.tag); tell != nil && r.ok {
			tell(r.answered)
		}
		r.answered = false
	}
	switch {
	case r.invites:
		r.ledger.invite()
	case r.completes && r.ledger.complete(r.tag, r.ok):
		r.state = compressedResponses
	}
}

// readTag takes the hash of a tag.
func (r *responses) readTag(p []byte) int {
	for i, b := range p {
		switch b {
		case ' ':
			r.state = inStatus
			return i + 1
		case '\r', '\n':
			r.state = inText
			return i
		}
		if r.tagLen++; r.tagLen > maxTag {
			r.state = inText
			return i
		}
		r.tag = hashByte(r.tag, b)
	}
	return len(p)
}

// readWord collects a word and looks at it when it ends.
func (r *responses) readWord(p []byte) int {
	if r.wordLen == 0 && r.state == inName && '0' <= p[0] && p[0] <= '9' {
		// No status and no list, but a number, as most data begins with.
		r.state, r.answered = inData, true
		return 0
	}
	for i, b := range p {
		if b == ' ' || b == '\r' || b == '\n' || b == ']' {
			r.decide(string(r.word[:r.wordLen]))
			return i
		}
		if r.wordLen == len(r.word) {
			r.decide("")
			return i
		}
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		r.word[r.wordLen] = b
		r.wordLen++
	}
	return len(p)
}

// decide knows the word in front of what comes. The space behind it was not
// looked at yet.
func (r *responses) decide(word string) {
	was := r.state
	r.state = inText
	switch word {
	case capability:
		if was != inStatus {
			r.state = inCaps
		}
	case "OK", "NO", "BAD":
		if was != inCode {
			r.state = atStatusText
			r.completes, r.ok = was == inStatus, word == "OK"
		}
	case "BYE", "PREAUTH":
		if was == inName {
			r.state = atStatusText
		}
	default:
		if was == inName {
			r.state = inData
		}
	}
}

// capabilityEnds are the bytes that may follow a capability.
const capabilityEnds = " \r\n]"

// filter takes UNAUTHENTICATE, and the space before it, out of a list.
func (r *responses) filter(p []byte) (int, fate) {
	if p[0] != ' ' {
		// The end of the list, or no list.
		r.state = inText
		return 0, passed
	}
	word := p[1:]
	n := bytes.IndexAny(word, capabilityEnds)
	whole := n >= 0
	if !whole {
		n = len(word)
	}
	switch {
	case n > len(unauthenticate) || !equalFold(word[:n], unauthenticate[:n]):
		r.state = inCapsWord
		return 1, passed
	case !whole:
		return 0, undecided
	case n < len(unauthenticate):
		r.state = inCapsWord
		return 1, passed
	}
	r.strict.Store(true)
	return 1 + n, dropped
}

// readData looks for the end of a line, and for a literal there.
func (r *responses) readData(p []byte) int {
	n := bytes.IndexByte(p, '\n')
	if n < 0 {
		r.keepTail(p)
		return len(p)
	}
	if n >= 2 && p[n-1] != '}' && p[n-2] != '}' {
		r.tailLen = 0
		r.end()
		return n + 1
	}
	r.keepTail(p[:n])
	size, ok := announced(r.tail[:r.tailLen])
	r.tailLen = 0
	if ok {
		if r.literal = size; size > 0 {
			r.state = inResponseLiteral
		}
	} else {
		r.end()
	}
	return n + 1
}

// keepTail remembers the end of a line that goes on.
func (r *responses) keepTail(p []byte) {
	if over := len(p) - maxAnnouncement; over > 0 {
		p = p[over:]
	}
	if over := r.tailLen + len(p) - maxAnnouncement; over > 0 {
		copy(r.tail[:], r.tail[over:r.tailLen])
		r.tailLen -= over
	}
	r.tailLen += copy(r.tail[r.tailLen:], p)
}

// announced returns the size of the literal that a line ends with.
func announced(line []byte) (int64, bool) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if len(line) == 0 || line[len(line)-1] != '}' {
		return 0, false
	}
	open := bytes.LastIndexByte(line, '{')
	digits := line[open+1 : len(line)-1]
	if open < 0 || len(digits) == 0 {
		return 0, false
	}
	var size int64
	for _, b := range digits {
		if b < '0' || b > '9' || size > (math.MaxInt64-9)/10 {
			return 0, false
		}
		size = size*10 + int64(b-'0')
	}
	return size, true
}

// equalFold compares a word with an upper-case one, without regard to the case of
// ASCII letters.
func equalFold(word []byte, upper string) bool {
	if len(word) != len(upper) {
		return false
	}
	for i, b := range word {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		if b != upper[i] {
			return false
		}
	}
	return true
}
