package imapext

import (
	"strings"
	"testing"
)

const selectInbox = `
	C: s SELECT INBOX
	s: % SELECT INBOX
	S: * OK [UIDVALIDITY 1] x
	S: % OK [READ-WRITE] done
	c: * OK [UIDVALIDITY 1] x
	c: s OK [READ-WRITE] done`

func TestMove(t *testing.T) {
	const caps = "IMAP4rev1 UIDPLUS LITERAL+"
	dialogue(t, only("MOVE"), caps, `
		C: z MOVE 1 Trash
		c: z BAD No mailbox selected.`+selectInbox+`
		C: a MOVE 2:4 Trash
		s: % COPY 2:4 "Trash"
		S: * 9 EXISTS
		S: % OK [COPYUID 38 304,319:320 3956:3958] done
		s: % UID STORE 304,319:320 +FLAGS.SILENT (\Deleted)
		S: % OK done
		s: % UID EXPUNGE 304,319:320
		S: * 4 EXPUNGE
		S: * 3 EXPUNGE
		S: * 2 EXPUNGE
		S: % OK done
		c: * 9 EXISTS
		c: * OK [COPYUID 38 304,319:320 3956:3958] Done.
		c: * 4 EXPUNGE
		c: * 3 EXPUNGE
		c: * 2 EXPUNGE
		c: a OK Move completed.
		C: b uid move 7 {5+}
		C: a"\bc
		s: % UID COPY 7 "a\"\\bc"
		S: [COPYUID 55 7 6]
		S: % OK COPY completed.
		s: % UID STORE 7 +FLAGS.SILENT (\Deleted)
		S: % BAD Command Argument Error. 11
		s: % UID STORE 7 +FLAGS (\Deleted)
		S: * 1 FETCH (FLAGS (\Deleted) UID 7)
		S: % OK done
		s: % UID EXPUNGE 7
		S: * 1 EXPUNGE
		S: * 0 EXISTS
		S: % OK done
		c: * 1 FETCH (FLAGS (\Deleted) UID 7)
		c: * OK [COPYUID 55 7 6] Done.
		c: * 1 EXPUNGE
		c: * 0 EXISTS
		c: b OK Move completed.`)
	t.Run("fails", func(t *testing.T) {
		dialogue(t, only("MOVE"), caps, selectInbox+`
			C: a MOVE 1 Nowhere
			s: % COPY 1 "Nowhere"
			S: % NO [TRYCREATE] no such mailbox
			c: a NO [TRYCREATE] no such mailbox
			C: b MOVE 99 Trash
			s: % COPY 99 "Trash"
			S: % BAD COPY: no such message
			c: b BAD Invalid arguments.
			C: c MOVE 1 Trash
			s: % COPY 1 "Trash"
			S: % OK [COPYUID 1 2 3] done
			s: % UID STORE 2 +FLAGS.SILENT (\Deleted)
			S: % NO [NOPERM] no
			c: c NO [NOPERM] no
			C: d MOVE 1 Trash
			s: % COPY 1 "Trash"
			S: % OK [COPYUID 1 2 3] done
			s: % UID STORE 2 +FLAGS.SILENT (\Deleted)
			S: % OK
			s: % UID EXPUNGE 2
			S: % NO Server Unavailable. 15
			s: % UID STORE 2 -FLAGS.SILENT (\Deleted)
			S: % OK
			c: * OK [COPYUID 1 2 3] Done.
			c: d NO Server Unavailable. 15
			C: e UID MOVE 77 Trash
			s: % UID COPY 77 "Trash"
			S: % OK nothing
			s: % UID SEARCH UID 77
			S: * SEARCH
			S: % OK
			c: e OK Move completed.
			C: f UID MOVE 7 Odd
			s: % UID COPY 7 "Odd"
			S: % OK [COPYUID 1 7] done
			s: % UID SEARCH UID 7
			S: * SEARCH 7
			S: % OK
			c: f NO [CANNOT] The messages were copied and not removed, because the mail server does not say which.
			C: g MOVE 1
			c: g BAD Invalid arguments.
			C: h MOVE (1) Trash
			c: h BAD Invalid arguments.
			C: i EXAMINE INBOX
			s: % EXAMINE INBOX
			S: % OK done
			c: i OK done
			C: j MOVE 1 Trash
			c: j NO [READ-ONLY] The mailbox is open for reading only.`)
	})
	if o := only("MOVE").Offer([]string{"IMAP4rev1"}); !o.IsEmpty() {
		t.Error("it is offered without UIDPLUS")
	}
	if o := only("MOVE").Offer([]string{"UIDPLUS", "move"}); !o.IsEmpty() {
		t.Error("it is offered beside the backend's")
	}
}

func TestCutSet(t *testing.T) {
	long := strings.Repeat("12345,", 2000) + "1"
	pieces := cutSet(long)
	for _, p := range pieces {
		if len(p) > maxSetLine || !validSet(p) || strings.HasPrefix(p, ",") || strings.HasSuffix(p, ",") {
			t.Errorf("piece %q", p)
		}
	}
	if strings.Join(pieces, ",") != long {
		t.Error("the pieces are not the whole")
	}
}
