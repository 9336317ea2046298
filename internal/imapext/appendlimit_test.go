package imapext

import (
	"slices"
	"strings"
	"testing"
)

func TestAppendLimit(t *testing.T) {
	cfg := only("APPENDLIMIT")
	cfg.AppendLimit = 8
	dialogue(t, cfg, uidplus, `
		C: a APPEND saved {9}
		c: a NO [TOOBIG] A message can have 8 bytes at most.
		C: b APPEND saved {9+}
		C: x NOOP
		C: 1
		c: b NO [TOOBIG] A message can have 8 bytes at most.
		C: c APPEND saved (\Seen) {8}
		s: c APPEND saved (\Seen) {8}
		S: + go
		c: + go
		C: 12345678
		s: 12345678
		S: c OK done
		c: c OK done
		C: d APPEND {5+}
		C: saved {9}
		c: d NO [TOOBIG] A message can have 8 bytes at most.
		C: e APPEND {5+}
		C: saved {1+}
		C: a
		s: % APPEND "saved" {1+}
		s: a
		S: % OK done
		c: e OK done`)
	cfg = only("APPENDLIMIT", "MULTIAPPEND", "REPLACE")
	cfg.AppendLimit = 8
	dialogue(t, cfg, uidplus, selectInbox+`
		C: a APPEND INBOX {1+}
		C: x {9}
		s: % APPEND "INBOX" {1+}
		s: x
		S: % OK [APPENDUID 1 2] done
		s: % UID STORE 2 +FLAGS.SILENT (\Deleted)
		S: % OK done
		s: % UID EXPUNGE 2
		S: % OK done
		c: a NO [TOOBIG] A message can have 8 bytes at most.
		C: b REPLACE 1 INBOX {9}
		c: b NO [TOOBIG] A message can have 8 bytes at most.`)
	for native, want := range map[string]bool{"": true, "APPENDLIMIT": false, "appendlimit=99": false} {
		if got := cfg.Offer(strings.Fields(native)).Capabilities; slices.Contains(got, "APPENDLIMIT=8") != want {
			t.Errorf("before %q: %q", native, got)
		}
	}
	if o := only("auto").Offer(nil); slices.ContainsFunc(o.Capabilities, func(c string) bool { return strings.HasPrefix(c, "APPENDLIMIT") }) {
		t.Error("it is offered without a limit")
	}
}

// TestAppendLimitStatus has STATUS tell the limit (RFC 7889 section 3.1).
func TestAppendLimitStatus(t *testing.T) {
	cfg := only("APPENDLIMIT")
	cfg.AppendLimit = 8
	dialogue(t, cfg, "LIST-EXTENDED LIST-STATUS CHILDREN OBJECTID", `
		C: a STATUS saved (APPENDLIMIT)
		s: % STATUS "saved" (UIDVALIDITY)
		S: * STATUS saved (UIDVALIDITY 5)
		S: % OK done
		c: * STATUS saved (APPENDLIMIT 8)
		c: a OK STATUS completed.
		C: b STATUS saved (MAILBOXID APPENDLIMIT MESSAGES)
		s: % STATUS "saved" (MAILBOXID MESSAGES)
		S: * STATUS sa(ved (MAILBOXID (M5) MESSAGES 3) 
		S: % OK done
		c: * STATUS saved (MAILBOXID (M5) MESSAGES 3 APPENDLIMIT 8)
		c: b OK STATUS completed.
		C: c STATUS gone (APPENDLIMIT)
		s: % STATUS "gone" (UIDVALIDITY)
		S: % NO [NONEXISTENT] STATUS: what?
		c: c NO [NONEXISTENT] The mail server cannot do that now.
		C: d STATUS saved (MESSAGES)
		s: d STATUS saved (MESSAGES)
		S: d OK done
		c: d OK done
		C: e LIST "" saved RETURN (STATUS (APPENDLIMIT))
		s: % LIST "" "saved"
		S: * LIST () "/" saved
		S: % OK done
		s: % STATUS "saved" (UIDVALIDITY)
		S: * STATUS saved (UIDVALIDITY 5)
		S: % OK done
		c: * LIST () "/" saved
		c: * STATUS saved (APPENDLIMIT 8)
		c: e OK LIST completed.
		C: f LIST "" saved RETURN (STATUS (MESSAGES))
		s: f LIST "" saved RETURN (STATUS (MESSAGES))
		S: f OK done
		c: f OK done`)
}
