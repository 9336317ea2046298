package imapext

import "github.com/caddy-imap/caddy-imap/internal/relay"

// namespaceFeature is NAMESPACE (RFC 2342), for backends that have one personal namespace
// and no other.
var namespaceFeature = &feature{
	name:     "NAMESPACE",
	commands: map[string]handler{"NAMESPACE": {relay.Whole, namespace}},
}

// namespace answers with the delimiter that LIST tells.
func namespace(s *Session, c *command) func(*relay.Turn) error {
	if !c.args.end() {
		return nil
	}
	return func(t *relay.Turn) error {
		delim := ""
		status, err := s.askFolders(t, "LIST", "", "", func(f *folder) error {
			delim = f.delim
			return nil
		})
		if err != nil {
			return err
		}
		if !status.OK {
			return t.Tellf("%s %s", c.tag, refused(status))
		}
		text := "NIL"
		if delim != "" {
			text = string(appendString(nil, delim))
		}
		return t.Tellf("* NAMESPACE ((\"\" %s)) NIL NIL\r\n%s OK NAMESPACE completed.", text, c.tag)
	}
}
