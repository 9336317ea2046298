package dovecotauth

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// escape is the inverse of unescape.
var escape = strings.NewReplacer("\x01", "\x011", "\x00", "\x010", "\t", "\x01t", "\r", "\x01r", "\n", "\x01n")

func FuzzUnescape(f *testing.F) {
	f.Add("alice", "a\tb\x01\x00\r\n")
	f.Add("a\x01", "\x01x")
	f.Fuzz(func(t *testing.T, wire, text string) {
		if got := unescape(escape.Replace(text)); got != text {
			t.Errorf("%q became %q", text, got)
		}
		if got := unescape(wire); len(got) > len(wire) {
			t.Errorf("%q grew to %q", wire, got)
		}
	})
}

// readOnly is a connection of which lineReader needs no more than Read.
type readOnly struct {
	net.Conn
	io.Reader
}

func (r readOnly) Read(b []byte) (int, error)    { return r.Reader.Read(b) }
func (readOnly) SetReadDeadline(time.Time) error { return nil }

// FuzzLines compares the reader of lines with the plainest one there is.
func FuzzLines(f *testing.F) {
	f.Add([]byte("VERSION\t1\t0\r\nCPID\t1\n\nAUTH"), false)
	f.Add(append(bytes.Repeat([]byte("x"), maxMasterLine-1), "\nUSER\n"...), true)
	f.Add(append(bytes.Repeat([]byte("x"), maxMasterLine), "\nUSER\n"...), true)
	f.Fuzz(func(t *testing.T, input []byte, slow bool) {
		var source io.Reader = bytes.NewReader(input)
		if slow {
			source = iotest.OneByteReader(source)
		}
		l := newLineReader(readOnly{Reader: source}, maxMasterLine)
		l.patient = true
		plain := bufio.NewReaderSize(bytes.NewReader(input), len(input)+1)
		for {
			want, wantErr := plain.ReadString('\n')
			got, err := l.next()
			switch {
			case len(want) > maxMasterLine || wantErr != nil && len(want) == maxMasterLine:
				if !errors.Is(err, ErrProtocol) {
					t.Fatalf("line of %d bytes: %v", len(want), err)
				}
				return
			case wantErr != nil:
				if err == nil || !ended(err) {
					t.Fatalf("error %v at the end", err)
				}
				return
			case err != nil:
				t.Fatalf("line of %d bytes: %v", len(want), err)
			}
			if want = strings.TrimSuffix(strings.TrimSuffix(want, "\n"), "\r"); got != want {
				t.Fatalf("line %q, want %q", got, want)
			}
		}
	})
}

// moody is a Checker that answers each user in his own way, at his own time.
func moody(ctx context.Context, a *login.Attempt) login.Verdict {
	for _, c := range a.User {
		switch c {
		case 's': // slow
			select {
			case <-time.After(3 * time.Second):
			case <-ctx.Done():
				return login.UnavailableFor(ctx.Err())
			}
		case 'h': // hangs
			time.Sleep(DefaultDeadline + time.Second)
		case 'd':
			return login.DeniedWith(imap.ResponseCodeExpired)
		case 'u':
			return login.Verdict{}
		case 'p':
			panic("a panic")
		}
	}
	return login.Verdict{Result: login.Granted}
}

// replyLine is what a server may say after the greeting.
var replyLine = regexp.MustCompile(`^(?:` +
	`(OK)\t([1-9][0-9]{0,9})\tuser=[^\t ]+(?:\tresp=[A-Za-z0-9+/]+=*)?|` +
	`(CONT)\t([1-9][0-9]{0,9})\t([A-Za-z0-9+/]*=*)|` +
	`(FAIL)\t([1-9][0-9]{0,9})(?:\ttemp|\t(?:user|original_user|code|reason)=[^\t]*)*` +
	`)$`)

// FuzzConversation lets a client say anything in each state of a connection. The
// server must not panic, must write only lines that are well-formed, and for each
// id at most one answer to each line that asks for one.
func FuzzConversation(f *testing.F) {
	states := []string{
		"",
		"VERSION\t1\t0\n",
		hello,
		hello + "AUTH\t1\tLOGIN\tservice=smtp\n",
		hello + "AUTH\t1\tLOGIN\tservice=smtp\nCONT\t1\t" + b64("sam") + "\n",
		hello + "AUTH\t1\tPLAIN\tservice=smtp\n",
		hello + auth(1, "slow"),
		hello + auth(1, "slow-up") + auth(2, "hangs"),
		hello + "AUTH\t1\tXOAUTH2\tservice=smtp\n",
		hello + "AUTH\t1\tCRAM-MD5\tservice=smtp\n",
		hello + "AUTH\t1\tSCRAM-SHA-1\tservice=smtp\tresp=" + b64(scramFirst) + "\n",
		hello + "AUTH\t1\tSCRAM-SHA-1\tservice=smtp\tresp=" + b64(scramFirst) + "\nCONT\t1\t" + b64(scramProof) + "\n",
		hello + "AUTH\t1\tSCRAM-SHA-1\tservice=smtp\tfinal-resp-ok\tresp=" + b64(scramFirst) + "\n" + auth(2, "slow"),
	}
	for state := range states {
		f.Add(byte(state), true, []byte("VERSION\t1\t2\nCPID\t1\n"))
		f.Add(byte(state), true, []byte("CONT\t1\t"+b64("sam")+"\nCONT\t1\t"+b64("x")+"\n"))
		f.Add(byte(state), false, []byte("CANCEL\t1\n"+auth(1, "up")+auth(3, "deny")))
		f.Add(byte(state), true, []byte("CONT\t1\t"+b64(scramProof)+"\nCONT\t1\t\n"))
		f.Add(byte(state), false, []byte("CONT\t1\t"+b64(xoauth2)+"\nCANCEL\t1\nCONT\t1\t"+b64(cramProof)+"\n"))
		f.Add(byte(state), false, []byte("AUTH\t1\tOAUTHBEARER\tservice=x\tresp="+b64(bearer)+"\nCONT\t1\tAQ==\n"))
		f.Add(byte(state), false, []byte("AUTH\t2\tlogin\tservice=x\trip=::1\tsecured\tresp="+b64("pam")+"\nCONT\t2\t\n"))
	}
	f.Fuzz(func(t *testing.T, state byte, disconnect bool, input []byte) {
		before := states[int(state)%len(states)]
		synctest.Test(t, func(t *testing.T) {
			b := scram(login.Verdict{Result: login.Granted})
			b.delay = time.Second
			s := b.relaying()
			s.AllowDelegates = true
			if disconnect {
				s.OnUnavailable = Disconnect
			}
			p := dial(t, s)
			p.take()
			go func() {
				_, _ = io.WriteString(p.nc, before)
				_, _ = p.nc.Write(input)
			}()
			time.Sleep(10 * time.Minute)
			said, _ := p.take()
			_ = p.hangUp()
			if n := b.running(); n != 0 {
				t.Errorf("%d exchanges go on", n)
			}
			examine(t, before+string(input), said)
		})
	})
}

// FuzzSecrets has a client send a password that we know, and then anything. Whatever
// becomes of it, the password is neither in an answer nor in the log, and nobody is
// told of what he did not ask. What the log has of the client's own is short and
// cannot be seen as a line.
func FuzzSecrets(f *testing.F) {
	const password = "correct-horse-battery"
	sends := []string{
		"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "sam", password) + "\n",
		"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "denied", password) + "\n",
		"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("x", "up", password) + "\n",
		"AUTH\t1\tLOGIN\tservice=smtp\tresp=" + b64("sam") + "\nCONT\t1\t" + b64(password) + "\n",
		"AUTH\t1\tLOGIN\tservice=smtp\tresp=" + b64("sam") + "\nCONT\t1\t" + b64(password),
		"AUTH\t1\tPLAIN\tservice=smtp\tresp=" + plain("", "sam", password),
		"AUTH\t1\tPLAIN\tresp=" + plain("", "sam", password),
		"AUTH\t1\tPLAIN\tservice=" + password,
		"CONT\t1\t" + b64(password),
		"AUTH\t1\tXOAUTH2\tservice=smtp\tresp=" + b64("user=sam\x01auth=Bearer "+password+"\x01\x01"),
		"AUTH\t1\tOAUTHBEARER\tservice=smtp\nCONT\t1\t" + b64("n,a=s am,\x01auth=Bearer "+password+"\x01\x01"),
		"AUTH\t1\tCRAM-MD5\tservice=smtp\nCONT\t1\t" + b64(password+" b913a602c7eda7a495b4e6e7334d389"),
	}
	for how := range sends {
		for _, s := range []string{"\n", "!\n", "\tx\nPING\n", "\x00\nAUTH\t1\tPLAIN\tservice=x\trip=fe80::1%x\x01n\tresp=" + plain("", "up", "x") + "\n"} {
			f.Add(byte(how), []byte(s))
		}
	}
	f.Fuzz(func(t *testing.T, how byte, input []byte) {
		if bytes.Contains(input, []byte("correct")) {
			return // a password that the client has put elsewhere, too
		}
		synctest.Test(t, func(t *testing.T) {
			core, logs := observer.New(zapcore.DebugLevel)
			b := &backend{challenges: []string{cramAsk}, verdict: login.Verdict{Result: login.Granted, Final: []byte(tokenError)}}
			p := dial(t, &Server{Logger: zap.New(core), Mechanisms: b.relaying().Mechanisms, Check: func(ctx context.Context, a *login.Attempt) login.Verdict {
				if a.Remote.Zone() != "" || len(a.Service) > maxService || strings.ContainsAny(a.Service, "\r\n\x00\x1b \"") {
					t.Errorf("the log would have the address %q and the service %q", a.Remote, a.Service)
				}
				return b.check(ctx, a)
			}})
			p.take()
			go func() {
				_, _ = io.WriteString(p.nc, hello+sends[int(how)%len(sends)])
				_, _ = p.nc.Write(input)
			}()
			time.Sleep(time.Minute)
			said, _ := p.take()
			_ = p.hangUp()
			for _, e := range logs.All() {
				said += fmt.Sprintf("%s %v\n", e.Message, e.ContextMap())
			}
			// A service is told in the log, whatever is called so.
			if found := imaptest.Revealed([]byte(said), password); len(found) > 0 && !strings.HasSuffix(sends[int(how)%len(sends)], "="+password) {
				t.Errorf("shown is %s", found)
			}
		})
	})
}

// examine checks what a server said against all that it was asked.
func examine(t *testing.T, asked, said string) {
	type count struct{ auth, cont, ok, fail, challenge int }
	counts := make(map[uint64]*count)
	of := func(text string) *count {
		id, err := strconv.ParseUint(text, 10, 32)
		if err != nil {
			return new(count)
		}
		if counts[id] == nil {
			counts[id] = new(count)
		}
		return counts[id]
	}
	for line := range strings.SplitSeq(asked, "\n") {
		word, rest, _ := strings.Cut(strings.TrimSuffix(line, "\r"), "\t")
		id, _, _ := strings.Cut(rest, "\t")
		switch word {
		case "AUTH":
			of(id).auth++
		case "CONT":
			of(id).cont++
		}
	}
	if said != "" && !strings.HasSuffix(said, "\n") {
		t.Errorf("half a line at the end of %q", said)
	}
	if strings.ContainsAny(said, "\r\x00\x01") {
		t.Errorf("bytes that need escaping in %q", said)
	}
	for line := range strings.Lines(said) {
		m := replyLine.FindStringSubmatch(strings.TrimSuffix(line, "\n"))
		if m == nil {
			t.Errorf("malformed line %q", line)
			continue
		}
		switch {
		case m[1] != "":
			of(m[2]).ok++
		case m[3] != "":
			of(m[4]).challenge++
			if _, err := base64.StdEncoding.DecodeString(m[5]); err != nil {
				t.Errorf("challenge %q: %v", m[5], err)
			}
		default:
			of(m[7]).fail++
		}
	}
	for id, c := range counts {
		if c.ok > c.auth || c.challenge > 3*c.auth || c.ok+c.fail+c.challenge > c.auth+c.cont {
			t.Errorf("id %d: %+v", id, *c)
		}
	}
}

// FuzzUserDB lets a client of the master protocol say anything.
func FuzzUserDB(f *testing.F) {
	f.Add([]byte("VERSION\t1\t1\nUSER\t1\tbob\tservice=smtp\nPASS\t2\tbob\tservice=smtp\nLIST\t3\n"))
	f.Add([]byte("VERSION\t1\t1\nREQUEST\t1\n"))
	f.Add([]byte("USER\t1\tbob\tservice=smtp\n"))
	answers := regexp.MustCompile(`^(?:FAIL\t[0-9]{1,10}(?:\treason=[A-Za-z' ]+)?|DONE\t[0-9]{1,10}\tfail)$`)
	f.Fuzz(func(t *testing.T, input []byte) {
		synctest.Test(t, func(t *testing.T) {
			p := dial(t, &UserDB{})
			p.take()
			p.send(string(input))
			said, _ := p.take()
			_ = p.hangUp()
			n := 0
			for line := range strings.Lines(said) {
				n++
				if !answers.MatchString(strings.TrimSuffix(line, "\n")) {
					t.Errorf("malformed line %q", line)
				}
			}
			if n > bytes.Count(input, []byte("\n")) {
				t.Errorf("%d answers to %q", n, input)
			}
		})
	})
}
