package imapext

import (
	"errors"
	"io"
	"strings"
	"testing"
)

const uidplus = "IMAP4rev1 UIDPLUS LITERAL+"

func TestMultiAppend(t *testing.T) {
	t.Run("one", func(t *testing.T) {
		dialogue(t, only("MULTIAPPEND"), uidplus, `
			C: a APPEND saved (\Seen) " 1-Jan-2026 00:00:00 +0000" {5+}
			C: hello
			s: % APPEND "saved" (\Seen) " 1-Jan-2026 00:00:00 +0000" {5+}
			s: hello
			S: % OK [APPENDUID 1 2] done
			c: a OK [APPENDUID 1 2] done
			C: b APPEND saved {5}
			s: % APPEND "saved" {5+}
			c: + OK
			C: ab
			C: }
			s: ab
			s: }
			S: % NO [OVERQUOTA] no
			c: b NO [OVERQUOTA] no
			C: c APPEND {5}
			c: + OK
			C: a"\bc {2+}
			C: hi
			s: % APPEND "a\"\\bc" {2+}
			s: hi
			S: % OK done
			c: c OK done
			C: d APPEND saved CATENATE (TEXT {2+}
			C: hi)
			s: d APPEND saved CATENATE (TEXT {2+}
			s: hi)
			S: d BAD what
			c: d BAD what
			C: e APPEND saved
			s: e APPEND saved`)
	})
	t.Run("many", func(t *testing.T) {
		dialogue(t, only("MULTIAPPEND"), uidplus, `
			C: a APPEND saved (\Seen) {5+}
			C: hello {2}
			s: % APPEND "saved" (\Seen) {5+}
			s: hello
			S: * 1 EXISTS
			S: % OK [APPENDUID 1 2] done
			s: % APPEND "saved" {2+}
			c: * 1 EXISTS
			c: + OK
			C: hi (\Draft) {0+}
			C:
			s: hi
			S: % OK [APPENDUID 1 3] done
			s: % APPEND "saved" (\Draft) {0+}
			s:
			S: % OK [APPENDUID 1 5] done
			c: a OK [APPENDUID 1 2:3,5] Append completed.
			C: b NOOP
			s: b NOOP`)
	})
	t.Run("taken back", func(t *testing.T) {
		// Nothing is selected: the mailbox is, and is left again.
		dialogue(t, only("MULTIAPPEND"), uidplus, `
			C: a APPEND saved {5+}
			C: hello {2+}
			C: hi {3+}
			C: abc
			C: b NOOP
			s: % APPEND "saved" {5+}
			s: hello
			S: % OK [APPENDUID 1 2] done
			s: % APPEND "saved" {2+}
			s: hi
			S: % NO [OVERQUOTA] no
			s: % SELECT "saved"
			S: * OK [UIDVALIDITY 1] x
			S: % OK [READ-WRITE] done
			s: % UID STORE 2 +FLAGS (\Deleted)
			S: % OK done
			s: % UID EXPUNGE 2
			S: * 3 EXPUNGE
			S: % OK done
			s: % EXAMINE "saved"
			S: % OK done
			s: % CLOSE
			S: % OK done
			c: a NO [OVERQUOTA] no
			s: b NOOP`)
		// The same one is selected.
		dialogue(t, only("MULTIAPPEND"), uidplus, selectInbox+`
			C: a APPEND inbox {5+}
			C: hello {2+}
			C: hi
			s: % APPEND "inbox" {5+}
			s: hello
			S: % OK [APPENDUID 1 2] done
			s: % APPEND "inbox" {2+}
			s: hi
			S: % NO no
			s: % UID STORE 2 +FLAGS.SILENT (\Deleted)
			S: % OK done
			s: % UID EXPUNGE 2
			S: * 3 EXPUNGE
			S: % OK done
			c: * 3 EXPUNGE
			c: a NO no`)
		// Another one is.
		dialogue(t, only("MULTIAPPEND"), uidplus, `
			C: s SELECT INBOX
			s: % SELECT INBOX
			S: * OK [UIDVALIDITY 9] x
			S: % OK [READ-WRITE] done
			c: * OK [UIDVALIDITY 9] x
			c: s OK [READ-WRITE] done
			C: a APPEND saved {5+}
			C: hello junk {2+}
			C: hi
			C: b NOOP
			s: % APPEND "saved" {5+}
			s: hello
			S: % OK [APPENDUID 1 2] done
			s: % FETCH 1:* (UID)
			S: * 1 FETCH (UID 10)
			S: * 2 FETCH (FLAGS (\Seen) UID 20)
			S: * 3 FETCH (UID 30)
			S: % OK done
			s: % SELECT "saved"
			S: * OK [UIDVALIDITY 1] x
			S: % OK [READ-WRITE] done
			s: % UID STORE 2 +FLAGS (\Deleted)
			S: % OK done
			s: % UID EXPUNGE 2
			S: % OK done
			s: % SELECT "INBOX"
			S: * OK [UIDVALIDITY 9] x
			S: % OK done
			s: % FETCH 1:* (UID)
			S: * 1 FETCH (UID 20)
			S: * 2 FETCH (UID 40)
			S: % OK done
			c: * 3 EXPUNGE
			c: * 1 EXPUNGE
			c: * 2 EXISTS
			c: a BAD Invalid arguments.
			s: b NOOP`)
	})
	t.Run("cannot be taken back", func(t *testing.T) {
		dialogue(t, only("MULTIAPPEND"), uidplus, `
			C: a APPEND saved {1+}
			C: a {1}
			s: % APPEND "saved" {1+}
			s: a
			S: % OK without a number
			c: a NO [CANNOT] The mail server does not say what it has stored.
			C: b APPEND saved {1+}
			C: a {1}
			s: % APPEND "saved" {1+}
			s: a
			S: % OK [APPENDUID 1 2] done
			s: % APPEND "saved" {1+}
			c: + OK
			C: b
			s: b
			S: % NO no
			s: % SELECT "saved"
			S: % NO it is gone
			s: % EXAMINE "saved"
			S: % NO it is gone
			c: b NO [CANNOT] Some of the messages were stored and cannot be taken back.`)
	})
	t.Run("lost", func(t *testing.T) {
		r := rig(t, only("MULTIAPPEND"), uidplus)
		done := make(chan struct{})
		go func() {
			defer close(done)
			playBackend(r.backend, map[string]string{"EXAMINE": "NO gone", "UID": "OK"})
		}()
		_, _ = io.WriteString(r.client, "s SELECT INBOX\r\na APPEND saved {1+}\r\na x {1+}\r\nb\r\n")
		if s := <-r.stats; !errors.Is(s.Err, errLost) {
			t.Errorf("ended with %v", s.Err)
		}
		_, _ = r.client.Close(), r.backend.Close()
		<-done
	})
}

// playBackend answers commands, by their names; the second SELECT of INBOX fails.
func playBackend(conn io.ReadWriter, answers map[string]string) {
	buf, inbox := make([]byte, 4096), 0
	for {
		n, err := conn.Read(buf)
		if err != nil {
			return
		}
		tag, rest, _ := strings.Cut(string(buf[:n]), " ")
		name, _, _ := strings.Cut(rest, " ")
		answer := "OK [APPENDUID 1 2] done"
		if found, ok := answers[name]; ok {
			answer = found
		}
		if strings.Contains(rest, "INBOX") {
			if inbox++; inbox > 1 {
				answer = "NO gone"
			}
		}
		if _, err := io.WriteString(conn, tag+" "+answer+"\r\n"); err != nil {
			return
		}
	}
}

func TestReplace(t *testing.T) {
	dialogue(t, only("REPLACE"), uidplus, `
		C: z REPLACE 1 Drafts {2+}
		C: hi
		c: z BAD No mailbox selected.`+selectInbox+`
		C: a REPLACE 4 Drafts (\Seen \Draft) {5+}
		C: hello
		s: % FETCH 4 (UID)
		S: * 3 FETCH (UID 22)
		S: * 4 FETCH (UID 23)
		S: % OK done
		s: % APPEND "Drafts" (\Seen \Draft) {5+}
		s: hello
		S: * 5 EXISTS
		S: % OK [APPENDUID 1 101] done
		s: % UID STORE 23 +FLAGS.SILENT (\Deleted)
		S: % OK done
		s: % UID EXPUNGE 23
		S: * 4 EXPUNGE
		S: % OK done
		c: * 3 FETCH (UID 22)
		c: * 5 EXISTS
		c: * OK [APPENDUID 1 101] done
		c: * 4 EXPUNGE
		c: a OK Replace completed.
		C: b UID REPLACE 7 Drafts {5}
		s: % UID FETCH 7 (UID)
		S: % OK done
		c: b NO There is no such message.
		C: c UID REPLACE 7 {6}
		c: + OK
		C: Drafts {2+}
		C: hi
		s: % UID FETCH 7 (UID)
		S: * 1 FETCH (UID 7)
		S: % OK done
		s: % APPEND "Drafts" {2+}
		s: hi
		S: % NO [TRYCREATE] no
		c: c NO [TRYCREATE] no
		C: d REPLACE 1:2 Drafts {8+}
		C: x NOOP
		C:
		c: d BAD Invalid arguments.
		C: e REPLACE 1 (Drafts {8+}
		C: x NOOP
		C:
		c: e BAD Invalid arguments.
		C: f REPLACE 1 Drafts
		c: f BAD Invalid arguments.
		C: g REPLACE 4 INBOX {2+}
		C: hi
		s: % FETCH 4 (UID)
		S: * 4 FETCH (UID 23)
		S: % OK done
		s: % APPEND "INBOX" {2+}
		s: hi
		S: % OK [APPENDUID 1 101] done
		s: % UID STORE 23 +FLAGS.SILENT (\Deleted)
		S: % NO [NOPERM] no
		s: % UID STORE 101 +FLAGS.SILENT (\Deleted)
		S: % OK done
		s: % UID EXPUNGE 101
		S: * 5 EXPUNGE
		S: % OK done
		c: * OK [APPENDUID 1 101] done
		c: * 5 EXPUNGE
		c: g NO [NOPERM] no
		C: h NOOP
		s: h NOOP`)
}
