//go:build integration

package integration

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// TestTwoClients has one client append and expunge while another sorts, threads and
// searches through us. After each step it is looked at by UID whether the numbers of
// messages were what they have to be.
func TestTwoClients(t *testing.T) {
	seed := envNumber(t, "EXT_SEED", uint64(time.Now().UnixNano()))
	t.Logf("EXT_SEED=%d", seed)
	for n, set := range []twinSettings{
		{capabilities: "IMAP4rev1 UIDPLUS LITERAL+", delim: "/"},
		{capabilities: imaptest.ExchangeCapabilities, delim: "/", odd: true},
		{capabilities: imaptest.BareCapabilities, delim: "/"},
	} {
		t.Run(strings.Fields(set.capabilities)[0]+fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			d := twinsDovecot(t, set, "alice")
			rnd := rand.New(rand.NewPCG(seed, uint64(n)))
			other := &changer{twin: newTwin(t, d, "alice"), rnd: rand.New(rand.NewPCG(seed, uint64(n)+100)), ended: make(chan struct{})}
			other.do("SELECT INBOX")
			for range 60 {
				other.add()
			}
			ours, _, _ := newTwinBehind(t, d, set, diffConfig(), "alice")
			ours.do("SELECT INBOX")
			ours.count()
			stop := make(chan struct{})
			go other.run(stop)
			end := sync.OnceFunc(func() {
				close(stop)
				<-other.ended
			})
			defer end()
			r := &twoRig{t: t, twin: ours, rnd: rnd, statuses: make(map[string]int)}
			for range 200 {
				r.step()
			}
			end()
			if len(other.failed) > 0 {
				t.Errorf("the other client: %q", other.failed)
			}
			if r.statuses["OK"] < 150 || r.expunged < 20 || r.looked < 2000 {
				t.Errorf("too little has happened: answers %v, %d messages expunged, %d places looked at", r.statuses, r.expunged, r.looked)
			}
			figure(t, "answers %v while %d messages were appended and %d expunged", r.statuses, other.appended, r.expunged)
		})
	}
}

// changer is the client that changes the mailbox.
type changer struct {
	*twin
	rnd      *rand.Rand
	appended int
	failed   []string
	ended    chan struct{}
}

// add appends a message. Its subject, sent date, sender and size all have one order, which
// is not that of UIDs.
func (c *changer) add() {
	c.appended++
	rank := c.rnd.IntN(90000) + 10000
	at := time.Unix(1700000000+int64(rank), 0).UTC()
	text := fmt.Sprintf("Subject: s%d\r\nFrom: f%d <f%d@example.org>\r\nDate: %s\r\nMessage-ID: <%d@x>\r\n\r\n%s\r\n", rank, rank, rank, at.Format(time.RFC1123Z), c.appended, strings.Repeat("x", rank%100))
	c.try(fmt.Sprintf("APPEND INBOX \"%s\" {%d+}\r\n%s", at.Format("02-Jan-2006 15:04:05 -0700"), len(text), text))
}

func (c *changer) try(command string) {
	if lines := c.do(command); !strings.HasPrefix(lines[len(lines)-1], "OK") && len(c.failed) < 5 {
		c.failed = append(c.failed, command, lines[len(lines)-1])
	}
}

// run changes the mailbox until it is told to stop.
func (c *changer) run(stop chan struct{}) {
	defer close(c.ended)
	for {
		select {
		case <-stop:
			return
		default:
		}
		if len(c.uids) < 40 || len(c.uids) < 90 && c.rnd.IntN(2) == 0 {
			c.add()
			c.try("NOOP")
			continue
		}
		n := 1 + c.rnd.IntN(len(c.uids))
		c.try(fmt.Sprintf("STORE %d +FLAGS.SILENT (\\Deleted)", n))
		c.try("EXPUNGE")
	}
}

// twoRig is the client that has us between itself and the server.
type twoRig struct {
	t *testing.T
	*twin
	rnd      *rand.Rand
	statuses map[string]int
	expunged int
	// looked is how many places of messages were looked at.
	looked int
}

func (r *twoRig) pick(texts ...string) string { return texts[r.rnd.IntN(len(texts))] }

// step has something put in order, and looks at what came of it.
func (r *twoRig) step() {
	r.t.Helper()
	before := slices.Clone(r.uids)
	byUID := r.rnd.IntN(3) == 0
	key := r.pick("SUBJECT", "DATE", "ARRIVAL", "FROM", "DISPLAYFROM")
	command := r.pick("SORT ("+key+") UTF-8 ALL", "SORT ("+key+" SIZE) UTF-8 NOT SUBJECT none", "THREAD ORDEREDSUBJECT UTF-8 ALL", "THREAD REFERENCES UTF-8 ALL", "THREAD REFS UTF-8 OR ALL SEEN", "SORT RETURN (ALL) ("+key+") UTF-8 YOUNGER 999999999")
	if byUID {
		command = "UID " + command
	}
	lines := r.do(command)
	status, text, _ := strings.Cut(lines[len(lines)-1], " ")
	r.statuses[status]++
	if status != "OK" && !strings.HasPrefix(text, "[EXPUNGEISSUED]") {
		r.t.Fatalf("%s: %q", command, lines[len(lines)-1])
	}
	answer := canonical(command, lines)
	check := r.check(command, byUID, answer["SORT"]+answer["THREAD"]+strings.TrimPrefix(answer["ESEARCH"], "UID; "))
	r.count()
	check()
	for _, uid := range before {
		if uid != 0 && !slices.Contains(r.uids, uid) {
			r.expunged++
		}
	}
	for _, odd := range r.odd {
		r.t.Errorf("%s: %s", command, odd)
	}
	if r.odd = nil; r.t.Failed() {
		r.t.FailNow()
	}
}

// check asks for the subjects of what was put in order, by the numbers or UIDs it was named
// by. What it returns looks whether they are in order, once it is known what has gone:
// Dovecot may still tell subjects of that, and nothing else.
func (r *twoRig) check(command string, byUID bool, answer string) func() {
	r.t.Helper()
	named := strings.FieldsFunc(answer, notDigit)
	if len(named) == 0 {
		return func() {}
	}
	fetch := "FETCH "
	if byUID {
		fetch = "UID FETCH "
	}
	type place struct {
		rank int
		uid  uint32
	}
	places := make(map[string]place)
	for _, line := range r.do(fetch + strings.Join(named, ",") + " (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])") {
		m := numbered.FindStringSubmatch(line)
		if m == nil || m[2] != "FETCH" {
			continue
		}
		at, uid := strings.Index(line, "Subject: s"), uidItem.FindStringSubmatch(line)
		if at < 0 || uid == nil {
			continue // news of its flags
		}
		name := m[1]
		if byUID {
			name = uid[1]
		}
		rank, _ := strconv.Atoi(line[at+10 : at+15])
		n, _ := strconv.ParseUint(uid[1], 10, 32)
		places[name] = place{rank, uint32(n)}
	}
	return func() {
		r.t.Helper()
		last := 0
		for _, name := range named {
			at, there := places[name]
			if !there || !slices.Contains(r.uids, at.uid) {
				continue
			}
			if at.rank < last {
				r.t.Fatalf("%s: %s is not in its place: %s\nplaces %v", command, name, answer, places)
			}
			last = at.rank
			r.looked++
		}
	}
}
