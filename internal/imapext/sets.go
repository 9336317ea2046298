package imapext

import "strconv"

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
