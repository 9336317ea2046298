package login

import (
	"errors"
	"strings"
)

// The placeholders of a DelegateTemplate beside those of a Template.
const (
	placeholderAuthzID       = "imap.authzid"
	placeholderAuthzIDLocal  = placeholderAuthzID + localPart
	placeholderAuthzIDDomain = placeholderAuthzID + domainPart
)

// ErrAmbiguous says that a name with a mailbox in it could be read in more than one
// way.
var ErrAmbiguous = errors.New("the name or the authorization identity lacks a part, or has a separator of its own in it")

// DelegateTemplate makes the name with which a user asks for somebody else's mailbox
// out of the user's name and the authorization identity, such as
// "CORP\{imap.user.local}\{imap.authzid.local}".
//
// A DelegateTemplate is immutable and safe for concurrent use.
type DelegateTemplate struct {
	pieces []piece
}

// ParseDelegateTemplate reads a template. Its placeholders are those of a Template,
// and {imap.authzid}, {imap.authzid.local} and {imap.authzid.domain}. One of the user
// and one of the authorization identity have to be there; any other is an error.
func ParseDelegateTemplate(s string) (*DelegateTemplate, error) {
	pieces, err := parsePieces(s, placeholderUser, placeholderLocal, placeholderDomain,
		placeholderAuthzID, placeholderAuthzIDLocal, placeholderAuthzIDDomain)
	if err != nil {
		return nil, err
	}
	user, mailbox := false, false
	for _, p := range pieces {
		user = user || p.placeholder == placeholderUser || p.placeholder == placeholderLocal
		mailbox = mailbox || p.placeholder == placeholderAuthzID || p.placeholder == placeholderAuthzIDLocal
	}
	if !user || !mailbox {
		return nil, errors.New("template has to name both: the user, with {imap.user} or {imap.user.local}, " +
			"and the mailbox, with {imap.authzid} or {imap.authzid.local}")
	}
	return &DelegateTemplate{pieces: pieces}, nil
}

// UsesDomain says whether the domain of the user's name, if it has one, has any
// influence on what is made of it.
func (t *DelegateTemplate) UsesDomain() bool { return (&Template{pieces: t.pieces}).UsesDomain() }

// Expand returns the template's text with the name and the authorization identity
// that a client sent in it. The error is ErrAmbiguous if that could be taken for a
// name with other parts.
func (t *DelegateTemplate) Expand(user, authzID string) (string, error) {
	local, domain := SplitUser(user)
	authzLocal, authzDomain := SplitUser(authzID)
	values := map[string]string{
		placeholderUser: user, placeholderLocal: local, placeholderDomain: domain,
		placeholderAuthzID: authzID, placeholderAuthzIDLocal: authzLocal, placeholderAuthzIDDomain: authzDomain,
	}
	var b strings.Builder
	for _, p := range t.pieces {
		b.WriteString(p.text)
		if p.placeholder == "" {
			continue
		}
		value := values[p.placeholder]
		if !fits(p.placeholder, value) {
			return "", ErrAmbiguous
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// fits says whether a value is what its placeholder is for. The whole name of a user
// may be DOM\user or user@domain, a whole authorization identity user@domain, and a
// part of them has no separator.
func fits(placeholder, value string) bool {
	mayHave := ""
	switch placeholder {
	case placeholderUser:
		if strings.Contains(value, `\`) {
			mayHave = `\`
		} else {
			mayHave = "@"
		}
	case placeholderAuthzID:
		mayHave = "@"
	}
	if mayHave != "" {
		before, after, found := strings.Cut(value, mayHave)
		if found && (before == "" || after == "") {
			return false
		}
		value = before + after
	}
	return value != "" && !strings.ContainsAny(value, separators)
}
