package imapext

import (
	"iter"
	"strconv"
	"strings"
)

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

// piecesOf yields the text of a set in pieces of at most so many bytes, or of one
// element.
func piecesOf(set string, size int) iter.Seq[string] {
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

func formatNumber(n uint32) string { return strconv.FormatUint(uint64(n), 10) }
