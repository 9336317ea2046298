package imapext

import "bytes"

// What stands for missing parts of an address, as Dovecot shows it in an ENVELOPE.
const (
	missingMailbox = "MISSING_MAILBOX"
	missingDomain  = "MISSING_DOMAIN"
	brokenDomain   = "SYNTAX_ERROR"
)

// address is what orders messages of an address. The name is not decoded.
type address struct{ name, mailbox, domain []byte }

// firstAddress returns the first address of a field such as From (RFC 5322 section 3.4).
// That of a group is its name, in the place of the mailbox, without a domain, as in the
// ENVELOPE of RFC 3501. Of what is broken as much is read as Dovecot reads; a field with
// nothing in it has no address.
func firstAddress(value []byte) (a address, ok bool) {
	begin := addressReader{tokens{rest: value}}
	if begin.space() <= atEnd {
		return address{}, false
	}
	if r := begin; r.phrase() == onward && r.next() == ':' {
		return address{mailbox: r.word()}, true
	}
	if r := begin; r.phrase() == onward && r.next() == '<' {
		a.name = r.word()
		if r.angle(&a) == broken {
			a.domain = []byte(brokenDomain)
		}
	} else {
		r := begin
		r.spec(&a)
	}
	if a.mailbox == nil {
		a.mailbox = []byte(missingMailbox)
	}
	if len(a.domain) == 0 {
		a.domain = []byte(missingDomain)
	}
	return a, true
}

// full returns the address without its name.
func (a address) full() []byte {
	if a.domain == nil {
		return a.mailbox
	}
	return append(append(bytes.Clone(a.mailbox), '@'), a.domain...)
}

type addressReader struct{ tokens }

// word returns what was read last, which is there even if it is empty.
func (r *addressReader) word() []byte {
	w := append([]byte{}, r.out...)
	r.out = r.out[:0]
	return w
}

// angle reads what is in angle brackets.
func (r *addressReader) angle(a *address) progress {
	r.take()
	if r.space() <= atEnd {
		return broken
	}
	if r.next() == '@' {
		if r.route() == onward && r.next() == ':' {
			r.take()
		}
		if r.space() <= atEnd {
			return broken
		}
	}
	if r.next() != '>' {
		if r.local(a) <= atEnd || r.next() == '@' && r.host(a) <= atEnd {
			return broken
		}
	}
	if r.take() != '>' {
		return broken
	}
	return r.space()
}

// route skips the obsolete list of domains in front of an address.
func (r *addressReader) route() progress {
	for r.next() == '@' {
		if p := r.domain(); p <= atEnd {
			return p
		}
		for r.space() == onward && r.next() == ',' {
			r.take()
		}
	}
	return r.where()
}

// local reads the part before the @.
func (r *addressReader) local(a *address) progress {
	r.out = r.out[:0]
	read := r.laxDotAtom
	if r.next() == '"' {
		read = r.quoted
	}
	p := read()
	if p != broken {
		a.mailbox = append([]byte{}, r.out...)
	}
	return p
}

// host reads the part from the @ on.
func (r *addressReader) host(a *address) progress {
	r.out = r.out[:0]
	p := r.domain()
	if p != broken {
		a.domain = r.word()
	}
	return p
}

// spec reads an address without angle brackets, whose name may be in a comment. A word
// alone is a mailbox, but several words are a name, and so is a word in quotes.
func (r *addressReader) spec(a *address) {
	r.comment = nil
	quoted := r.next() == '"'
	p, bare := r.local(a), true
	if p != atEnd && r.next() == '@' {
		r.host(a)
		bare = false
	}
	if len(r.comment) > 0 {
		a.name = r.comment
		return
	}
	if !bare {
		return
	}
	r.out = append(r.out, ' ')
	one := len(r.out)
	r.phrase()
	switch {
	case len(r.out) > one:
		a.mailbox, a.name = nil, r.word()
	case quoted && a.mailbox != nil:
		a.mailbox, a.name = nil, a.mailbox
	}
}
