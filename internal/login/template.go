package login

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// The placeholders of a Template.
const (
	placeholderUser   = "imap.user"
	placeholderLocal  = "imap.user.local"
	placeholderDomain = "imap.user.domain"
)

// Template makes one user name out of another, such as
// "{imap.user.local}@example.org" out of "alice".
//
// What a user typed is inserted once and never looked at again: a user who
// calls himself "{env.HOME}" or "{imap.user}" keeps that name.
//
// A Template is immutable and safe for concurrent use.
type Template struct {
	pieces []piece
}

// piece is a stretch of literal text, then a placeholder, either of which may
// be missing.
type piece struct {
	text        string
	placeholder string
}

// ParseTemplate reads a template. Its placeholders are {imap.user}, the name as
// it was typed; {imap.user.local} and {imap.user.domain}, its parts as SplitUser
// gives them. A template with any other placeholder, or with none, is an error:
// without one, all users would become the same.
func ParseTemplate(s string) (*Template, error) {
	pieces, err := parsePieces(s, placeholderUser, placeholderLocal, placeholderDomain)
	if err != nil {
		return nil, err
	}
	return &Template{pieces: pieces}, nil
}

// parsePieces reads a template that has to have one of these placeholders, and no
// others.
func parsePieces(s string, known ...string) (pieces []piece, err error) {
	if strings.ContainsFunc(s, unicode.IsControl) {
		return nil, fmt.Errorf("template %q: a user name cannot have a control character in it", s)
	}
	list := "{" + strings.Join(known[:len(known)-1], "}, {") + "} and {" + known[len(known)-1] + "}"
	seen := false
	for rest := s; rest != ""; {
		text, after, found := strings.Cut(rest, "{")
		if !found {
			pieces = append(pieces, piece{text: text})
			break
		}
		name, tail, closed := strings.Cut(after, "}")
		if !closed {
			return nil, fmt.Errorf("template %q: '{' without '}'", s)
		}
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("template %q: unknown placeholder {%s}; known are %s", s, name, list)
		}
		pieces = append(pieces, piece{text: text, placeholder: name})
		seen = true
		rest = tail
	}
	if s == "" {
		return nil, errors.New("template is empty; known placeholders are " + list)
	}
	if !seen {
		return nil, fmt.Errorf("template %q has no placeholder, so that every user would become the same; known are %s", s, list)
	}
	return pieces, nil
}

// UsesDomain says whether the domain of a name, if it has one, has any influence
// on what is made of it.
func (t *Template) UsesDomain() bool {
	for _, p := range t.pieces {
		if p.placeholder == placeholderUser || p.placeholder == placeholderDomain {
			return true
		}
	}
	return false
}

// IsIdentity says whether every name stays what it is.
func (t *Template) IsIdentity() bool {
	return len(t.pieces) == 1 && t.pieces[0] == (piece{placeholder: placeholderUser})
}

// Expand returns the template's text with the name that a user typed in it.
func (t *Template) Expand(user string) string {
	if t.IsIdentity() {
		return user
	}
	local, domain := SplitUser(user)
	var b strings.Builder
	for _, p := range t.pieces {
		b.WriteString(p.text)
		switch p.placeholder {
		case placeholderUser:
			b.WriteString(user)
		case placeholderLocal:
			b.WriteString(local)
		case placeholderDomain:
			b.WriteString(domain)
		}
	}
	return b.String()
}

// SplitUser returns the parts of a user name. "DOM\user" is split at its first
// backslash, anything else at its last '@'; a name with neither is all local
// part and its domain is empty.
func SplitUser(user string) (local, domain string) {
	if dom, name, found := strings.Cut(user, `\`); found {
		return name, dom
	}
	if at := strings.LastIndexByte(user, '@'); at >= 0 {
		return user[:at], user[at+1:]
	}
	return user, ""
}
