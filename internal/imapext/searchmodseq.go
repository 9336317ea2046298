package imapext

import "github.com/caddy-imap/caddy-imap/internal/relay"

// byModseq says whether a program asks for mod-sequences, so that one is returned.
func (cr *criteria) byModseq() bool {
	return cr.key != nil && cr.key.any(func(k *searchKey) bool { return k.name == "MODSEQ" })
}

// narrowModseq has the mod-sequence be the highest of the messages that are returned (RFC
// 4731 section 3.2), if the one that the backend has told is of others, too.
func (s *Session) narrowModseq(t *relay.Turn, r *returnOptions, f *found) error {
	numbers := f.numbers
	few := r != nil && !r.all && !r.count && r.partial == "" && (r.min || r.max)
	if f.modseq == 0 || !few && !f.loose || len(numbers) == 0 {
		return nil
	}
	if few {
		numbers = r.saves(numbers)
	}
	f.modseq = 0
	_, err := s.askFetch(t, numbers, "(MODSEQ)", func(_ uint32, name string, value *scanner) (bool, error) {
		if name != "MODSEQ" {
			return false, nil
		}
		return true, value.list(func() error {
			n, err := value.number()
			f.modseq = max(f.modseq, n)
			return err
		})
	})
	return err
}
