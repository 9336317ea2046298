package imapext

import "testing"

// TestMendCopied has a backend say COPYUID as Exchange does.
func TestMendCopied(t *testing.T) {
	dialogue(t, &Config{Names: []string{Auto}}, "IMAP4rev1 UIDPLUS MOVE UNSELECT CLIENTNETWORKPRESENCELOCATION LITERAL+", selectInbox+`
		C: a UID MOVE 31 {5+}
		C: a"\bc
		s: % UID MOVE 31 {5+}
		s: a"\bc
		S: [COPYUID 55 31 6]
		S: * 1 EXPUNGE
		S: % OK MOVE completed.
		c: * OK [COPYUID 55 31 6] Moved.
		c: * 1 EXPUNGE
		c: a OK MOVE completed.
		C: b MOVE 2 x
		s: % MOVE 2 x
		S: * OK [COPYUID 55 32 7] Moved.
		S: % NO not all
		c: * OK [COPYUID 55 32 7] Moved.
		c: b NO not all`)
	// Elsewhere it passes, unless that is asked for; and where it is turned off.
	passes := `
		C: a MOVE 31 x
		s: a MOVE 31 x
		S: [COPYUID 55 31 6]
		S: a OK MOVE completed.
		c: [COPYUID 55 31 6]
		c: a OK MOVE completed.`
	dialogue(t, &Config{Names: []string{Auto}}, "IMAP4rev1 UIDPLUS MOVE LITERAL+", passes)
	dialogue(t, &Config{Names: []string{Auto}, MendCopyUID: SwitchOff}, exchange, passes)
	dialogue(t, &Config{Names: []string{"IDLE"}, MendCopyUID: SwitchOn}, "IMAP4rev1 UIDPLUS MOVE LITERAL+", `
		C: a MOVE 31 x
		s: % MOVE 31 x
		S: [COPYUID 55 31 6]
		S: % OK MOVE completed.
		c: * OK [COPYUID 55 31 6] Moved.
		c: a OK MOVE completed.`)
}
