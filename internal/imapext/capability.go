package imapext

import (
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// capability answers CAPABILITY (RFC 3501 section 6.1.1): the backend's list, with what
// is answered here added.
func capability(s *Session, c *command) func(*relay.Turn) error {
	if !c.args.end() {
		return nil
	}
	return func(t *relay.Turn) error {
		status, err := t.Ask(func(r []byte) error { return t.Pass(s.offer.amended(r)) }, "CAPABILITY")
		if err != nil {
			return err
		}
		return t.Tellf("%s %s", c.tag, status)
	}
}

// amended adds to a response that lists capabilities.
func (o *Offer) amended(r []byte) []byte {
	switch _, name, rest := untagged(r); name {
	case "CAPABILITY":
		return []byte("* CAPABILITY " + o.withOurs(string(rest.rest)) + "\r\n")
	case "OK":
		text := string(rest.rest)
		if all := o.listsAll(text, ""); all != text {
			return []byte("* OK " + all + "\r\n")
		}
	}
	return r
}

// withOurs adds to a list of the backend what is answered here, unless it has that itself by
// now.
func (o *Offer) withOurs(list string) string {
	all := strings.Split(list, " ")
	for _, more := range o.Capabilities {
		if !slices.ContainsFunc(all, func(c string) bool { return strings.EqualFold(c, more) }) {
			all = append(all, more)
		}
	}
	return strings.Join(all, " ")
}

// listsAll does so where a status text has a list as its response code, and leaves one
// capability out.
func (o *Offer) listsAll(text, without string) string {
	const code = "[CAPABILITY "
	if len(text) < len(code) || !strings.EqualFold(text[:len(code)], code) {
		return text
	}
	list, rest, closed := strings.Cut(text[len(code):], "]")
	if !closed {
		return text
	}
	all := slices.DeleteFunc(strings.Split(o.withOurs(list), " "), func(c string) bool { return strings.EqualFold(c, without) })
	return code + strings.Join(all, " ") + "]" + rest
}
