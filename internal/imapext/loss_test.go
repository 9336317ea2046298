package imapext

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// TestNothingLost has a backend say what numbers or UIDs mean other messages after.
func TestNothingLost(t *testing.T) {
	t.Run("UIDVALIDITY of what is selected", func(t *testing.T) {
		// The mailbox has been renamed, and there is a new one of its name.
		dialogue(t, only("MULTIAPPEND"), uidplus, selectInbox+`
			C: a APPEND INBOX {1+}
			C: x junk
			s: % APPEND "INBOX" {1+}
			s: x
			S: % OK [APPENDUID 2 1] done
			s: % FETCH 1:* (UID)
			S: * 1 FETCH (UID 1)
			S: % OK done
			s: % SELECT "INBOX"
			S: * OK [UIDVALIDITY 2] x
			S: % OK done
			s: % UID STORE 1 +FLAGS (\Deleted)
			S: % OK done
			s: % UID EXPUNGE 1
			S: % OK done
			s: % SELECT "INBOX"
			S: * OK [UIDVALIDITY 2] x
			S: % OK done
			c: * BYE The mail server is not available.`)
	})
	t.Run("UIDVALIDITY of another", func(t *testing.T) {
		dialogue(t, only("MULTIAPPEND"), uidplus, `
			C: a APPEND saved {1+}
			C: x junk
			s: % APPEND "saved" {1+}
			s: x
			S: % OK [APPENDUID 7 1] done
			s: % SELECT "saved"
			S: * OK [UIDVALIDITY 8] x
			S: % OK done
			s: % EXAMINE "saved"
			S: % OK [READ-ONLY] done
			s: % CLOSE
			S: % OK done
			c: a NO [CANNOT] Some of the messages were stored and cannot be taken back.
			C: b APPEND saved {1+}
			C: x {1+}
			C: y junk
			s: % APPEND "saved" {1+}
			s: x
			S: % OK [APPENDUID 7 1] done
			s: % APPEND "saved" {1+}
			s: y
			S: % OK [APPENDUID 8 1] done
			c: b NO [CANNOT] Some of the messages were stored and cannot be taken back.`)
	})
	t.Run("numbers that cannot be had", func(t *testing.T) {
		dialogue(t, only("MULTIAPPEND"), uidplus, selectInbox+`
			C: a APPEND saved {1+}
			C: x junk
			s: % APPEND "saved" {1+}
			s: x
			S: % OK [APPENDUID 7 1] done
			s: % FETCH 1:* (UID)
			S: * 1 FETCH (UID 1)
			S: % NO Server Unavailable. 15
			c: a NO [CANNOT] Some of the messages were stored and cannot be taken back.
			C: b APPEND saved {1+}
			C: x junk
			s: % APPEND "saved" {1+}
			s: x
			S: % OK [APPENDUID 7 1] done
			s: % FETCH 1:* (UID)
			S: * 1 FETCH (UID 1)
			S: % OK done
			s: % SELECT "saved"
			S: % NO no
			s: % SELECT "INBOX"
			S: * 1 EXISTS
			S: * OK [UIDVALIDITY 1] x
			S: % OK done
			s: % FETCH 1:* (UID)
			S: % NO Server Unavailable. 15
			c: * BYE The mail server is not available.`)
	})
	t.Run("COPYUID", func(t *testing.T) {
		dialogue(t, only("MOVE"), uidplus, selectInbox+`
			C: a MOVE 1 Trash
			s: % COPY 1 "Trash"
			S: % OK [COPYUID 1 1:4294967295 3] done
			c: a NO [CANNOT] The messages were copied and not removed, because the mail server does not say which.`)
	})
	t.Run("REPLACE", func(t *testing.T) {
		dialogue(t, only("REPLACE"), uidplus, selectInbox+`
			C: a REPLACE * Drafts {2+}
			C: hi
			s: % FETCH * (UID)
			S: * 9 FETCH (UID 90)
			S: * 3 FETCH (UID 30 FLAGS (\Seen))
			S: % OK done
			c: * 3 FETCH (UID 30 FLAGS (\Seen))
			s: % APPEND "Drafts" {2+}
			s: hi
			S: % OK [APPENDUID 5 5] done
			s: % UID STORE 90 +FLAGS.SILENT (\Deleted)
			S: % OK done
			s: % UID EXPUNGE 90
			S: % OK done
			c: * OK [APPENDUID 5 5] done
			c: a OK Replace completed.
			C: b REPLACE 4 Drafts {2+}
			C: hi
			s: % FETCH 4 (UID)
			S: * 2 EXPUNGE
			S: * 4 FETCH (UID 50)
			S: % OK done
			c: * 2 EXPUNGE
			c: b NO [EXPUNGEISSUED] Messages have gone meanwhile.`)
	})
	t.Run("REPLACE while something is held", func(t *testing.T) {
		dialogue(t, only("SORT", "REPLACE"), uidplus, selectInbox+`
			C: a SORT (SIZE) US-ASCII ALL
			s: % SEARCH ALL
			S: * SEARCH 1 2 3
			S: % OK done
			s: % FETCH 1:3 (UID RFC822.SIZE)
			S: * 1 FETCH (UID 1 RFC822.SIZE 5)
			S: * 1 EXPUNGE
			S: * 1 FETCH (UID 2 RFC822.SIZE 5)
			S: % OK done
			c: a NO [EXPUNGEISSUED] Messages have gone meanwhile.
			C: b REPLACE 3 INBOX {12+}
			C: x LOGOUT now
			c: * 1 EXPUNGE
			c: b NO [EXPUNGEISSUED] Messages have gone meanwhile.
			C: c NOOP
			s: c NOOP`)
	})
	t.Run("saved", func(t *testing.T) {
		dialogue(t, only("SEARCHRES", "ESEARCH"), uidplus, selectInbox+`
			C: a SEARCH RETURN (SAVE) SEEN
			s: % SEARCH SEEN
			S: * SEARCH 1 3
			S: % OK done
			s: % FETCH 1,3 (UID)
			S: * 1 EXPUNGE
			S: * 1 FETCH (UID 20)
			S: * 3 FETCH (UID 40)
			S: % OK done
			c: a NO [EXPUNGEISSUED] Messages have gone meanwhile.
			C: b UID STORE $ +FLAGS (\Deleted)
			c: * 1 EXPUNGE
			c: b OK No messages.`)
	})
	t.Run("UNSELECT", func(t *testing.T) {
		dialogue(t, only("UNSELECT"), uidplus, selectInbox+`
			C: a UNSELECT
			s: % EXAMINE "INBOX"
			S: % OK [READ-WRITE] done
			c: a OK Unselect completed.
			C: b NOOP
			s: b NOOP`)
	})
}

// TestTakenBackInPieces has more messages taken back than fit into a line.
func TestTakenBackInPieces(t *testing.T) {
	r := rig(t, only("MULTIAPPEND"), uidplus)
	const count = 1000
	go func() {
		_, _ = io.WriteString(r.client, "a APPEND saved")
		for range count {
			_, _ = io.WriteString(r.client, " {1+}\r\nx")
		}
		_, _ = io.WriteString(r.client, " junk\r\n")
	}()
	done := make(chan []string, 1)
	go func() {
		defer r.backend.Close()
		var lines []string
		br, uid := bufio.NewReader(r.backend), 0
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				done <- lines
				return
			}
			tag, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
			switch {
			case strings.HasPrefix(rest, "APPEND"):
				_, _ = br.ReadString('\n')
				uid += 2
				fmt.Fprintf(r.backend, "%s OK [APPENDUID 10 %d] x\r\n", tag, 100_000+uid)
				continue
			case strings.HasPrefix(rest, "SELECT"):
				_, _ = io.WriteString(r.backend, "* OK [UIDVALIDITY 10] x\r\n")
			}
			lines = append(lines, rest)
			fmt.Fprintf(r.backend, "%s OK x\r\n", tag)
		}
	}()
	hears(t, "client", r.client, "a BAD Invalid arguments.\r\n")
	_ = r.client.Close()
	<-r.stats
	stores := 0
	for _, line := range <-done {
		if len(line) > maxSetLine+100 {
			t.Errorf("a line of %d bytes", len(line))
		}
		if strings.HasPrefix(line, "UID EXPUNGE") {
			stores++
		}
	}
	if stores < 2 {
		t.Errorf("%d commands remove them", stores)
	}
}

// TestCutOff has the client go, or be told to, in the middle of a command.
func TestCutOff(t *testing.T) {
	const first = `a APPEND saved {1+}` + "\r\nx"
	gone := func(t *testing.T, r *rigged) { _ = r.client.Close() }
	reset := func(t *testing.T, r *rigged) {
		if err := r.client.(interface{ SetLinger(int) error }).SetLinger(0); err != nil {
			t.Fatal(err)
		}
		_ = r.client.Close()
	}
	kicked := func(_ *testing.T, r *rigged) { r.Kick("Away.", 10*time.Second) }
	for name, c := range map[string]struct {
		says, padding string
		end           func(*testing.T, *rigged)
	}{
		"in a mail":                {" {10+}\r\nabc", strings.Repeat(" ", 7) + " )\r\n", gone},
		"in a mail, reset":         {" {10+}\r\nabc", strings.Repeat(" ", 7) + " )\r\n", reset},
		"in a mail, kicked":        {" {10+}\r\nabc", strings.Repeat(" ", 7) + " )\r\n", kicked},
		"behind a mail":            {" {3+}\r\nabc", " )\r\n", gone},
		"in front of one":          {" {3+}\r\n", strings.Repeat(" ", 3) + " )\r\n", gone},
		"CR without LF":            {" {3+}\r\nabc (\\Seen\rx NOOP\r) {1+}\r\n", " )\r\n", func(*testing.T, *rigged) {}},
		"in a mail, it is a large": {" {9999999+}\r\nabc", "", gone},
	} {
		t.Run(name, func(t *testing.T) {
			r := rig(t, only("MULTIAPPEND"), uidplus)
			br := bufio.NewReader(r.backend)
			command := func(want string) string {
				t.Helper()
				line, err := br.ReadString('\n')
				tag, rest, _ := strings.Cut(line, " ")
				if !strings.HasPrefix(rest, want) {
					t.Fatalf("the backend got %q, %v; want %q", line, err, want)
				}
				return tag
			}
			_, _ = io.WriteString(r.client, first+c.says)
			tag := command("APPEND")
			hears(t, "backend", br, "x\r\n")
			fmt.Fprintf(r.backend, "%s OK [APPENDUID 1 77] x\r\n", tag)
			tag = command("APPEND")
			if strings.Contains(c.says, "abc") {
				hears(t, "backend", br, "abc")
			}
			c.end(t, r)
			if c.padding == "" {
				c.padding = strings.Repeat(" ", 9999999-3) + " )\r\n"
			}
			hears(t, "backend", br, c.padding)
			fmt.Fprintf(r.backend, "%s BAD what\r\n", tag)
			fmt.Fprintf(r.backend, "* OK [UIDVALIDITY 1] x\r\n%s OK x\r\n", command(`SELECT "saved"`))
			fmt.Fprintf(r.backend, "%s OK x\r\n", command(`UID STORE 77 +FLAGS (\Deleted)`))
			fmt.Fprintf(r.backend, "%s OK x\r\n", command("UID EXPUNGE 77"))
			fmt.Fprintf(r.backend, "%s OK x\r\n", command("EXAMINE"))
			fmt.Fprintf(r.backend, "%s OK x\r\n", command("CLOSE"))
			if _, err := br.ReadByte(); err != io.EOF {
				t.Errorf("the backend got something, %v", err)
			}
			_ = r.client.Close()
			<-r.stats
			_ = r.backend.Close()
		})
	}
	t.Run("MOVE, kicked", func(t *testing.T) {
		r := rig(t, only("MOVE"), uidplus)
		br := bufio.NewReader(r.backend)
		answer := func(want, say string) {
			t.Helper()
			line, err := br.ReadString('\n')
			tag, rest, _ := strings.Cut(line, " ")
			if !strings.HasPrefix(rest, want) {
				t.Fatalf("the backend got %q, %v; want %q", line, err, want)
			}
			if want == "COPY" {
				r.Kick("Away.", 10*time.Second)
			}
			fmt.Fprintf(r.backend, "%s OK %s\r\n", tag, say)
		}
		_, _ = io.WriteString(r.client, "s SELECT INBOX\r\na MOVE 1 Trash\r\n")
		answer("SELECT", "[READ-WRITE] x")
		answer("COPY", "[COPYUID 1 2 3] x")
		answer("UID STORE 2 +", "x")
		answer("UID EXPUNGE 2", "x")
		hears(t, "client", r.client, "s OK [READ-WRITE] x\r\n* OK [COPYUID 1 2 3] Done.\r\na OK Move completed.\r\n* BYE Away.\r\n")
		_, _ = r.client.Close(), r.backend.Close()
		<-r.stats
	})
}

// TestOddHeads has commands written as only some servers take them.
func TestOddHeads(t *testing.T) {
	dialogue(t, only("MOVE"), uidplus, selectInbox+`
		C:  a  select  "Other"
		s: % select  "Other"
		S: % OK [READ-WRITE] done
		c: a OK [READ-WRITE] done
		C: b SELECT
		c: b BAD Invalid arguments.
		C: c SELECT (
		c: c BAD Invalid arguments.
		C: d  UID  MOVE 1
		c: d BAD Invalid arguments.`)
	dialogue(t, only("MULTIAPPEND"), uidplus, `
		C: a APPEND "" {5}
		s: % APPEND "" {5+}
		c: + OK
		C: hello
		s: hello
		S: % NO no
		c: a NO no`)
}

// TestCapabilitiesByTheWay has a backend list what it can where nobody has asked, and more than
// it could.
func TestCapabilitiesByTheWay(t *testing.T) {
	dialogue(t, only("MOVE", "UNSELECT"), uidplus, `
		C: a SELECT INBOX
		s: % SELECT INBOX
		S: * OK [CAPABILITY IMAP4rev1 UNAUTHENTICATE] x
		S: * OK [UNSEEN 1]  x
		S: * CAPABILITY IMAP4rev1 MOVE
		S: % OK [CAPABILITY IMAP4rev1 UNAUTHENTICATE unselect] x
		c: * OK [CAPABILITY IMAP4rev1 UNSELECT MOVE] x
		c: * OK [UNSEEN 1]  x
		c: * CAPABILITY IMAP4rev1 MOVE UNSELECT
		c: a OK [CAPABILITY IMAP4rev1 unselect MOVE] x
		C: b CAPABILITY
		s: % CAPABILITY
		S: * CAPABILITY IMAP4rev1 Move
		S: % OK done
		c: * CAPABILITY IMAP4rev1 Move UNSELECT
		c: b OK done`)
}

// TestByeInTheMiddle has a backend end the session while a command is carried out.
func TestByeInTheMiddle(t *testing.T) {
	r := rig(t, only("MOVE"), uidplus)
	br := bufio.NewReader(r.backend)
	_, _ = io.WriteString(r.client, "s SELECT INBOX\r\n")
	tag, _ := br.ReadString(' ')
	_, _ = io.WriteString(r.backend, tag+"OK x\r\n")
	hears(t, "client", r.client, "s OK x\r\n")
	_, _ = io.WriteString(r.client, "a MOVE 1 Trash\r\n")
	_, _ = br.ReadString('\n')
	_, _ = br.ReadString('\n')
	_, _ = io.WriteString(r.backend, "* BYE Away.\r\n")
	_ = r.backend.Close()
	hears(t, "client", r.client, "* BYE Away.\r\n")
	if s := <-r.stats; !errors.Is(s.Err, io.ErrUnexpectedEOF) {
		t.Errorf("ended with %v", s.Err)
	}
	_ = r.client.Close()
}
