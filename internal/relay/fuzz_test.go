package relay

import (
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// This is a second opinion on framing: it has all bytes at once and goes by
// regular expressions, a line at a time. Nothing in it is shared with the scanners.

var (
	loneCR      = regexp.MustCompile(`\r[^\r\n]`)
	inBraces    = regexp.MustCompile(`(~?)\{([^{}]*)\}([ \t]*)\r*\n$`)
	followsAt   = regexp.MustCompile(`\{[0-9]+\+\}\r?\n$`)
	digitsPlus  = regexp.MustCompile(`^[0-9]+\+?$`)
	wellQuoted  = regexp.MustCompile(`(?s)^[^"]*$|^(?:[^"]*[ (])"Q"(?:(?: |[ )\]>][^"]*[ (])"Q")*(?:[ )\]>][^"]*)?$`)
	idleEnd     = regexp.MustCompile(`^(?i:DONE)[ \r]*\n`)
	idleEndPart = regexp.MustCompile(`^(?i:D|DO|DON|DONE[ \r]*)?$`)
)

func init() {
	wellQuoted = regexp.MustCompile(strings.ReplaceAll(wellQuoted.String(), "Q", `(?:[^"\\]|\\["\\])*`))
}

// judged is what should become of what a client has said.
type judged struct {
	out, answers string
	fault        bool
}

type judge struct {
	judged
	in, script string
	strict     bool
}

func (j *judge) ask() byte {
	how := byte('+')
	if j.script != "" {
		how, j.script = j.script[0], j.script[1:]
	}
	return how
}

func (j *judge) take(n int) string {
	n = min(n, len(j.in))
	taken := j.in[:n]
	j.in = j.in[n:]
	return taken
}

func judgeCommands(in, script string, strict bool) judged {
	j := &judge{in: in, script: script, strict: strict}
	for j.in != "" && !j.fault {
		j.command()
	}
	return j.judged
}

func (j *judge) command() {
	isBreak := func(r rune) bool { return r <= ' ' }
	line := j.in
	if i := strings.IndexByte(line, '\n'); i >= 0 {
		line = line[:i+1]
	}
	// Bytes, not runes: everything above a space is part of a word.
	body := strings.TrimLeftFunc(strings.TrimSuffix(line, "\n"), isBreak)
	tag, _, _ := strings.Cut(strings.Map(func(r rune) rune {
		if r <= ' ' {
			return ' '
		}
		return r
	}, latin1(body)), " ")
	rest := latin1(body)[len(tag):]
	name := strings.TrimLeftFunc(rest, isBreak)
	at := len(strings.TrimSuffix(line, "\n")) - len([]rune(name))
	if i := strings.IndexFunc(name, isBreak); i >= 0 {
		name = name[:i]
	}
	ended := strings.HasSuffix(line, "\n") || at+len([]rune(name)) < len(line)
	if len([]rune(tag)) > 64 || at > 112 {
		j.fault = true
		return
	}
	if !ended && len([]rune(name)) <= 16 {
		j.out += j.take(len(line))
		return
	}
	verb := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' {
			r -= 32
		}
		return r
	}, name)
	answer := map[string]string{"STARTTLS": badTLS, "UNAUTHENTICATE": badUnauth, "LOGIN": badLogin, "AUTHENTICATE": badLogin}[verb]
	if verb == "COMPRESS" && j.strict {
		answer = noDeflate
	}
	valid := regexp.MustCompile(`^[^\x00-\x20\x7f-\x{ff}(){%*"\\+]+$`).MatchString(tag)
	j.lines(verb, tag, answer, valid, name != "")
}

// latin1 makes a rune of each byte.
func latin1(s string) string {
	r := make([]rune, len(s))
	for i := range len(s) {
		r[i] = rune(s[i])
	}
	return string(r)
}

func (j *judge) lines(verb, tag, answer string, valid, named bool) {
	drop := answer != ""
	pass := func(s string) {
		if !drop {
			j.out += s
		}
	}
	for {
		end := strings.IndexByte(j.in, '\n') + 1
		line := j.in[:end]
		if end == 0 {
			line = j.in
		}
		if m := loneCR.FindStringIndex(line); m != nil {
			pass(line[:m[0]+1])
			j.fault = true
			return
		}
		j.take(len(line))
		if end == 0 {
			pass(line)
			return
		}
		m := inBraces.FindStringSubmatchIndex(line)
		if m == nil {
			pass(line)
			if drop && answer != "" {
				if !valid {
					tag = "*"
				}
				j.answers += tag + answer
				return
			}
			if drop {
				return
			}
			j.finish(verb, valid && named, line)
			return
		}
		prefix, inner := line[:m[0]], line[m[4]:m[5]]
		size, err := strconv.ParseUint(strings.TrimSuffix(inner, "+"), 10, 31)
		canonical := digitsPlus.MatchString(inner) && m[6] == m[7]
		follows := strings.Contains(inner, "+")
		odd := strings.ContainsRune(line, 0) || strings.HasSuffix(line, "\r\r\n") || !wellQuoted.MatchString(latin1(prefix))
		placed := strings.HasSuffix(prefix, " ") || strings.HasSuffix(prefix, "(")
		asked := !follows
		if j.strict && !drop && followsAt.MatchString(line) {
			line = line[:m[5]-1] + line[m[5]:]
			asked = true
		}
		switch {
		case follows && !(canonical && placed && !odd && err == nil):
			pass(strings.TrimSuffix(line, "\n"))
			j.fault = true
			return
		case drop && !follows:
			if answer != "" {
				if !valid {
					tag = "*"
				}
				j.answers += tag + answer
			}
			return
		case !drop && asked && !(valid && named):
			pass(strings.TrimSuffix(line, "\n"))
			j.fault = true
			return
		}
		pass(line)
		if !drop && asked {
			switch j.ask() {
			case '+':
				if !canonical || err != nil {
					j.fault = true
					return
				}
			default:
				if !follows {
					return
				}
				drop = true
			}
		}
		pass(j.take(int(size)))
		if j.in == "" {
			return
		}
	}
}

// finish is behind the last line of a command.
func (j *judge) finish(verb string, counts bool, line string) {
	if verb != "IDLE" && verb != "COMPRESS" {
		return
	}
	if !counts {
		j.out = strings.TrimSuffix(j.out, "\n")
		j.fault = true
		return
	}
	how := j.ask()
	switch {
	case verb == "COMPRESS" && how == 'o':
		j.out += j.take(len(j.in))
	case verb == "IDLE" && how == '+':
		if end := idleEnd.FindString(j.in); end != "" && len(end) <= 16 {
			j.out += j.take(len(end))
		} else if len(j.in) < 16 && idleEndPart.MatchString(j.in) {
			j.out += j.take(len(j.in))
		} else {
			j.fault = true
		}
	}
}

// cut feeds s in pieces whose sizes come from a seed.
func cut(s string, seed uint64, feed func(string) bool) {
	rnd := rand.New(rand.NewPCG(seed, 1))
	for s != "" {
		n := min(1+rnd.IntN(1<<rnd.IntN(9)), len(s))
		if !feed(s[:n]) {
			return
		}
		s = s[n:]
	}
}

func FuzzCommands(f *testing.F) {
	for _, in := range []string{
		"a NOOP\r\nb SELECT {5+}\r\nINBOX\r\nc APPEND x ~{3}\r\nabc\r\nd STARTTLS {2+}\r\nxx y\r\n",
		"a IDLE\r\nDONE\r\nb unauthenticate\r\nc COMPRESS DEFLATE\r\nd LOGIN\r\n",
		"a LIST \"\\\"\" (\"x\" {1+}\r\ny {2}\r\nzz) x{3}\r\n \r\nb SEARCH \"{3+}\r\n",
		"a \"x\"\"y\" {1+}\r\na\rb {1+} \r\n{5}\r\n", "a NOOP {18+}\r\nb UNAUTHENTICATE\r\n {3+}\r\nxyz\r\n",
	} {
		f.Add(in, "+n+o", uint64(1), false)
		f.Add(in, "n", uint64(2), true)
	}
	f.Fuzz(func(t *testing.T, in, script string, seed uint64, strict bool) {
		want := judgeCommands(in, script, strict)
		b, ok := newScripted(script, strict), true
		cut(in, seed, func(piece string) bool {
			ok = b.feed(piece)
			return ok
		})
		out := b.out.String()
		if ok {
			out += b.held
		}
		if answers := strings.Join(b.answers, ""); out != want.out || answers != want.answers || ok == want.fault {
			t.Errorf("%q, answered by %q, strict %v:\ngot  %q, answers %q, fault %q\nwant %q, answers %q, fault %v",
				in, script, strict, out, answers, b.scan.fault, want.out, want.answers, want.fault)
		}
	})
}

var (
	statusLine = regexp.MustCompile(`^(?i:\* (?:OK|NO|BAD|BYE|PREAUTH)|[^*+\r\n \[][^ \r\n]{0,63} (?:OK|NO|BAD))[ \r\n\]]`)
	capsLine   = regexp.MustCompile(`^(?i:\* CAPABILITY|(?:\* (?:OK|NO|BAD|BYE|PREAUTH)|[^*+\r\n \[][^ \r\n]{0,63} (?:OK|NO|BAD)) \[CAPABILITY)((?: [^ \r\n\]]*)*)(?:[\r\n\]]|$)`)
	dataLine   = regexp.MustCompile(`^\* (?:[^ \r\n\]0-9][^ \r\n\]]{0,9})?`)
	sizeAtEnd  = regexp.MustCompile(`\{([0-9]{1,19})\}\r?\n$`)
	unwanted   = regexp.MustCompile(`(?i) UNAUTHENTICATE( |$)`)
)

// judgeResponses returns what should reach the client, and the boundaries in it.
func judgeResponses(in string) (out string, at []int) {
	for in != "" {
		n := strings.IndexByte(in, '\n') + 1
		if n == 0 {
			return out + filtered(in, true), at
		}
		line := in[:n]
		in = in[n:]
		out += filtered(line, false)
		if name := dataLine.FindString(latin1(line)); name != "" && !statusLine.MatchString(latin1(line)) && capsLine.FindString(line) == "" {
			lit := sizeAtEnd.FindStringSubmatch(line[min(len(line), len([]rune(name))):])
			for lit != nil {
				size, err := strconv.ParseInt(lit[1], 10, 64)
				if err != nil {
					break
				}
				size = min(size, int64(len(in)))
				out += in[:size]
				in = in[size:]
				if n = strings.IndexByte(in, '\n') + 1; n == 0 {
					return out + in, at
				}
				lit = sizeAtEnd.FindStringSubmatch(in[:n])
				out += in[:n]
				in = in[n:]
			}
		}
		at = append(at, len(out))
	}
	return out, at
}

func filtered(line string, cutOff bool) string {
	m := capsLine.FindStringSubmatchIndex(line)
	if m == nil || m[2] == m[3] {
		return line
	}
	list, rest := line[m[2]:m[3]], line[m[3]:]
	last := ""
	if cutOff && rest == "" {
		i := strings.LastIndexByte(list, ' ')
		list, last = list[:i], list[i:]
	}
	for unwanted.MatchString(list) {
		list = unwanted.ReplaceAllString(list, "$1")
	}
	return line[:m[2]] + list + last + rest
}

func FuzzResponses(f *testing.F) {
	for _, in := range []string{
		"* 1 FETCH (BODY[] {5}\r\n\r\n* x {3}\r\nabc)\r\na OK [CAPABILITY UNAUTHENTICATE X] {5}\r\n",
		"* CAPABILITY UNAUTHENTICATE UNAUTHENTICATE IMAP4rev1 unauthenticate\r\n* BYE {3}\r\n+ {2}\r\n[COPYUID 1 {3}\r\n",
		"* OK [CAPABILITY\r\n* CAPABILITY] UNAUTHENTICATE\r\n* 1 {99999999999999999999}\r\n* A {1}\nx",
	} {
		f.Add(in, uint64(1))
	}
	f.Fuzz(func(t *testing.T, in string, seed uint64) {
		want, wantAt := judgeResponses(in)
		h := newHeard()
		cut(in, seed, func(piece string) bool {
			h.feed(piece)
			return true
		})
		if got := h.out.String() + h.held; got != want {
			t.Fatalf("%q:\ngot  %q\nwant %q", in, got, want)
		}
		if len(h.at) != len(wantAt) {
			t.Fatalf("%q: boundaries %v, want %v", in, h.at, wantAt)
		}
		for i := range wantAt {
			if h.at[i] != wantAt[i] {
				t.Fatalf("%q: boundaries %v, want %v", in, h.at, wantAt)
			}
		}
	})
}
