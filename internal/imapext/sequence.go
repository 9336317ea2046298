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

// text returns the set as commands have it.
func (set numbers) text() string {
	var out []byte
	for i, s := range set {
		if i > 0 {
			out = append(out, ',')
		}
		out = strconv.AppendUint(out, uint64(s.first), 10)
		if s.last > s.first {
			out = strconv.AppendUint(append(out, ':'), uint64(s.last), 10)
		}
	}
	return string(out)
}

func formatNumber(n uint32) string { return strconv.FormatUint(uint64(n), 10) }

// maxSetLine is how much of a set goes into one command. Exchange takes lines of 10240
// bytes by default.
const maxSetLine = 4000

// cutSet cuts a set into pieces for commands of their own.
func cutSet(set string) (pieces []string) {
	for len(set) > maxSetLine {
		i := strings.LastIndexByte(set[:maxSetLine], ',')
		if i <= 0 {
			break
		}
		pieces, set = append(pieces, set[:i]), set[i+1:]
	}
	return append(pieces, set)
}

// inPieces returns sets of these numbers, for commands of their own.
func inPieces(list []uint32) []string {
	if len(list) == 0 {
		return nil
	}
	return cutSet(string(appendNumbers(nil, list)))
}

// validSet says whether a text is a set of numbers of messages (RFC 3501 section 9).
func validSet(text string) bool {
	for part := range strings.SplitSeq(text, ",") {
		first, last, ranged := strings.Cut(part, ":")
		if !validSetNumber(first) || ranged && !validSetNumber(last) {
			return false
		}
	}
	return true
}

func validSetNumber(text string) bool {
	if text == "*" {
		return true
	}
	n, err := strconv.ParseUint(text, 10, 32)
	return err == nil && n > 0 && text[0] != '+'
}
