package imapext

import "github.com/caddy-imap/caddy-imap/internal/relay"

// capability answers CAPABILITY (RFC 3501 section 6.1.1): the backend's list, with what
// is answered here added.
func capability(s *Session, c *command) func(*relay.Turn) error {
	if !c.args.end() {
		return nil
	}
	return func(t *relay.Turn) error {
		status, err := t.Ask(func(r []byte) error {
			if _, name, list := untagged(r); name == "CAPABILITY" {
				line := append([]byte("* CAPABILITY "), list.rest...)
				for _, more := range s.offer.Capabilities {
					line = append(append(line, ' '), more...)
				}
				r = append(line, "\r\n"...)
			}
			return t.Pass(r)
		}, "CAPABILITY")
		if err != nil {
			return err
		}
		return t.Tellf("%s %s", c.tag, status)
	}
}
