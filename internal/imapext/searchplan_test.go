package imapext

import (
	"math/rand/v2"
	"strconv"
	"testing"
)

// truths says which of the messages match a leaf, by its argument: bit by bit.
type truths map[string]uint64

// of says which messages match a program, in the way of a backend, to which a leaf of
// ours is one like others.
func (t truths) of(k *searchKey) uint64 {
	switch {
	case k == matchAll:
		return ^uint64(0)
	case k.op == searchLeaf:
		return t[k.args[0]]
	case k.op == searchNot:
		return ^t.of(k.subs[0])
	}
	all := t.of(k.subs[0])
	for _, sub := range k.subs[1:] {
		if k.op == searchAnd {
			all &= t.of(sub)
		} else {
			all |= t.of(sub)
		}
	}
	return all
}

// leaf returns a new one, which may be ours.
func (t truths) leaf(r *rand.Rand) *searchKey {
	native := func(truth uint64) *searchKey {
		k := &searchKey{name: "UID", args: []string{strconv.Itoa(len(t) + 1)}}
		t[k.args[0]] = truth
		return k
	}
	truth := r.Uint64()
	k := native(truth)
	if r.IntN(2) == 0 {
		return k
	}
	k.exact = &matcher{needs: needsDates, matches: func(c *candidate) bool { return truth>>c.number&1 == 1 }}
	if r.IntN(2) == 0 {
		k.exact.may, k.exact.mayNot, k.exact.sure = native(truth|r.Uint64()), native(^truth|r.Uint64()), native(truth&r.Uint64())
	}
	return k
}

func (t truths) program(r *rand.Rand, depth int) *searchKey {
	op := searchOp(r.IntN(int(searchNot) + 1))
	if depth == 0 || op == searchLeaf {
		return t.leaf(r)
	}
	k := &searchKey{op: op}
	for range map[searchOp]int{searchNot: 1, searchOr: 2, searchAnd: 2 + r.IntN(3)}[op] {
		k.subs = append(k.subs, t.program(r, depth-1))
	}
	return k
}

// TestEval compares what is found in steps with what a program says.
func TestEval(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	for range 5000 {
		known := truths{}
		program := known.program(r, 5)
		want := known.of(program)
		h := &here{key: program.condensed(), nativeHits: make(map[*searchKey][]uint32)}
		may := known.of(h.key.relax(false))
		if want&^may != 0 || ^want&^known.of(h.key.relax(true)) != 0 {
			t.Fatalf("seed %d: %x may match, and %x do", seed, may, want)
		}
		h.key.natives(true, func(k *searchKey) {
			for n := range uint32(64) {
				if known.of(k)>>n&1 == 1 {
					h.nativeHits[k] = append(h.nativeHits[k], n)
				}
			}
		})
		for n := range uint32(64) {
			if may>>n&1 == 0 {
				continue
			}
			right := verdictOf(want>>n&1 == 1)
			c := &candidate{number: n}
			if v := h.eval(h.key, c, true); v != undecided && v != right {
				t.Fatalf("seed %d: verdict %d before anything is known, want %d", seed, v, right)
			}
			c.known = needsDates
			if v := h.eval(h.key, c, true); v != right {
				t.Fatalf("seed %d: verdict %d, want %d", seed, v, right)
			}
		}
	}
}
