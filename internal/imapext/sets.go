package imapext

import (
	"iter"
	"strconv"
	"strings"
)

// sets yields numbers, which are in order, as sets that are not too long for a command.
func sets(ids []uint32) iter.Seq[string] { return splitSet(string(appendRuns(nil, ids)), maxSetText) }

// splitSet yields a set in pieces of at most so many bytes, or of one element.
func splitSet(set string, size int) iter.Seq[string] {
	return func(yield func(string) bool) {
		for set != "" {
			piece := set
			if len(set) > size {
				end := strings.LastIndexByte(set[:size+1], ',')
				if end < 0 {
					end = strings.IndexByte(set, ',')
				}
				if end >= 0 {
					piece = set[:end]
				}
			}
			if !yield(piece) {
				return
			}
			set = strings.TrimPrefix(set[len(piece):], ",")
		}
	}
}

// span is a run of numbers, from the first to the last.
type span struct{ first, last uint32 }

// spans reads a set that appendRuns has made.
func spans(set string) []span {
	var out []span
	for part := range strings.SplitSeq(set, ",") {
		a, b, ranged := strings.Cut(part, ":")
		if !ranged {
			b = a
		}
		out = append(out, span{uint32(parseNumber(a)), uint32(parseNumber(b))})
	}
	return out
}

func formatNumber(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
