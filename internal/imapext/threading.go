package imapext

import (
	"cmp"
	"math"
	"slices"
	"strconv"
)

// threading is an algorithm of THREAD: it appends the threads of messages, which are in
// order of their numbers.
type threading func(dst []byte, messages []message) []byte

// threadings are the algorithms by name.
var threadings = map[string]threading{
	"ORDEREDSUBJECT": threadOrderedSubject,
	"REFERENCES":     threadReferences,
	"REFS":           threadRefs,
}

// threadOrderedSubject has those with one base subject in one thread (RFC 5256 section
// 3): all are answers to the first one.
func threadOrderedSubject(dst []byte, messages []message) []byte {
	order{{kind: byText, text: keySubject}, {kind: byDate}}.sort(messages)
	var found [][]message
	for len(messages) > 0 {
		n := 1
		for n < len(messages) && messages[n].text(keySubject) == messages[0].text(keySubject) {
			n++
		}
		found = append(found, messages[:n])
		messages = messages[n:]
	}
	slices.SortFunc(found, func(a, b []message) int {
		return cmp.Or(cmp.Compare(a[0].sent(), b[0].sent()), cmp.Compare(a[0].number, b[0].number))
	})
	for _, thread := range found {
		dst = append(dst, '(')
		for i, m := range thread {
			number := strconv.FormatUint(uint64(m.number), 10)
			if i > 0 && len(thread) > 2 {
				number = "(" + number + ")"
			}
			if i == 1 {
				dst = append(dst, ' ')
			}
			dst = append(dst, number...)
		}
		dst = append(dst, ')')
	}
	return dst
}

// threadReferences is REFERENCES of RFC 5256 section 3.
func threadReferences(dst []byte, messages []message) []byte {
	t, _ := byReferences(messages)
	t.sortRoots() // step 4
	if t.mergeSubjects(t.gatherSubjects()) {
		t.sortRoots()
	}
	return t.write(dst)
}

// threadRefs is like REFERENCES, but has no subjects in it, and threads are in order of
// their latest message (draft-ietf-morg-inthread).
func threadRefs(dst []byte, messages []message) []byte {
	t, tree := byReferences(messages)
	above := make([]int32, len(tree.parent)) // the root of each node
	for i := range t.roots {
		r := &t.roots[i]
		above[r.node] = int32(i + 1)
		r.date = math.MinInt64
		if m := t.message(r.node); m != nil {
			r.number = m.number
		}
	}
	var way []int32
	for n := int32(1); int(n) < len(t.of); n++ {
		m := t.message(n)
		if m == nil {
			continue
		}
		x := n
		for way = way[:0]; above[x] == 0; x = tree.parent[x] {
			way = append(way, x)
		}
		for _, y := range way {
			above[y] = above[x]
		}
		r := &t.roots[above[x]-1]
		r.date = max(r.date, m.sent())
	}
	slices.SortStableFunc(t.roots, compareRoots)
	return t.write(dst)
}

// gatherSubjects finds out which roots belong under others because of their base
// subjects (step 5.B), and returns whether any does.
func (t *threads) gatherSubjects() bool {
	table := make(map[string]int32) // base subject to the number of a root plus 1
	found := false
	for i := range t.roots {
		r := &t.roots[i]
		ghost := t.of[r.node] == 0
		of := r.node
		if ghost {
			of, _ = t.eldest(r.node)
		}
		m := t.message(of)
		subject := m.text(keySubject)
		if subject == "" {
			continue
		}
		r.reply = m.reply
		at := table[subject]
		if at == 0 {
			table[subject] = int32(i + 1)
			continue
		}
		found = true
		have := &t.roots[at-1]
		if t.of[have.node] != 0 && (ghost || have.reply && !r.reply) {
			have.under = int32(i + 1)
			table[subject] = int32(i + 1)
		} else {
			r.under = at
		}
	}
	return found
}

// mergeSubjects puts them there (step 5.C).
func (t *threads) mergeSubjects(any bool) bool {
	if !any {
		return false
	}
	for i := range len(t.roots) {
		r := &t.roots[i]
		if r.under == 0 || r.gone {
			continue
		}
		// The way is short: what a table has is replaced twice at most.
		at := &t.roots[r.under-1]
		for at.under != 0 {
			at = &t.roots[at.under-1]
		}
		r.gone = true
		switch {
		case t.of[r.node] == 0:
			for c := t.first[r.node]; c != 0; {
				next := t.next[c]
				t.addChild(at.node, c)
				c = next
			}
			t.first[r.node] = 0
		case t.of[at.node] == 0 || r.reply && !at.reply:
			t.addChild(at.node, r.node)
		default:
			n := t.addNode(0)
			t.addChild(n, at.node)
			t.addChild(n, r.node)
			at.gone, at.under = true, int32(len(t.roots)+1)
			t.roots = append(t.roots, threadRoot{node: n})
		}
	}
	return true
}
