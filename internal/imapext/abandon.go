package imapext

import (
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// maxPadding is how much of a message that will never be whole is made up, in bytes: no
// command can be given before the backend has got as much as was announced.
const maxPadding = 16 << 20

// breakOff brings the backend to complete an APPEND of which so many bytes of the message
// are missing, so that messages before it can be taken back. It is made one that is wrong.
// If the backend takes it all the same, it is one more to be taken back.
func (s *Session) breakOff(t *relay.Turn, tag string, left int64, st *stored) {
	if len(st.uids) == 0 || left > maxPadding {
		return
	}
	t.Finish(true)
	if left > 0 {
		t.Write(strings.Repeat(" ", int(left)))
	}
	t.Write(" )\r\n")
	status, err := t.Complete(tag, ignore)
	if validity, uid, known := appended(status.Text); err == nil && status.OK && known {
		st.add(validity, uid)
	}
	st.open = err != nil
}

// abandon takes back what was stored for a command that the client will never end, and
// returns the error, by which the session ends.
func (s *Session) abandon(t *relay.Turn, name string, st *stored, err error) error {
	if len(st.uids) > 0 && !st.open {
		t.Finish(true)
		_, _ = s.removeFrom(t, name, st)
	}
	return err
}
