package imapext

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
)

// span is a range of numbers of messages, both ends in it.
type span struct{ first, last uint32 }

// numbers is a set of numbers of messages: spans that go up and do not touch.
type numbers []span

// highest stands for * in a set.
const highest = 1<<32 - 1

// parseNumbers reads a sequence-set (RFC 3501 section 9). A * becomes last, the highest
// number that there is.
func parseNumbers(text string, last uint32) (numbers, error) {
	number := func(text string) (uint32, error) {
		if text == "*" {
			return last, nil
		}
		n, err := strconv.ParseUint(text, 10, 32)
		if err != nil || n == 0 || text[0] == '+' {
			return 0, errSyntax
		}
		return uint32(n), nil
	}
	var set numbers
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, ":")
		first, err := number(from)
		if err != nil {
			return nil, err
		}
		end := first
		if isRange {
			if end, err = number(to); err != nil {
				return nil, err
			}
		}
		set = append(set, span{min(first, end), max(first, end)})
	}
	slices.SortFunc(set, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	return set.joined(), nil
}

// joined makes one of spans that touch. They are in order.
func (set numbers) joined() numbers {
	out := set[:0]
	for _, s := range set {
		if n := len(out); n > 0 && uint64(s.first) <= uint64(out[n-1].last)+1 {
			out[n-1].last = max(out[n-1].last, s.last)
			continue
		}
		out = append(out, s)
	}
	return out
}

// numbersOf returns the set of what is given in order.
func numbersOf(list []uint32) numbers {
	set := make(numbers, 0, 8)
	for _, n := range list {
		if last := len(set) - 1; last >= 0 && set[last].last < highest && set[last].last+1 == n {
			set[last].last = n
			continue
		}
		set = append(set, span{n, n})
	}
	return set
}

// has says whether a number is in the set.
func (set numbers) has(n uint32) bool {
	i, found := slices.BinarySearchFunc(set, n, func(s span, n uint32) int { return cmp.Compare(s.first, n) })
	return found || i > 0 && n <= set[i-1].last
}

// appendNumbers appends a sequence-set with these numbers in this order, where what
// goes up by one becomes a range.
func appendNumbers(dst []byte, list []uint32) []byte {
	for i := 0; i < len(list); {
		end := i + 1
		for end < len(list) && list[end-1] < highest && list[end] == list[end-1]+1 {
			end++
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = strconv.AppendUint(dst, uint64(list[i]), 10)
		if end > i+1 {
			dst = append(dst, ':')
			dst = strconv.AppendUint(dst, uint64(list[end-1]), 10)
		}
		i = end
	}
	return dst
}

// setLength is about how long a set in a command of ours may be, in bytes. Some servers
// take no more than 10 KiB in a line.
const setLength = 4 << 10

// inPieces takes a list apart into sequence-sets that are not too long for a command.
func inPieces(list []uint32) []string {
	var sets []string
	// The longest range is as long as two numbers with their marks.
	const most = setLength / 22
	for len(list) > 0 {
		end, ranges := 0, 0
		for ; end < len(list); end++ {
			if end == 0 || list[end] != list[end-1]+1 {
				if ranges++; ranges > most {
					break
				}
			}
		}
		sets = append(sets, string(appendNumbers(nil, list[:end])))
		list = list[end:]
	}
	return sets
}
