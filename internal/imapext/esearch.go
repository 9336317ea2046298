package imapext

import (
	"slices"
	"strconv"
	"strings"
)

// returnOptions are what RETURN asks for (RFC 4731, RFC 5182, RFC 5267).
type returnOptions struct {
	min, max, all, count, save bool
	// update asks to be told of changes, context that the result be kept at hand.
	update, context bool
	// partial is the part asked for, as it was written; empty without.
	partial     string
	first, last int64
}

// parseReturn takes RETURN with its options, and the space behind it. Without it there
// are none.
func parseReturn(s *scanner) (*returnOptions, error) {
	rest := *s
	if !strings.EqualFold(rest.word(), "RETURN") {
		return nil, nil
	}
	r := &returnOptions{}
	rest.spaces()
	err := rest.list(func() error {
		name, err := rest.atom()
		if err != nil {
			return err
		}
		return r.option(strings.ToUpper(name), &rest)
	})
	if err != nil || !rest.take(' ') || r.partial != "" && r.all {
		return nil, errSyntax
	}
	if !r.min && !r.max && !r.count && !r.save && !r.update && r.partial == "" {
		r.all = true // RFC 4731 section 3.1
	}
	rest.spaces()
	*s = rest
	return r, nil
}

func (r *returnOptions) option(name string, s *scanner) error {
	switch name {
	case "MIN":
		r.min = true
	case "MAX":
		r.max = true
	case "ALL":
		r.all = true
	case "COUNT":
		r.count = true
	case "SAVE":
		r.save = true
	case "UPDATE":
		r.update = true
	case "CONTEXT":
		r.context = true
	case "PARTIAL":
		s.spaces()
		text, err := s.atom()
		if err != nil || r.partial != "" {
			return errSyntax
		}
		return r.parsePartial(text)
	default:
		return errSyntax
	}
	return nil
}

// parsePartial reads the part asked for: positions from the beginning, or, as RFC 9394
// has it, with a minus from the end.
func (r *returnOptions) parsePartial(text string) error {
	a, b, _ := strings.Cut(text, ":")
	first, err1 := strconv.ParseInt(a, 10, 33)
	last, err2 := strconv.ParseInt(b, 10, 33)
	if err1 != nil || err2 != nil || first == 0 || last == 0 || (first < 0) != (last < 0) || strings.ContainsRune(text, '+') {
		return errSyntax
	}
	r.partial, r.first, r.last = text, first, last
	if first > last {
		r.first, r.last = last, first
		if last > 0 {
			r.partial = b + ":" + a
		}
	}
	return nil
}

// part returns the part of the result that PARTIAL asks for.
func (r *returnOptions) part(ids []uint32) []uint32 {
	first, last := r.first-1, r.last
	if r.first < 0 {
		first, last = r.first+int64(len(ids)), r.last+int64(len(ids))+1
	}
	first, last = max(first, 0), min(last, int64(len(ids)))
	if first >= last {
		return nil
	}
	return ids[first:last]
}

// appendResult appends an ESEARCH response for messages that were found, which are in
// the order in which they are returned. A modseq of 0 is none.
func (r *returnOptions) appendResult(dst []byte, c *command, ids []uint32, modseq uint64) []byte {
	dst = append(append(append(dst, "* ESEARCH (TAG "...), quote(c.tag)...), ')')
	if c.uid {
		dst = append(dst, " UID"...)
	}
	if len(ids) > 0 {
		if r.min {
			dst = strconv.AppendUint(append(dst, " MIN "...), uint64(ids[0]), 10)
		}
		if r.max {
			dst = strconv.AppendUint(append(dst, " MAX "...), uint64(ids[len(ids)-1]), 10)
		}
		if r.all {
			dst = appendNumbers(append(dst, " ALL "...), ids)
		}
	}
	if r.partial != "" {
		dst = append(append(append(dst, " PARTIAL ("...), r.partial...), ' ')
		if part := r.part(ids); len(part) > 0 {
			dst = appendNumbers(dst, part)
		} else {
			dst = append(dst, "NIL"...)
		}
		dst = append(dst, ')')
	}
	if r.count {
		dst = strconv.AppendInt(append(dst, " COUNT "...), int64(len(ids)), 10)
	}
	if modseq > 0 && len(ids) > 0 {
		dst = strconv.AppendUint(append(dst, " MODSEQ "...), modseq, 10)
	}
	return append(dst, "\r\n"...)
}

// saves returns which of the messages found are saved, in the order of their numbers
// (RFC 5182 section 2.4). ids are in the order in which they are returned.
func (r *returnOptions) saves(ids []uint32) []uint32 {
	some := ids
	if !r.all && !r.count && (r.min || r.max || r.partial != "") && len(ids) > 0 {
		some = nil
		if r.partial != "" {
			some = append(some, r.part(ids)...)
		}
		if r.min {
			some = append(some, ids[0])
		}
		if r.max {
			some = append(some, ids[len(ids)-1])
		}
	}
	some = slices.Clone(some)
	slices.Sort(some)
	return slices.Compact(some)
}

// quiet says that nothing is to be returned.
func (r *returnOptions) quiet() bool {
	return r.save && !r.min && !r.max && !r.all && !r.count && r.partial == ""
}
