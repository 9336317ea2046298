package imapext

import (
	"slices"
	"strings"
	"testing"
	"time"
)

func TestID(t *testing.T) {
	dialogue(t, only("ID"), "IMAP4rev1", `
		C: a ID NIL
		c: * ID NIL
		c: a OK ID completed.
		C: b ID ("name" {3+}
		C: Foo "version" NIL)
		c: * ID NIL
		c: b OK ID completed.
		C: c ID (
		c: c BAD Invalid arguments.
		C: d CAPABILITY
		s: % CAPABILITY
		S: * CAPABILITY IMAP4rev1 UNAUTHENTICATE
		S: % OK done
		c: * CAPABILITY IMAP4rev1 ID
		c: d OK done`)
}

func TestEnable(t *testing.T) {
	dialogue(t, only("ENABLE"), "IMAP4rev1", `
		C: a ENABLE CONDSTORE X-GOOD-IDEA
		c: * ENABLED
		c: a OK ENABLE completed.
		C: b ENABLE
		c: b BAD Invalid arguments.
		C: c ENABLE (X)
		c: c BAD Invalid arguments.
		C: d NOOP
		s: d NOOP`)
}

func TestUnselect(t *testing.T) {
	dialogue(t, only("UNSELECT"), "IMAP4rev1", `
		C: a UNSELECT
		c: a BAD No mailbox selected.
		C: b SELECT {5+}
		C: a"\b\
		C: c
		s: % SELECT {5}
		S: +
		s: a"\b\
		s: c
		S: * 3 EXISTS
		S: % OK [READ-WRITE] done
		c: * 3 EXISTS
		c: b OK [READ-WRITE] done
		C: c UNSELECT
		s: % EXAMINE "a\"\\bc"
		S: * 3 EXISTS
		S: * OK [UIDVALIDITY 1] x
		S: % OK [READ-ONLY] done
		s: % CLOSE
		S: % OK done
		c: c OK Unselect completed.
		C: d UNSELECT
		c: d BAD No mailbox selected.
		C: e EXAMINE INBOX
		s: % EXAMINE INBOX
		S: % OK done
		c: e OK done
		C: f UNSELECT
		s: % EXAMINE "INBOX"
		S: % NO it is gone
		c: f OK Unselect completed.
		C: g SELECT INBOX
		s: % SELECT INBOX
		S: % OK done
		c: g OK done
		C: h CLOSE
		s: % CLOSE
		S: % OK done
		c: h OK done
		C: i UNSELECT
		c: i BAD No mailbox selected.
		C: j UNSELECT x
		c: j BAD Invalid arguments.`)
}

// TestRepeated pins that the end of a literal is not taken for that of the command.
func TestRepeated(t *testing.T) {
	dialogue(t, only("UNSELECT"), "IMAP4rev1 LITERAL+", `
		C: a SELECT {2+}
		C:
		C:
		s: % SELECT {2+}
		s:
		s:
		S: % NO no such mailbox
		c: a NO no such mailbox
		C: b NOOP
		s: b NOOP`)
}

func TestIdle(t *testing.T) {
	quiet := only("IDLE")
	quiet.IdleInterval = time.Hour
	dialogue(t, quiet, "IMAP4rev1", `
		C: a IDLE
		s: % NOOP
		S: * 5 EXISTS
		S: % OK done
		c: + idling
		c: * 5 EXISTS
		C: done
		c: a OK Idle completed.
		C: b IDLE
		s: % NOOP
		S: % NO for once
		c: + idling
		C: c LOGOUT
		c: b BAD Expected DONE.
		C: d IDLE now
		c: d BAD Invalid arguments.
		C: e LOGOUT
		s: e LOGOUT
		S: * BYE
		S: e OK done
		c: * BYE
		c: e OK done`)
	dialogue(t, only("IDLE"), "IMAP4rev1", `
		C: a IDLE
		s: % NOOP
		S: % OK done
		c: + idling
		s: % NOOP
		S: * 2 EXPUNGE
		S: % OK done
		c: * 2 EXPUNGE
		s: % NOOP
		C: DONE
		S: % OK done
		c: a OK Idle completed.`)
}

// TestIdleCounts pins that a session in IDLE is idle, and ends as one.
func TestIdleCounts(t *testing.T) {
	cfg := only("IDLE")
	cfg.IdleInterval = time.Hour
	r := rig(t, cfg, "IMAP4rev1")
	_, _ = r.client.Write([]byte("a IDLE\r\n"))
	line := make([]byte, 100)
	n, _ := r.backend.Read(line)
	tag, _, _ := strings.Cut(string(line[:n]), " ")
	_, _ = r.backend.Write([]byte(tag + " OK\r\n"))
	hears(t, "client", r.client, "+ idling\r\n")
	if s := r.State(); !s.Idle {
		t.Errorf("state %+v", s)
	}
	r.Kick("enough", time.Minute)
	hears(t, "client", r.client, "* BYE enough\r\n")
	_, _ = r.client.Close(), r.backend.Close()
	<-r.stats
}

func TestLiterals(t *testing.T) {
	for _, tc := range []struct{ names, caps, want string }{
		{"auto", "IMAP4rev1", "LITERAL+"},
		{"auto", "LITERAL-", ""},
		{"auto", "literal+", ""},
		{"LITERAL-", "", "LITERAL-"},
		{"literal- literal+", "", "LITERAL+"},
		{"LITERAL-", "LITERAL+", ""},
		{"LITERAL+", "LITERAL-", ""},
	} {
		var got []string
		for _, name := range only(strings.Fields(tc.names)...).Offer(strings.Fields(tc.caps)).Capabilities {
			if strings.HasPrefix(name, "LITERAL") {
				got = append(got, name)
			}
		}
		if !slices.Equal(got, strings.Fields(tc.want)) {
			t.Errorf("%s before %s: offered are %q", tc.names, tc.caps, got)
		}
	}
	dialogue(t, only("LITERAL+"), "IMAP4rev1", `
		C: a STATUS {5+}
		C: INBOX (MESSAGES)
		s: a STATUS {5}
		S: + go
		s: INBOX (MESSAGES)`)
}
