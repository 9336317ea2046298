package relay

import "testing"

// watching is an extension that carries nothing out, and tells what became of FETCH.
type watching struct{ told chan string }

func (w *watching) Wants(name []byte) Interest {
	if string(name) == "FETCH" {
		return Whole
	}
	return Pass
}

func (w *watching) Plan([]byte) func(*Turn) error { return nil }

func (w *watching) Watch(command []byte) func(bool) {
	text := string(command[:1])
	if text == "z" {
		return nil
	}
	return func(answered bool) {
		if answered {
			text += " answered"
		}
		w.told <- text
	}
}

// TestWatch has commands watched that are passed on together.
func TestWatch(t *testing.T) {
	w := &watching{told: make(chan string, 10)}
	overBoth(t, Options{Extension: w}, func(t *testing.T, r *relayed) {
		r.client.send("a FETCH 1\r\nb FETCH 2\r\nc FETCH 3\r\nd NOOP\r\ne FETCH 4\r\nz FETCH 5\r\n")
		r.backend.expect("a FETCH 1\r\nb FETCH 2\r\nc FETCH 3\r\nd NOOP\r\ne FETCH 4\r\nz FETCH 5\r\n")
		answer := "* 1 FETCH (BODY[] {3}\r\n* 9)\r\na OK done\r\nb OK * 9 FETCH\r\nc NO * OK\r\n* 5 EXISTS\r\nd OK done\r\n* OK 3 FETCH\r\ne OK done\r\nz OK done\r\n"
		r.backend.send(answer)
		r.client.expect(answer)
		for _, want := range []string{"a answered", "b", "e"} {
			if got := <-w.told; got != want {
				t.Errorf("told %q, want %q", got, want)
			}
		}
		if len(w.told) > 0 || r.ledger.watching.Load() {
			t.Error("somebody is still watched")
		}
	})
}
