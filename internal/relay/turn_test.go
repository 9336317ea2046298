package relay

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// extension is one for tests: what it wants, by name, and how it is carried out.
type extension struct {
	wants map[string]Interest
	plan  func(command string) func(*Turn) error
}

func (e *extension) Wants(name []byte) Interest { return e.wants[string(name)] }

func (e *extension) Plan(command []byte) func(*Turn) error { return e.plan(string(command)) }

// sorting answers SORT with what SEARCH gives, in reverse order.
func sorting() *extension {
	return &extension{
		wants: map[string]Interest{"SORT": Whole, "SEARCH": Whole},
		plan: func(command string) func(*Turn) error {
			tag, rest, _ := strings.Cut(command, " ")
			name, args, _ := strings.Cut(strings.TrimRight(rest, "\r\n"), " ")
			if name != "SORT" {
				return nil
			}
			return func(t *Turn) error {
				var found []string
				status, err := t.Ask(func(r []byte) error {
					numbers, ok := strings.CutPrefix(strings.TrimRight(string(r), "\r\n"), "* SEARCH ")
					if !ok {
						return t.Pass(r)
					}
					found = strings.Fields(numbers)
					return nil
				}, "SEARCH "+args)
				if err != nil {
					return err
				}
				line := "* SORT"
				for i := len(found) - 1; i >= 0; i-- {
					line += " " + found[i]
				}
				if status.OK {
					_ = t.Tellf("%s", line)
				}
				return t.Tellf("%s %s", tag, status)
			}
		},
	}
}

// ownTag reads a command of ours from the backend's side and returns its tag.
func (p *peer) ownTag(want string) string {
	p.tb.Helper()
	line, err := p.br.ReadString('\n')
	tag, rest, _ := strings.Cut(line, " ")
	if rest != want {
		p.tb.Fatalf("%s got %q, %v; want %q under a tag", p.name, line, err, want)
	}
	return tag
}

func TestTurn(t *testing.T) {
	overBoth(t, Options{Extension: sorting(), LiteralPlus: true}, func(t *testing.T, r *relayed) {
		// What comes before is completed first, and what comes behind waits.
		r.client.send("a NOOP\r\nb SORT x\r\nc NOOP\r\n")
		r.backend.expect("a NOOP\r\n")
		r.backend.send("* 3 EXISTS\r\na OK done\r\n")
		r.client.expect("* 3 EXISTS\r\na OK done\r\n")
		tag := r.backend.ownTag("SEARCH x\r\n")
		if r.State().Idle {
			t.Error("the session seems to be idle")
		}
		r.backend.send("* SEARCH 1 2 3\r\n* 4 EXISTS\r\n* OK [CAPABILITY IMAP4rev1 UNAUTHENTICATE] x\r\n" + tag + " OK found\r\n")
		r.client.expect("* 4 EXISTS\r\n* OK [CAPABILITY IMAP4rev1] x\r\n* SORT 3 2 1\r\nb OK found\r\n")
		r.backend.expect("c NOOP\r\n")
		r.backend.send("c OK done\r\n")
		r.client.expect("c OK done\r\n")
		// What is not carried out is passed on as it is.
		r.client.send("d SEARCH x\r\n")
		r.backend.expect("d SEARCH x\r\n")
		r.backend.send("* SEARCH 5\r\nd OK found\r\n")
		r.client.expect("* SEARCH 5\r\nd OK found\r\n")
		r.client.send("e SORT y\r\n")
		tag = r.backend.ownTag("SEARCH y\r\n")
		r.backend.send(tag + " NO [CANNOT] that\r\n* 5 EXISTS\r\n")
		r.client.expect("e NO [CANNOT] that\r\n* 5 EXISTS\r\n")
		r.client.closeWrite()
		r.backend.end()
		r.backend.closeWrite()
		r.client.end()
		r.finish(t, nil)
	})
}

// TestGathered has commands withheld in all forms, and passed on.
func TestGathered(t *testing.T) {
	t.Run("literal", func(t *testing.T) {
		overBoth(t, Options{Extension: sorting(), LiteralPlus: true}, func(t *testing.T, r *relayed) {
			r.client.send("a SEARCH {3}\r\n")
			r.client.expect("+ OK\r\n")
			r.client.send("x y {2+}\r\nab\r\n")
			r.backend.expect("a SEARCH {3+}\r\nx y {2+}\r\nab\r\n")
		})
	})
	t.Run("polite", func(t *testing.T) {
		overBoth(t, Options{Extension: sorting()}, func(t *testing.T, r *relayed) {
			r.client.send("a SEARCH {3}\r\n")
			r.client.expect("+ OK\r\n")
			r.client.send("x y {2+}\r\nab\r\n")
			r.backend.expect("a SEARCH {3}\r\n")
			r.backend.send("+ go\r\n")
			r.backend.expect("x y {2}\r\n")
			r.backend.send("+ go\r\n")
			r.backend.expect("ab\r\n")
			r.backend.send("a OK done\r\n")
			r.client.expect("a OK done\r\n")
		})
	})
	t.Run("too long", func(t *testing.T) {
		overBoth(t, Options{Extension: sorting()}, func(t *testing.T, r *relayed) {
			r.client.send("a SEARCH " + strings.Repeat("x", MaxCommand+200<<10) + "\r\n")
			r.client.expect("a BAD Command too long.\r\n")
			r.client.send(fmt.Sprintf("b SEARCH {%d}\r\n", MaxCommand))
			r.client.expect("b BAD Command too long.\r\n")
			r.client.send(fmt.Sprintf("c SEARCH {%d+}\r\n%s\r\n", MaxCommand, strings.Repeat("x", MaxCommand)))
			r.client.expect("c BAD Command too long.\r\n")
			r.client.send("d NOOP\r\n")
			r.backend.expect("d NOOP\r\n")
		})
	})
}

// TestTurnEnds ends sessions in the middle of a turn.
func TestTurnEnds(t *testing.T) {
	begin := func(t *testing.T, r *relayed) {
		r.client.send("b SORT x\r\n")
		r.backend.ownTag("SEARCH x\r\n")
	}
	t.Run("kick", func(t *testing.T) {
		overBoth(t, Options{Extension: sorting()}, func(t *testing.T, r *relayed) {
			begin(t, r)
			r.Kick("enough", time.Minute)
			r.client.expect("* BYE enough\r\n")
			r.client.closeWrite()
			r.finish(t, ErrKicked)
		})
	})
	t.Run("backend gone", func(t *testing.T) {
		overBoth(t, Options{Extension: sorting()}, func(t *testing.T, r *relayed) {
			begin(t, r)
			_ = r.backend.Close()
			r.finish(t, io.ErrUnexpectedEOF)
		})
	})
	t.Run("too long", func(t *testing.T) {
		overBoth(t, Options{Extension: sorting()}, func(t *testing.T, r *relayed) {
			begin(t, r)
			go func() {
				for range maxResponse/1024 + 1 {
					if _, err := io.WriteString(r.backend.Conn, strings.Repeat("x", 1024)); err != nil {
						return
					}
				}
			}()
			r.client.expect("* BYE The mail server is not available.\r\n")
			r.client.closeWrite()
			r.finish(t, ErrResponse)
		})
	})
	t.Run("plan fails", func(t *testing.T) {
		why := errors.New("why not")
		e := sorting()
		e.plan = func(string) func(*Turn) error { return func(*Turn) error { return why } }
		overBoth(t, Options{Extension: e}, func(t *testing.T, r *relayed) {
			r.client.send("b SORT x\r\n")
			r.finish(t, why)
		})
	})
	t.Run("panic", func(t *testing.T) {
		e := sorting()
		e.plan = func(string) func(*Turn) error { return func(*Turn) error { panic("x") } }
		overBoth(t, Options{Extension: e}, func(t *testing.T, r *relayed) {
			r.client.send("b SORT x\r\n")
			r.finish(t, ErrPanic)
		})
	})
}
