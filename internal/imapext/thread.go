package imapext

import (
	"cmp"
	"slices"
	"strconv"
)

// maxGhosts is how many messages that are only referred to are thought of. References to
// others are as if they were not there.
const maxGhosts = 1 << 19

// threads is what THREAD answers. Nodes are numbered from 1.
type threads struct {
	messages []message
	// of is the index of each node's message plus 1; 0 is that of a ghost, of which is
	// known only that somebody refers to it.
	of []int32
	// first and next are the children of each node.
	first, next []int32
	roots       []threadRoot
	kids        []int32
}

// threadRoot is a node without a parent, or one that gathers others.
type threadRoot struct {
	node int32
	// date and number are what roots are ordered by.
	date   int64
	number uint32
	// reply says that its subject is that of a reply. under is the root, plus 1, that it
	// belongs under by its subject. gone says that it is no root any more.
	reply, gone bool
	under       int32
}

// message returns the message of a node; nil for a ghost.
func (t *threads) message(n int32) *message {
	if t.of[n] == 0 {
		return nil
	}
	return &t.messages[t.of[n]-1]
}

// addNode adds a node for a message by its index plus 1, or for a ghost.
func (t *threads) addNode(of int32) int32 {
	t.of = append(t.of, of)
	t.first = append(t.first, 0)
	t.next = append(t.next, 0)
	return int32(len(t.of) - 1)
}

// addChild puts a node under another one.
func (t *threads) addChild(parent, child int32) {
	t.next[child] = t.first[parent]
	t.first[parent] = child
}

// before orders nodes by sent date, and those of one second by number.
func (t *threads) before(a, b int32) int {
	x, y := t.message(a), t.message(b)
	return cmp.Or(cmp.Compare(x.sent(), y.sent()), cmp.Compare(x.number, y.number))
}

// children returns what is under a node, in order; valid until the next call.
func (t *threads) children(n int32) []int32 {
	t.kids = t.kids[:0]
	for c := t.first[n]; c != 0; c = t.next[c] {
		t.kids = append(t.kids, c)
	}
	slices.SortFunc(t.kids, t.before)
	return t.kids
}

// eldest returns the first of the children of a node, and whether it is the only one.
func (t *threads) eldest(n int32) (child int32, only bool) {
	first := t.first[n]
	for c := first; c != 0; c = t.next[c] {
		if t.before(c, first) < 0 {
			first = c
		}
	}
	return first, first != 0 && t.next[t.first[n]] == 0
}

// byReferences threads messages, which are in order of their numbers, by RFC 5256
// section 3 on REFERENCES: steps 1 to 3. What is left to do is to order the roots.
func byReferences(messages []message) (t *threads, tree *links) {
	t = &threads{messages: messages}
	t.addNode(0)
	tree = newLinks(len(messages) + 1)
	nodes := make(map[uint64]int32, len(messages))
	ghosts := 0
	for i := range messages {
		m := &messages[i]
		n := nodes[m.id]
		if m.id == 0 || n == 0 || t.of[n] != 0 {
			// One without a Message-ID, or with that of another, can be referred to by nobody.
			fresh := n == 0
			tree.add()
			if n = t.addNode(0); m.id != 0 && fresh {
				nodes[m.id] = n
			}
		} else {
			ghosts--
		}
		t.of[n] = int32(i + 1)
		parent := int32(0)
		for j := range m.references() {
			id := m.reference(j)
			ref := nodes[id]
			if ref == 0 {
				if ghosts == maxGhosts {
					continue
				}
				ghosts++
				tree.add()
				ref = t.addNode(0)
				nodes[id] = ref
			}
			if parent != 0 {
				tree.link(parent, ref)
			}
			parent = ref
		}
		if tree.parent[n] != parent {
			tree.cut(n)
		}
		if parent != 0 {
			tree.link(parent, n)
		}
	}
	t.prune(tree.parent)
	return t, tree
}

// prune puts each message under its nearest parent that is there; and if there is none,
// under the topmost ghost, which then is a root.
func (t *threads) prune(parent []int32) {
	nearest := make([]int32, len(parent))
	var way []int32
	for n := int32(1); int(n) < len(parent); n++ {
		if parent[n] == 0 {
			t.roots = append(t.roots, threadRoot{node: n})
			continue
		}
		if t.of[n] == 0 {
			continue
		}
		x := parent[n]
		for way = way[:0]; t.of[x] == 0 && parent[x] != 0 && nearest[x] == 0; x = parent[x] {
			way = append(way, x)
		}
		if nearest[x] != 0 {
			x = nearest[x]
		}
		for _, ghost := range way {
			nearest[ghost] = x
		}
		t.addChild(x, n)
	}
}

// sortRoots orders roots by sent date; ghosts, by that of their first child. Ghosts with
// one child give way to it, and those without any go.
func (t *threads) sortRoots() {
	t.roots = slices.DeleteFunc(t.roots, func(r threadRoot) bool {
		return r.gone || t.of[r.node] == 0 && t.first[r.node] == 0
	})
	for i := range t.roots {
		r := &t.roots[i]
		of := r.node
		if t.of[of] == 0 {
			var only bool
			if of, only = t.eldest(r.node); only {
				r.node = of
			}
		}
		m := t.message(of)
		r.date, r.number, r.under = m.sent(), m.number, 0
	}
	slices.SortStableFunc(t.roots, compareRoots)
}

func compareRoots(a, b threadRoot) int {
	return cmp.Or(cmp.Compare(a.date, b.date), cmp.Compare(a.number, b.number))
}

// write appends the threads as RFC 5256 section 4 has them. It does not recurse, since
// threads may be as deep as there are messages.
func (t *threads) write(dst []byte) []byte {
	const end = -1
	var todo []int32
	for _, r := range slices.Backward(t.roots) {
		if t.of[r.node] != 0 || t.first[r.node] != 0 {
			todo = append(todo, r.node)
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if n == end {
			dst = append(dst, ')')
			continue
		}
		dst = append(dst, '(')
		todo = append(todo, end)
		for n != 0 {
			m := t.message(n)
			if m != nil {
				dst = strconv.AppendUint(dst, uint64(m.number), 10)
			}
			kids := t.children(n)
			if m != nil && len(kids) > 0 {
				dst = append(dst, ' ')
			}
			n = 0
			if len(kids) == 1 {
				n = kids[0]
				continue
			}
			slices.Reverse(kids)
			todo = append(todo, kids...)
		}
	}
	return dst
}
