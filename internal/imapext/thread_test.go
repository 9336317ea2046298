package imapext

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// mails makes messages, numbered from 1, one second apart, of "id subject references...";
// an id of - is none.
func mails(lines ...string) []message {
	var w recorder
	out := make([]message, len(lines))
	for i, line := range lines {
		words := strings.Fields(line)
		text := "Subject: " + strings.ReplaceAll(words[1], "_", " ") + "\r\n"
		if words[0] != "-" {
			text += "Message-ID: <" + words[0] + "@x>\r\n"
		}
		if len(words) > 2 {
			text += "References: <" + strings.Join(words[2:], "@x> <") + "@x>\r\n"
		}
		r := &record{has: hasArrival, arrival: int64(i)}
		w.header(r, []byte(text))
		out[i] = message{number: uint32(i + 1), record: r}
	}
	return out
}

func TestThreads(t *testing.T) {
	for _, c := range []struct{ name, references, refs, subjects string }{
		{"nothing", "", "", ""},
		{"a chain; a a; b b a; c c a b", "(1 2 3)", "(1 2 3)", "(1)(2)(3)"},
		{"siblings; a a; b b a; c c a", "(1 (2)(3))", "(1 (2)(3))", "(1)(2)(3)"},
		{"a missing parent with one child; a a gone", "(1)", "(1)", "(1)"},
		{"a missing parent with two; a a gone; b b gone", "((1)(2))", "((1)(2))", "(1)(2)"},
		{"a missing one between; a a; b b a gone; c c gone", "(1 (2)(3))", "(1 (2)(3))", "(1)(2)(3)"},
		{"missing ones above; a a g1 g2; b b g1 g3", "((1)(2))", "((1)(2))", "(1)(2)"},
		{"the answer first; b b a; a a", "(2 1)", "(2 1)", "(1)(2)"},
		{"a loop; a a b; b b a", "(2 1)", "(2 1)", "(1)(2)"},
		{"itself; a a a", "(1)", "(1)", "(1)"},
		{"one id twice; a x; a y; b z a", "(1 3)(2)", "(2)(1 3)", "(1)(2)(3)"},
		{"no id; - x; - y; b z", "(1)(2)(3)", "(1)(2)(3)", "(1)(2)(3)"},
		// What a message says of its own parent counts more.
		{"another parent; c z a b; b y; a x", "(2 1)(3)", "(2 1)(3)", "(1)(2)(3)"},
		{"subjects; a x; b Re:_x; c re:_x", "(1 (2)(3))", "(1)(2)(3)", "(1 (2)(3))"},
		{"two; a x; b Re:_x", "(1 2)", "(1)(2)", "(1 2)"},
		{"answers only; a Re:_x; b Re:_x", "((1)(2))", "(1)(2)", "(1 2)"},
		{"equal ones; a x; b x; c Re:_x", "((1)(2)(3))", "(1)(2)(3)", "(1 (2)(3))"},
		{"the answer before; a Re:_x; b x", "(2 1)", "(1)(2)", "(1 2)"},
		{"a missing parent and one by subject; a x gone; b x gone; c x", "((1)(2)(3))", "((1)(2))(3)", "(1 (2)(3))"},
		{"two missing parents; a x g; b x g; c x h; d x h", "((1)(2)(3)(4))", "((1)(2))((3)(4))", "(1 (2)(3)(4))"},
		{"the latest counts; a x; b y; c z a", "(1 3)(2)", "(2)(1 3)", "(1)(2)(3)"},
	} {
		lines := strings.Split(c.name, "; ")
		for name, want := range map[string]string{"REFERENCES": c.references, "REFS": c.refs, "ORDEREDSUBJECT": c.subjects} {
			if got := string(threadings[name](nil, mails(lines[1:]...))); got != want {
				t.Errorf("%s, %s: got %s, want %s", name, lines[0], got, want)
			}
		}
	}
}

// hostile are mailboxes that would take long or blow the stack if done carelessly.
func hostile(n int) map[string][]message {
	number := func(base string, i int) string { return base + fmt.Sprint(i) }
	boxes := make(map[string][]message)
	add := func(name string, line func(i int) string) {
		lines := make([]string, n)
		for i := range lines {
			lines[i] = line(i)
		}
		boxes[name] = mails(lines...)
	}
	add("a deep chain", func(i int) string { return number("m", i+1) + " x " + number("m", i) })
	add("a deep chain from below", func(i int) string { return number("m", n-i) + " x " + number("m", n-i-1) })
	add("a ring", func(i int) string { return number("m", i) + " x " + number("m", (i+1)%n) })
	add("missing ones in a chain", func(i int) string {
		return number("m", i) + " x " + number("g", i) + " " + number("g", i+1)
	})
	// A chain of missing ones, and then all are at its end.
	add("many below a deep end", func(i int) string {
		if i < n/2 {
			return number("m", i) + " x " + number("g", n/2-i) + " " + number("g", n/2-i+1)
		}
		return number("m", i) + " y " + number("g", n/2+1)
	})
	// Each one takes the place that others had given it back.
	add("changed minds", func(i int) string {
		return number("m", i) + " x " + number("m", i/2) + " " + number("m", i+2) + " " + number("m", i+1)
	})
	add("itself", func(i int) string { return number("m", i) + " x " + number("m", i) })
	add("one subject", func(i int) string { return number("m", i) + " " + []string{"x", "Re:x"}[i%2] })
	return boxes
}

func TestHostileThreads(t *testing.T) {
	const n = 100_000
	for name, messages := range hostile(n) {
		for algorithm, f := range threadings {
			begin := time.Now()
			out := f(nil, messages)
			if count := countNumbers(out); count != n {
				t.Errorf("%s, %s: %d messages", name, algorithm, count)
			}
			t.Logf("%s, %s: %v", name, algorithm, time.Since(begin))
			// ORDEREDSUBJECT sorts what it is given.
			order{{kind: byArrival}}.sort(messages)
		}
	}
}

// countNumbers counts the numbers in an answer, and checks its parentheses.
func countNumbers(out []byte) int {
	depth := 0
	for _, b := range out {
		switch b {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth < 0 {
			return -1
		}
	}
	if depth != 0 {
		return -1
	}
	return len(strings.FieldsFunc(string(out), func(r rune) bool { return r < '0' || r > '9' }))
}

// TestLinks compares the quick way to roots with the plain one.
func TestLinks(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	const n = 300
	l := newLinks(n)
	for range n {
		l.add()
	}
	for range 200_000 {
		a, b := int32(1+r.IntN(n)), int32(1+r.IntN(n))
		if r.IntN(8) == 0 {
			l.cut(a)
		} else {
			l.link(a, b)
		}
		root := a
		for steps := 0; l.parent[root] != 0; root = l.parent[root] {
			if steps++; steps > n {
				t.Fatal("a loop")
			}
		}
		if got := l.root(a); got != root {
			t.Fatalf("the root of %d is %d, not %d", a, got, root)
		}
	}
}

// FuzzThreads has messages of few ids refer to each other in all ways.
func FuzzThreads(f *testing.F) {
	f.Add([]byte{1, 2, 1, 0, 2, 1, 2, 1})
	f.Add([]byte("some messages that refer to each other"))
	f.Fuzz(func(t *testing.T, data []byte) {
		var messages []message
		for len(data) > 1 && len(messages) < 200 {
			n := int(data[0]>>4) % 4
			r := &record{has: hasArrival | hasHeader, arrival: int64(data[0] & 3), id: uint64(data[0] & 15), reply: data[1]&1 != 0}
			texts := []byte{'a' + data[1]>>1&3}[:data[1]>>3&1]
			r.ends[keySubject] = uint16(len(texts))
			data = data[2:]
			for i := 0; i < n && i < len(data); i++ {
				texts = binary.LittleEndian.AppendUint64(texts, uint64(1+data[i]%16))
			}
			data = data[min(n, len(data)):]
			r.texts = string(texts)
			messages = append(messages, message{number: uint32(len(messages) + 1), record: r})
		}
		for name, thread := range threadings {
			out := thread(nil, append([]message(nil), messages...))
			if count := countNumbers(out); count != len(messages) {
				t.Fatalf("%s: %d of %d messages in %s", name, count, len(messages), out)
			}
			for i := range messages {
				if !strings.Contains(" "+strings.NewReplacer("(", " ", ")", " ").Replace(string(out))+" ", fmt.Sprintf(" %d ", i+1)) {
					t.Fatalf("%s: %d is not in %s", name, i+1, out)
				}
			}
		}
	})
}
