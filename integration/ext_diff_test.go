//go:build integration

package integration

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapext"
	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// diffRounds are the servers before which we are compared with Dovecot.
var diffRounds = []twinSettings{
	{capabilities: "IMAP4rev1 UIDPLUS LITERAL+", delim: "/", layout: ":LAYOUT=fs"},
	{capabilities: imaptest.ExchangeCapabilities, delim: "/", layout: ":LAYOUT=fs", odd: true},
	{capabilities: imaptest.BareCapabilities, delim: "."},
	{capabilities: "IMAP4rev1 UIDPLUS", delim: ".", odd: true},
}

// diffRoundPrograms is how many programs there are for one mailbox.
const diffRoundPrograms = 125

// TestExtensionsAsDovecot has random programs of commands carried out by a Dovecot, and
// by us before a poor server that hands to the same Dovecot what it knows, each on its
// own copy of the same mailboxes. The answers are the same, but for the reasons in
// diffReasons.
//
// EXT_PROGRAMS is how many programs there are, EXT_MESSAGES how many messages, EXT_SEED
// repeats a run, and EXT_ROUND just one part of it. With EXT_NATIVE=1 there is Dovecot on
// both sides.
func TestExtensionsAsDovecot(t *testing.T) {
	seed := envNumber(t, "EXT_SEED", uint64(time.Now().UnixNano()))
	programs := int(envNumber(t, "EXT_PROGRAMS", 500))
	messages := int(envNumber(t, "EXT_MESSAGES", 160))
	only := envNumber(t, "EXT_ROUND", 1<<32)
	t.Logf("EXT_SEED=%d EXT_PROGRAMS=%d EXT_MESSAGES=%d", seed, programs, messages)
	for n := range (programs + diffRoundPrograms - 1) / diffRoundPrograms {
		if only != 1<<32 && int(only) != n {
			continue
		}
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			t.Parallel()
			r := newDiffRig(t, diffRounds[n%len(diffRounds)], rand.New(rand.NewPCG(seed, uint64(n))), messages)
			for range min(diffRoundPrograms, programs-n*diffRoundPrograms) {
				r.program()
			}
			figure(t, "%d commands, answered %v; %d refused by the server behind us", r.commands, r.answers, r.refused())
			for why, n := range r.reasons {
				figure(t, "%d answers differ: %s", n, why)
			}
		})
	}
}

// diffRig is two clients that do the same with two copies of the same mailboxes.
type diffRig struct {
	t            *testing.T
	d            *dovecot
	direct, ours *twin
	*diffMaker
	poor *imaptest.Poor

	commands, bad    int
	answers, reasons map[string]int
	history          []string
}

func newDiffRig(t *testing.T, set twinSettings, rnd *rand.Rand, messages int) *diffRig {
	d := twinsDovecot(t, set, "direct", "ours", "fresh")
	filler := newTwin(t, d, "direct")
	lists := &listRig{t: t, delim: set.delim, rnd: rnd, direct: filler.wire}
	lists.fill()
	m := &diffMaker{oddMail: &oddMail{rnd}, lists: lists, start: time.Now()}
	m.fill(filler, messages)
	filler.do("LOGOUT")
	copyHome(t, d, "direct", "ours")
	r := &diffRig{t: t, d: d, diffMaker: m, answers: make(map[string]int), reasons: make(map[string]int)}
	r.direct = newTwin(t, d, "direct")
	if os.Getenv("EXT_NATIVE") == "1" {
		r.ours = newTwin(t, d, "ours")
		m.offers = imapext.Known()
		return r
	}
	r.ours, m.offers, r.poor = newTwinBehind(t, d, set, diffConfig(), "ours")
	return r
}

func diffConfig() *imapext.Config {
	return &imapext.Config{Names: imapext.Known(), Cache: imapext.NewCache(16 << 20)}
}

// canonical is an answer in one form, without what a server behind us cannot know.
func (r *diffRig) canonical(command string, lines []string) map[string]string {
	answer := canonical(command, lines)
	if !r.has("UIDPLUS") && os.Getenv("EXT_NATIVE") == "" {
		delete(answer, "COPYUID")
		delete(answer, "APPENDUID")
	}
	return answer
}

func (r *diffRig) refused() int {
	if r.poor == nil {
		return 0
	}
	if os.Getenv("EXT_REFUSED") == "1" {
		for _, command := range r.poor.Refused() {
			r.t.Logf("refused: %.300q", command)
		}
	}
	return len(r.poor.Refused())
}

// program carries out one program.
func (r *diffRig) program() {
	r.history = nil
	r.step(r.selecting())
	for range 3 + r.IntN(5) {
		r.step(r.diffMaker.step())
	}
}

// step carries out one command on both sides.
func (r *diffRig) step(s *diffStep) {
	r.t.Helper()
	command := s.command()
	r.commands++
	r.history = append(r.history, command)
	if os.Getenv("EXT_SHOW") == "1" {
		r.t.Logf("%.300q", command)
	}
	dovecot, ours := r.direct.do(command), r.ours.do(command)
	a, b := r.canonical(command, dovecot), r.canonical(command, ours)
	r.answers[b["status"]]++
	same := maps.Equal(a, b)
	if !same && s.key != nil && b["status"] == "OK" {
		a, same = r.again(s, a, b)
	}
	if !same && b["code"] == "LIMIT" && a["status"] == "OK" {
		r.reasons[whyLimit.why]++
		if strings.Contains(command, "SAVE") {
			r.direct.do("SEARCH RETURN (SAVE) UNDELETED DELETED")
		}
		same = true
	}
	for _, reason := range diffReasons {
		if same {
			break
		}
		before := fmt.Sprint(a, b)
		reason.apply(command, a, b)
		if fmt.Sprint(a, b) != before {
			r.reasons[reason.why]++
		}
		same = maps.Equal(a, b)
	}
	if !same {
		r.t.Errorf("%s\nDovecot:\n %s\nours, of %d: %s\n %s\nprogram:\n %s\n%s", command, differing(a, b), len(r.ours.uids), ours[len(ours)-1], differing(b, a), strings.Join(r.history, "\n "), r.messages(command, a, b))
		if r.bad++; r.bad == 5 {
			r.t.FailNow()
		}
	}
	if s.changes {
		r.sync()
	}
}

// again asks Dovecot in other ways for what a search program finds, and for its order, and
// returns what it says.
func (r *diffRig) again(s *diffStep, a, b map[string]string) (_ map[string]string, same bool) {
	r.t.Helper()
	for _, way := range []struct {
		twin  func() *twin
		whole bool
		why   *diffReason
	}{{func() *twin { return r.direct }, false, whyKeys}, {r.fresh, false, whyMemory}, {r.fresh, true, whyAddresses}} {
		w := way.twin()
		asked := s.with(asked(s.key, func(key string) []string {
			if strings.Contains(key, "$") {
				return r.direct.do("UID SEARCH " + key)
			}
			if way.whole && !isASCII(key) {
				key = addressKey.ReplaceAllString(key, "HEADER $1 ")
			}
			return w.do("UID SEARCH CHARSET UTF-8 " + key)
		}))
		a = r.canonical(asked, w.do(asked))
		why := way.why
		if a["THREAD"] != b["THREAD"] && strings.Contains(s.text, " REFS ") && r.sameRefs(s.text, a["THREAD"], b["THREAD"]) {
			a["THREAD"], why = b["THREAD"], whyTies
		}
		if maps.Equal(a, b) {
			r.reasons[why.why]++
			if strings.Contains(s.text, "SAVE") {
				r.direct.do(asked)
			}
			return b, true
		}
	}
	return a, false
}

// sameRefs says whether threads are the same, and differ only in the order of those whose
// latest messages are of the same second.
func (r *diffRig) sameRefs(command, a, b string) bool {
	x, y := threadsOf(a), threadsOf(b)
	byDate := func(order string) []string {
		command := strings.Replace(command, "THREAD REFS", "SORT ("+order+")", 1) + "ALL"
		return strings.Fields(r.canonical(command, r.direct.do(command))["SORT"])
	}
	// Those of one second are in the order of their numbers in both.
	up, down := byDate("DATE"), byDate("REVERSE DATE")
	rank, at := make(map[string]int), make(map[string]int)
	for i, n := range down {
		at[n] = i
	}
	for i, n := range up {
		rank[n] = i
		if i > 0 && at[up[i-1]] < at[n] {
			rank[n] = rank[up[i-1]]
		}
	}
	latest := func(thread string) int {
		out := -1
		for _, n := range strings.FieldsFunc(thread, notDigit) {
			out = max(out, rank[n])
		}
		return out
	}
	for _, threads := range [][]string{x, y} {
		if !slices.IsSortedFunc(threads, func(a, b string) int { return latest(a) - latest(b) }) {
			return false
		}
		slices.Sort(threads)
	}
	return slices.Equal(x, y)
}

// threadsOf takes the answer to THREAD apart.
func threadsOf(text string) (threads []string) {
	depth, begin := 0, 0
	for i, c := range text {
		switch c {
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				threads = append(threads, text[begin:i+1])
				begin = i + 1
			}
		}
	}
	return threads
}

// fresh returns a client of a Dovecot that has the same messages and remembers nothing.
func (r *diffRig) fresh() *twin {
	r.t.Helper()
	home := filepath.Join(r.d.dir, "home", "fresh")
	if err := os.RemoveAll(home); err != nil {
		r.t.Fatal(err)
	}
	copyHome(r.t, r.d, "direct", "fresh")
	if err := filepath.WalkDir(home, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasPrefix(filepath.Base(path), "dovecot.index") {
			err = os.Remove(path)
		}
		return err
	}); err != nil {
		r.t.Fatal(err)
	}
	w := newTwin(r.t, r.d, "fresh")
	w.do("EXAMINE " + r.box)
	return w
}

// messages returns the first messages that are in different places.
func (r *diffRig) messages(command string, dovecot, ours map[string]string) string {
	for _, key := range []string{"SORT", "THREAD", "SEARCH", "ESEARCH"} {
		set := moved(strings.FieldsFunc(dovecot[key], notDigit), strings.FieldsFunc(ours[key], notDigit))
		if len(set) == 0 {
			continue
		}
		fetch := "FETCH "
		if strings.HasPrefix(command, "UID ") {
			fetch = "UID FETCH "
		}
		return strings.Join(r.direct.do(fetch+strings.Join(set[:min(len(set), 4)], ",")+" (INTERNALDATE RFC822.SIZE FLAGS BODY.PEEK[])"), "\n ")
	}
	return ""
}

// moved returns those of a that have to be put elsewhere to get b: all but a longest
// common subsequence.
func moved(a, b []string) (out []string) {
	length := make([][]int, len(a)+1)
	for i := range length {
		length[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			length[i][j] = max(length[i+1][j], length[i][j+1])
			if a[i] == b[j] {
				length[i][j] = length[i+1][j+1] + 1
			}
		}
	}
	i, j := 0, 0
	for i < len(a) && j < len(b) {
		switch {
		case a[i] == b[j]:
			i, j = i+1, j+1
		case length[i+1][j] >= length[i][j+1]:
			out = append(out, a[i])
			i++
		default:
			out = append(out, b[j])
			j++
		}
	}
	return append(append(out, a[i:]...), b[j:]...)
}

// differing returns what one answer has and the other has not, from shortly before the place
// where they part.
func differing(a, b map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(a)) {
		other, there := b[key]
		if there && other == a[key] {
			continue
		}
		same := 0
		for same < min(len(a[key]), len(other)) && a[key][same] == other[same] {
			same++
		}
		from := max(0, same-200)
		out = append(out, fmt.Sprintf("%s, from %d: %.1500q", key, from, a[key][from:]))
	}
	return strings.Join(out, "\n ")
}

// sync compares what both sides have in their mailboxes after a change.
func (r *diffRig) sync() {
	r.t.Helper()
	r.direct.do("NOOP")
	r.ours.do("NOOP")
	a, b := r.direct.count(), r.ours.count()
	for _, w := range []*twin{r.direct, r.ours} {
		for _, odd := range w.odd {
			r.t.Errorf("numbers: %s", odd)
		}
		w.odd = nil
	}
	if !slices.Equal(a, b) || !slices.Equal(r.direct.uids, r.ours.uids) {
		r.t.Fatalf("the mailboxes differ after\n %s\nDovecot: %v\nours:    %v", strings.Join(r.history, "\n "), a, b)
	}
	r.uids = r.direct.uids
}
