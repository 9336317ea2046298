package relay

import (
	"slices"
	"sync"
	"sync/atomic"
)

// maxOpen is how many commands may be under way at once. A client that has sent
// more is not read from until some of them are completed.
const maxOpen = 1000

// wait is what a line of the client has to be answered with before it is known
// what the client's next bytes are.
type wait uint8

const (
	waitNothing wait = iota
	// waitLiteral: a continuation invites the literal, a completion refuses it.
	waitLiteral
	// waitIdle: a continuation begins the idling, a completion refuses it.
	waitIdle
	// waitCompress: only the completion counts, and whether it is an OK.
	waitCompress
)

// answer is what the backend has said to a line that was waited for.
type answer uint8

const (
	unanswered answer = iota
	invited
	completed
	compressed
	// orphaned says that the backend will not answer any more.
	orphaned
)

// ledger is what the scanners of both directions know of each other: which
// commands are under way, and what is waited for. Its lock is held for a few
// instructions only.
type ledger struct {
	mu      sync.Mutex
	changed sync.Cond

	// open holds the hashes of the tags of commands that are not completed. Tags
	// that share a hash are treated like equal ones, which is safe.
	open []uint32
	// waiting is for the command with the tag awaited; hidden says that the
	// client has not asked for the invitation and must not see it.
	waiting wait
	awaited uint32
	hidden  bool
	reply   answer
	// idling is set from the invitation of an IDLE to the client's DONE, or to
	// its completion if that comes first.
	idling bool
	// turning says that an extension has its turn.
	turning bool
	closed  bool

	// watched are those to tell of a command that is completed, by the hash of its tag;
	// watching says that there are some.
	watched  map[uint32]func(answered bool)
	watching atomic.Bool

	// opaque is set once both directions are compressed.
	opaque atomic.Bool
	// commands counts what the client has asked, the relay's own answers included.
	commands atomic.Int64
}

func newLedger() *ledger {
	l := new(ledger)
	l.changed.L = &l.mu
	return l
}

// begin notes a command, the first line of which is about to be sent. If unique
// is set it returns false while another command with the tag is under way: one
// could not tell their answers apart.
func (l *ledger) begin(tag uint32, unique bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.room(tag, unique) {
		return false
	}
	l.open = append(l.open, tag)
	l.commands.Add(1)
	return true
}

func (l *ledger) room(tag uint32, unique bool) bool {
	return len(l.open) < maxOpen && !(unique && slices.Contains(l.open, tag))
}

// awaitRoom returns once begin would succeed, or false if it never will.
func (l *ledger) awaitRoom(tag uint32) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for !l.room(tag, true) && !l.closed {
		l.changed.Wait()
	}
	return !l.closed
}

// awaitQuiet returns once no command is under way, and notes that an extension has
// its turn until setTurning(false); or false if that never comes.
func (l *ledger) awaitQuiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.open) > 0 && !l.closed {
		l.changed.Wait()
	}
	l.turning = !l.closed
	return !l.closed
}

// setTurning notes whether an extension has something to do.
func (l *ledger) setTurning(turning bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.turning = turning
}

// expect notes that the line about to be sent is to be waited for. A command
// that was completed before it was sent whole is refused.
func (l *ledger) expect(tag uint32, w wait, hidden bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !slices.Contains(l.open, tag) {
		l.waiting, l.reply = waitNothing, completed
		return
	}
	l.waiting, l.awaited, l.hidden, l.reply = w, tag, hidden, unanswered
}

// await returns the answer to what was expected.
func (l *ledger) await() answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.reply == unanswered && !l.closed {
		l.changed.Wait()
	}
	if l.reply == unanswered {
		return orphaned
	}
	return l.reply
}

// hides reports whether a continuation that comes now is to be kept from the
// client.
func (l *ledger) hides() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.waiting == waitLiteral && l.hidden
}

// invite notes a continuation of the backend.
func (l *ledger) invite() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting != waitLiteral && l.waiting != waitIdle {
		return
	}
	l.idling = l.waiting == waitIdle
	l.waiting, l.reply = waitNothing, invited
	l.changed.Broadcast()
}

// complete notes a tagged response. It returns true if everything behind it is
// compressed.
func (l *ledger) complete(tag uint32, ok bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.Index(l.open, tag)
	if i < 0 {
		return false
	}
	l.open = slices.Delete(l.open, i, i+1)
	l.changed.Broadcast()
	if tag != l.awaited {
		return false
	}
	l.idling = false
	switch {
	case l.waiting == waitNothing:
		return false
	case l.waiting == waitCompress && ok:
		l.reply = compressed
		l.opaque.Store(true)
	default:
		l.reply = completed
	}
	l.waiting = waitNothing
	return l.reply == compressed
}

// isIdling reports whether the client's next line has to be its DONE.
func (l *ledger) isIdling() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.idling
}

// done notes that the client's DONE is about to be sent.
func (l *ledger) done() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.idling = false
}

// isQuiet reports whether the backend has nothing to do for the client, who may
// be in IDLE.
func (l *ledger) isQuiet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.turning && (len(l.open) == 0 || len(l.open) == 1 && l.idling)
}

// close lets nobody wait any longer.
func (l *ledger) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	l.changed.Broadcast()
}

// hash is FNV-1a, taken byte by byte.
const (
	hashStart uint32 = 2166136261
	hashPrime uint32 = 16777619
)

func hashByte(h uint32, b byte) uint32 { return (h ^ uint32(b)) * hashPrime }
