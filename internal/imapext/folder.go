package imapext

import (
	"bytes"
	"slices"
	"strings"
)

// Attributes of mailboxes (RFC 3501 section 7.2.2, RFC 3348, RFC 5258 section 3.4).
const (
	attrNoselect    = `\Noselect`
	attrNonExistent = `\NonExistent`
	attrNoinferiors = `\Noinferiors`
	attrSubscribed  = `\Subscribed`
	attrChildren    = `\HasChildren`
	attrNoChildren  = `\HasNoChildren`
)

const (
	// maxName is how long a mailbox's name may be, in bytes; one that is longer is left
	// out.
	maxName = 8 << 10
	// maxLevels is how many levels of hierarchy are looked at.
	maxLevels = 100
)

// folder is a mailbox in a list.
type folder struct {
	// name is as the backend has it, delim the delimiter of hierarchy, which may be
	// empty.
	name, delim string
	key         string
	attrs       []string
	// below says that CHILDINFO is to be told.
	below bool
}

// readFolder reads what follows LIST or LSUB in a response.
func readFolder(s *scanner) (*folder, bool) {
	f := new(folder)
	s.spaces()
	err := s.list(func() error {
		attr, err := s.atom()
		f.attrs = append(f.attrs, attr)
		return err
	})
	if err != nil {
		return nil, false
	}
	s.spaces()
	if f.delim, _, err = s.nstring(); err != nil || len(f.delim) > 1 {
		return nil, false
	}
	s.spaces()
	if f.name, err = s.folderName(); err != nil || len(f.name) > maxName {
		return nil, false
	}
	f.key = nameKey(f.name, f.delim)
	return f, true
}

// folderName takes a mailbox's name at the end of a response, which some servers leave
// without quotes whatever is in it. What RFC 5258 allows behind it is left out.
func (s *scanner) folderName() (string, error) {
	if s.next() == '"' || s.atLiteral() {
		return s.astring()
	}
	name := bytes.TrimRight(s.rest, " ")
	if i := bytes.Index(name, []byte(" ((")); i > 0 && bytes.HasSuffix(name, []byte("))")) {
		name = name[:i]
	}
	if len(name) == 0 {
		return "", errSyntax
	}
	s.rest = nil
	return string(name), nil
}

// has says whether it has an attribute.
func (f *folder) has(attr string) bool {
	return slices.ContainsFunc(f.attrs, func(a string) bool { return strings.EqualFold(a, attr) })
}

// add gives it an attribute.
func (f *folder) add(attr string) {
	if !f.has(attr) {
		f.attrs = append(f.attrs, attr)
	}
}

// drop takes attributes away.
func (f *folder) drop(which func(attr string) bool) {
	f.attrs = slices.DeleteFunc(f.attrs, which)
}

// selectable says whether there can be messages in it.
func (f *folder) selectable() bool { return !f.has(attrNoselect) && !f.has(attrNonExistent) }

// appendList appends a LIST response.
func (f *folder) appendList(out []byte, name string) []byte {
	out = append(append(append(out, "* "...), name...), " ("...)
	out = append(append(out, strings.Join(f.attrs, " ")...), ") "...)
	if f.delim == "" {
		out = append(out, "NIL "...)
	} else {
		out = append(appendString(out, f.delim), ' ')
	}
	out = appendName(out, f.name)
	if f.below {
		out = append(out, ` ("CHILDINFO" ("SUBSCRIBED"))`...)
	}
	return append(out, "\r\n"...)
}

// appendName appends a mailbox's name: an atom where that is one, else a string.
func appendName(out []byte, name string) []byte {
	if name == "" || strings.EqualFold(name, "NIL") {
		return appendString(out, name)
	}
	for i := range len(name) {
		if b := name[i]; b <= ' ' || b >= 0x7f || strings.IndexByte(`(){%*"\]`, b) >= 0 {
			return appendString(out, name)
		}
	}
	return append(out, name...)
}

// ancestors calls f with the names above a name, the nearest one first.
func ancestors(name, delim string, f func(parent string)) {
	if delim == "" {
		return
	}
	for range maxLevels {
		i := strings.LastIndex(name, delim)
		if i <= 0 {
			return
		}
		name = name[:i]
		f(name)
	}
}
