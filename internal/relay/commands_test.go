package relay

import (
	"strings"
	"sync/atomic"
	"testing"
)

// scripted is a backend that answers what is waited for by a script: each letter
// is one answer, '+' an invitation, 'o' and 'n' completions with OK and NO. When
// the script ends it invites, or completes with NO what cannot be invited.
type scripted struct {
	ledger *ledger
	scan   commands
	script string
	// out is what the backend has got, answers what the client was told.
	out     strings.Builder
	answers []string
	// held is what was not consumed in the end.
	held string
}

func newScripted(script string, strict bool) *scripted {
	b := &scripted{ledger: newLedger(), script: script}
	flag := new(atomic.Bool)
	flag.Store(strict)
	b.scan = commands{ledger: b.ledger, strict: flag, hook: &refusals{strict: flag}}
	return b
}

// feed gives the scanner one piece of what the client says. It returns false at
// a fault.
func (b *scripted) feed(piece string) bool {
	p := []byte(b.held + piece)
	b.held = ""
	for len(p) > 0 {
		pass, skip, ev := b.scan.next(p)
		b.out.Write(p[:pass])
		p = p[pass+skip:]
		if ev == awaits {
			ev = b.answer()
		}
		switch ev {
		case short:
			b.held = string(p)
			return true
		case crowded:
			for len(b.ledger.open) > 0 {
				b.ledger.complete(b.ledger.open[0], true)
			}
		case answered:
			b.answers = append(b.answers, string(b.scan.tagged(b.scan.answer.Text)))
		case faulty:
			return false
		}
	}
	return true
}

func (b *scripted) answer() event {
	how := byte('+')
	if b.script != "" {
		how, b.script = b.script[0], b.script[1:]
	}
	switch {
	case b.ledger.reply != unanswered:
	case how == '+' && b.ledger.waiting != waitCompress:
		b.ledger.invite()
	default:
		b.ledger.complete(b.ledger.awaited, how == 'o')
	}
	return b.scan.resume(b.ledger.await())
}

const (
	badTLS    = " BAD TLS is not to be started here.\r\n"
	badUnauth = " BAD UNAUTHENTICATE is not supported.\r\n"
	badLogin  = " BAD Already logged in.\r\n"
	noDeflate = " NO Compression is not available.\r\n"
)

// TestCommands pins what the backend gets of what the client says, and what the
// client is told here instead. An empty out means that all of it passes.
func TestCommands(t *testing.T) {
	tests := []struct {
		name, in, script string
		strict           bool
		out, answers     string
		fault            string
		commands         int64
	}{
		{name: "pipelined", in: "a NOOP\r\nb SELECT INBOX\r\nc UID FETCH 1 FLAGS\n", commands: 3},
		{name: "no command", in: "\r\nfoo\r\n * \r\n", commands: 0},
		{name: "literal invited", in: "a SELECT {5}\r\nINBOX\r\nb NOOP\r\n", commands: 2},
		{
			name: "literal invited that looks like a command", commands: 1,
			in: "a SELECT {16}\r\nb UNAUTHENTICATE\r\n",
		},
		{
			name: "literal refused", script: "n", commands: 2,
			in:  "a SELECT {16}\r\nb UNAUTHENTICATE\r\n",
			out: "a SELECT {16}\r\n", answers: "b" + badUnauth,
		},
		{name: "several literals", in: "a RENAME {1}\r\na {1+}\r\nb\r\nb NOOP\r\n", commands: 2},
		{name: "empty literal", in: "a SELECT {0}\r\n\r\nb SELECT {0+}\r\n\r\nc NOOP\r\n", commands: 3},
		{name: "literal8", in: "a APPEND x ~{3}\r\n\x00\n\n\r\nb APPEND x (~{3+}\r\n\x00\n\n)\r\n", commands: 2},
		{name: "no literal at the end", in: "a SEARCH {5+} x\r\nb NOOP\r\n", commands: 2},
		{name: "quoted brace", in: "a SEARCH TEXT \"{5+}\"\r\nb NOOP\r\n", commands: 2},
		{name: "escapes", in: "a LIST \"\\\\\\\"\" {1+}\r\nx\r\nb NOOP\r\n", commands: 2},
		{name: "in an open quote", in: "a SEARCH TEXT \"{5+}\r\n", out: "a SEARCH TEXT \"{5+}\r", fault: faultLiteral},
		{name: "in an atom", in: "a SELECT x{5+}\r\n", out: "a SELECT x{5+}\r", fault: faultLiteral},
		{name: "behind a strange quote", in: "a LIST x\"y\" {5+}\r\n", out: "a LIST x\"y\" {5+}\r", fault: faultLiteral},
		{name: "behind a strange escape", in: "a LIST \"D\\u\" {5+}\r\n", out: "a LIST \"D\\u\" {5+}\r", fault: faultLiteral},
		{name: "behind a NUL", in: "a LIST \x00 {5+}\r\n", out: "a LIST \x00 {5+}\r", fault: faultLiteral},
		{name: "with a space", in: "a LIST {5+} \r\n", out: "a LIST {5+} \r", fault: faultLiteral},
		{name: "with a hole", in: "a LIST {5 +}\r\n", out: "a LIST {5 +}\r", fault: faultLiteral},
		{name: "as a command", in: "{5+}\r\n", out: "{5+}\r", fault: faultLiteral},
		{name: "behind a literal", in: "a LIST {1+}\r\nx{5+}\r\n", out: "a LIST {1+}\r\nx{5+}\r", fault: faultLiteral, commands: 1},
		{name: "two CRs", in: "a LIST {5+}\r\r\n", out: "a LIST {5+}\r\r", fault: faultLiteral},
		{name: "too long", in: "a LIST {2147483648+}\r\n", out: "a LIST {2147483648+}\r", fault: faultLiteral},
		{name: "overflowing", in: "a LIST {18446744073709551621+}\r\n", out: "a LIST {18446744073709551621+}\r", fault: faultLiteral},
		{name: "too long and invited", in: "a LIST {2147483648}\r\n", fault: faultLiteral, commands: 1},
		{name: "odd and refused", in: "a LIST x{5}\r\nb LIST \"{5}\r\nc LIST { 5}\r\nd NOOP\r\n", script: "nnn", commands: 4},
		{name: "odd and invited", in: "a LIST { 5}\r\n", fault: faultLiteral, commands: 1},
		{name: "waiting without a tag", in: "{5}\r\n", out: "{5}\r", fault: faultUntag},
		{name: "zeros", in: "a LIST {000000000000000000000000000001+}\r\nx\r\nb NOOP\r\n", commands: 2},
		{name: "lone CR", in: "a NOOP\rb UNAUTHENTICATE\r\n", out: "a NOOP\r", fault: faultCR},
		{name: "long tag", in: strings.Repeat("a", 65) + " NOOP\r\n", out: "-", fault: faultTag},
		{name: "longest tag", in: strings.Repeat("a", 64) + " NOOP\r\n", commands: 1},
		{name: "many spaces", in: "a" + strings.Repeat(" ", 200), out: "-", fault: faultHead},
		{name: "long name", in: "a " + strings.Repeat("x", 200) + "\r\nb NOOP\r\n", commands: 2},

		{name: "STARTTLS", in: "a STARTTLS\r\nb NOOP\r\n", out: "b NOOP\r\n", answers: "a" + badTLS, commands: 2},
		{name: "any case", in: "a sTaRttLs\r\nb unauthenticate\nc NOOP\r\n", out: "c NOOP\r\n", answers: "a" + badTLS + "b" + badUnauth, commands: 3},
		{name: "behind pipelining", in: "a NOOP\r\nb UNAUTHENTICATE\r\nc NOOP\r\n", out: "a NOOP\r\nc NOOP\r\n", answers: "b" + badUnauth, commands: 3},
		{name: "spaces", in: " a  STARTTLS \r\n\t b\tUNAUTHENTICATE\x00\r\n", out: "-", answers: "a" + badTLS + "b" + badUnauth, commands: 2},
		{name: "with arguments", in: "a STARTTLS x {3+}\r\nx\r\n y \"z\r\nb NOOP\r\n", out: "b NOOP\r\n", answers: "a" + badTLS, commands: 2},
		{name: "with a literal that waits", in: "a STARTTLS {3}\r\nb NOOP\r\n", out: "b NOOP\r\n", answers: "a" + badTLS, commands: 2},
		{name: "without a tag", in: "* STARTTLS\r\n", out: "-", answers: "*" + badTLS, commands: 1},
		{name: "login", in: "a LOGIN x {1+}\r\ny\r\nb AUTHENTICATE PLAIN AAAA\r\n", out: "-", answers: "a" + badLogin + "b" + badLogin, commands: 2},
		{name: "in a literal", in: "a APPEND x {20+}\r\n\r\nb UNAUTHENTICATE\r\n\r\nc NOOP\r\n", commands: 2},
		{name: "in a name", in: "a UNAUTHENTICATED\r\nb XUNAUTHENTICATE\r\nc UID UNAUTHENTICATE\r\n", commands: 3},

		{name: "idle", in: "a IDLE\r\nDONE\r\nb idle\r\ndone \r\nc NOOP\r\n", commands: 3},
		{name: "idle refused", in: "a IDLE\r\nb STARTTLS\r\n", script: "n", out: "a IDLE\r\n", answers: "b" + badTLS, commands: 2},
		{name: "idle, not DONE", in: "a IDLE\r\nb UNAUTHENTICATE\r\n", out: "a IDLE\r\n", fault: faultIdle, commands: 1},
		{name: "idle, DONE and more", in: "a IDLE\r\nDONE x\r\n", out: "a IDLE\r\n", fault: faultIdle, commands: 1},
		{name: "idle, then literal", in: "a IDLE\r\nDONE\r\nb SELECT {16}\r\nx UNAUTHENTICATE\r\n", script: "+n", out: "a IDLE\r\nDONE\r\nb SELECT {16}\r\n", answers: "x" + badUnauth, commands: 3},

		{name: "compressed", in: "a COMPRESS DEFLATE\r\n\x00a STARTTLS\r\n\r\x00", script: "o", commands: 1},
		{name: "not compressed", in: "a COMPRESS DEFLATE\r\nb STARTTLS\r\n", script: "n", out: "a COMPRESS DEFLATE\r\n", answers: "b" + badTLS, commands: 2},
		{name: "tag twice", in: "a NOOP\r\na COMPRESS X\r\nb STARTTLS\r\n", script: "n", out: "a NOOP\r\na COMPRESS X\r\n", answers: "b" + badTLS, commands: 3},

		{name: "strict", strict: true, in: "a SELECT {5+}\r\nINBOX\r\nb SELECT ~{5+}\nINBOX\n", out: "a SELECT {5}\r\nINBOX\r\nb SELECT ~{5}\nINBOX\n", commands: 2},
		{
			name: "strict, refused", strict: true, script: "n", commands: 2,
			in:  "a NOOP {18+}\r\nb UNAUTHENTICATE\r\n {3+}\r\nxyz\r\nc NOOP\r\n",
			out: "a NOOP {18}\r\nc NOOP\r\n",
		},
		{name: "strict, second refused", strict: true, script: "+n", commands: 2, in: "a X {1+}\r\n1 {1+}\r\n2 {1}\r\nb NOOP\r\n", out: "a X {1}\r\n1 {1}\r\nb NOOP\r\n"},
		{name: "strict, no literal", strict: true, in: "a SEARCH {5+} {+} {5+}x +}\r\n", commands: 1},
		{name: "strict, compress", strict: true, in: "a COMPRESS DEFLATE\r\n", out: "-", answers: "a" + noDeflate, commands: 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			switch tt.out {
			case "":
				tt.out = tt.in
			case "-":
				tt.out = ""
			}
			for size := 1; size <= len(tt.in); size++ {
				b := newScripted(tt.script, tt.strict)
				ok := true
				for in := tt.in; in != "" && ok; {
					n := min(size, len(in))
					ok = b.feed(in[:n])
					in = in[n:]
				}
				if got := b.out.String(); got != tt.out || b.held != "" {
					t.Fatalf("pieces of %d: backend got %q, held %q, want %q", size, got, b.held, tt.out)
				}
				if got := strings.Join(b.answers, ""); got != tt.answers {
					t.Fatalf("pieces of %d: answers %q, want %q", size, got, tt.answers)
				}
				if ok != (tt.fault == "") || b.scan.fault != tt.fault {
					t.Fatalf("pieces of %d: fault %q, want %q", size, b.scan.fault, tt.fault)
				}
				if got := b.ledger.commands.Load(); got != tt.commands {
					t.Fatalf("pieces of %d: %d commands, want %d", size, got, tt.commands)
				}
			}
		})
	}
}

// TestIdleEndedByBackend pins that what follows is a command then.
func TestIdleEndedByBackend(t *testing.T) {
	b := newScripted("+", false)
	b.feed("a IDLE\r\n")
	if !b.ledger.isQuiet() {
		t.Error("busy while in IDLE")
	}
	b.feed("DO")
	b.ledger.complete(b.ledger.awaited, true)
	b.feed("NE\r\nb STARTTLS\r\n")
	if got := b.out.String(); got != "a IDLE\r\nDONE\r\n" {
		t.Errorf("backend got %q", got)
	}
	if len(b.answers) != 1 {
		t.Errorf("answers %q", b.answers)
	}
}

// TestCompletedEarly pins that a command that is completed before it was sent
// whole is not waited for.
func TestCompletedEarly(t *testing.T) {
	b := newScripted("", false)
	b.feed("a LIST ) {3+}\r\n")
	b.ledger.complete(b.ledger.open[0], false)
	if !b.feed("xyz {9}\r\nb NOOP\r\n") || b.out.String() != "a LIST ) {3+}\r\nxyz {9}\r\nb NOOP\r\n" {
		t.Errorf("backend got %q", b.out.String())
	}
}

// TestManyOpen pins that a client is not read from once too much is under way.
func TestManyOpen(t *testing.T) {
	b := newScripted("", false)
	in := []byte(strings.Repeat("a NOOP\r\n", maxOpen) + "b NOOP\r\n")
	pass, _, ev := b.scan.next(in)
	if ev != crowded || pass != len(in)-1 {
		t.Fatalf("event %d at %d of %d", ev, pass, len(in))
	}
	b.ledger.complete(b.ledger.open[0], true)
	if _, _, ev := b.scan.next(in[pass:]); ev != nothing || b.scan.state != atCommand {
		t.Errorf("event %d, state %d", ev, b.scan.state)
	}
}

// TestAnotherInterceptor pins what others are asked.
func TestAnotherInterceptor(t *testing.T) {
	b := newScripted("", false)
	var asked []string
	b.scan.hook.(*refusals).next = interceptFunc(func(name []byte) *Answer {
		asked = append(asked, string(name))
		if string(name) == "XYZ" {
			return &Answer{Text: "NO Not now."}
		}
		return nil
	})
	b.feed("a noop\r\nb xyz {1+}\r\nx\r\nc STARTTLS\r\n")
	if got := strings.Join(asked, " "); got != "NOOP XYZ" {
		t.Errorf("asked for %q", got)
	}
	if b.out.String() != "a noop\r\n" || b.answers[0] != "b NO Not now.\r\n" {
		t.Errorf("backend got %q, client %q", b.out.String(), b.answers)
	}
}

type interceptFunc func([]byte) *Answer

func (f interceptFunc) Intercept(name []byte) *Answer { return f(name) }
