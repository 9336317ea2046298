package imapext

// links is a forest that tells quickly which root a node has, while nodes are put under
// others and taken away again, however deep it is: a link-cut tree. The node 0 is none.
type links struct {
	// parent is what the forest is; the rest makes it quick.
	parent          []int32
	left, right, up []int32
}

// climb is how many steps are tried before the quick way is gone, which is the slower
// one in the shallow trees of honest mail.
const climb = 32

func newLinks(capacity int) *links {
	l := new(links)
	for _, a := range []*[]int32{&l.parent, &l.left, &l.right, &l.up} {
		*a = make([]int32, 1, capacity)
	}
	return l
}

// add adds a node.
func (l *links) add() int32 {
	l.parent = append(l.parent, 0)
	l.left = append(l.left, 0)
	l.right = append(l.right, 0)
	l.up = append(l.up, 0)
	return int32(len(l.parent) - 1)
}

// link puts a node under another one, unless it is under one already, or that would be a
// loop.
func (l *links) link(parent, child int32) {
	if l.parent[child] != 0 || l.root(parent) == child {
		return
	}
	l.splay(child)
	l.up[child] = parent
	l.parent[child] = parent
}

// cut takes a node away from its parent.
func (l *links) cut(child int32) {
	if l.parent[child] == 0 {
		return
	}
	l.access(child)
	l.up[l.left[child]] = 0
	l.left[child] = 0
	l.parent[child] = 0
}

// root returns the root above a node.
func (l *links) root(n int32) int32 {
	x := n
	for range climb {
		if l.parent[x] == 0 {
			return x
		}
		x = l.parent[x]
	}
	l.access(n)
	for x = n; l.left[x] != 0; x = l.left[x] {
	}
	l.splay(x)
	return x
}

// access makes the way from a node up to its root one splay tree, with the node on top.
func (l *links) access(n int32) {
	below := int32(0)
	for x := n; x != 0; x = l.up[x] {
		l.splay(x)
		l.right[x] = below
		below = x
	}
	l.splay(n)
}

// top says whether a node is the top of its splay tree.
func (l *links) top(x int32) bool {
	p := l.up[x]
	return p == 0 || l.left[p] != x && l.right[p] != x
}

func (l *links) splay(x int32) {
	for !l.top(x) {
		p := l.up[x]
		if !l.top(p) {
			if g := l.up[p]; (l.left[g] == p) == (l.left[p] == x) {
				l.rotate(p)
			} else {
				l.rotate(x)
			}
		}
		l.rotate(x)
	}
}

// rotate moves a node above the one above it.
func (l *links) rotate(x int32) {
	p := l.up[x]
	g, isTop := l.up[p], l.top(p)
	var moved int32
	if l.left[p] == x {
		moved = l.right[x]
		l.left[p], l.right[x] = moved, p
	} else {
		moved = l.left[x]
		l.right[p], l.left[x] = moved, p
	}
	if moved != 0 {
		l.up[moved] = p
	}
	l.up[p], l.up[x] = x, g
	if isTop {
		return
	}
	if l.left[g] == p {
		l.left[g] = x
	} else {
		l.right[g] = x
	}
}
