//go:build integration

package integration

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

const (
	// loadSessions are those that live through all reloads: as many users with the
	// same number of sessions each.
	loadUsers    = 20
	loadSessions = 200
	loadReloads  = 100
	// loadMail is the size of the mail that is fetched and appended.
	loadMail = 64 << 10
)

// Two hundred sessions wait for news, read mail and store mail, and others begin all
// the time, while the configuration is loaded anew a hundred times. Nobody notices:
// no session ends, no byte is changed, nobody is refused who connects or logs in.
func TestReloadsUnderLoad(t *testing.T) {
	need(t, "dovecot")
	for _, tc := range []struct {
		name      string
		upstreams func(a, b string, i int) string
	}{
		{"the same backend", func(a, b string, _ int) string { return a + " " + b }},
		{"another list of upstreams each time", func(a, b string, i int) string {
			return []string{a, b, a + " " + b, b + " " + a}[i%4]
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			password := secret("Load-Bearing-17")
			users := make(map[string]string)
			for i := range loadUsers {
				users[fmt.Sprint("user", i)] = password
			}
			ca := imaptest.NewCA(t)
			set := dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3", "127.0.0.4"}}), Extra: "listen = 127.0.0.3 127.0.0.4\n" +
				"service imap-login {\n service_count = 0\n client_limit = 2000\n process_limit = 2\n}\nservice imap {\n process_limit = 2000\n}"}
			d := startDovecot(t, set, users)
			other := strings.Replace(d.IMAP(), "127.0.0.3", "127.0.0.4", 1)
			starttls, implicit, auth := freeAddr(t), freeAddr(t), freeAddr(t)
			config := func(i int) string {
				return site{
					Backend: upstream(tc.upstreams(d.IMAP(), other, i), ca),
					IMAP:    "kept/" + starttls, IMAPS: "kept/" + implicit, Auth: "kept/" + auth,
					IMAPOptions: fmt.Sprintf("banner number%d", i),
				}.String()
			}
			c := startCaddy(t, config(0))
			awaitCertificate(t, starttls)
			l := &load{starttls: starttls, implicit: implicit, password: password, stop: make(chan struct{})}
			l.begin(t)
			start := time.Now()
			for i := range loadReloads {
				c.reload(config(i + 1))
				l.await(t, 2)
			}
			took := time.Since(start)
			l.end(t)
			for _, err := range l.failed {
				t.Error(err)
			}
			figure(t, "%d sessions lived through %d reloads in %v, with %d mails read and %d stored; %d logins meanwhile, %d faults",
				loadSessions, loadReloads, took.Round(time.Second), l.fetched.Load(), l.appended.Load(), l.logins.Load(), len(l.failed))
		})
	}
}

// load is what clients do all the time.
type load struct {
	starttls, implicit, password string
	// wait is how long a client waits for an answer. Default: twice our patience.
	wait time.Duration

	stop chan struct{}
	wg   sync.WaitGroup

	fetched, appended, logins atomic.Int64

	mu     sync.Mutex
	failed []error
}

// maxFaults is how many faults are worth to be told.
const maxFaults = 20

func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.failed) < maxFaults {
		l.failed = append(l.failed, fmt.Errorf(format, args...))
	}
}

// begin has all sessions logged in before it returns.
func (l *load) begin(t *testing.T) {
	t.Helper()
	// Somebody has to store the first mail of each user.
	var ready sync.WaitGroup
	for i := range loadSessions {
		user := fmt.Sprint("user", i%loadUsers)
		ready.Add(1)
		l.wg.Go(func() {
			s, err := l.open(user, i%2 == 0)
			if err == nil && i < loadUsers {
				err = s.append(mailOf(i), "INBOX")
			}
			ready.Done()
			ready.Wait()
			if err == nil {
				defer s.Close()
				switch i % 5 {
				case 0, 1:
					err = l.idle(s)
				case 2, 3:
					err = l.fetch(s, i%loadUsers)
				default:
					err = l.store(s, i)
				}
			}
			if err != nil {
				l.fail("session %d of %s: %w", i, user, err)
			}
		})
	}
	ready.Wait()
	for i := range 4 {
		l.wg.Go(func() { l.login(i) })
	}
}

// await waits until so many more have logged in.
func (l *load) await(t *testing.T, more int64) {
	t.Helper()
	until := l.logins.Load() + more
	eventually(t, "clients to log in", func() error {
		if l.logins.Load() < until {
			return errors.New("too few have")
		}
		return nil
	})
}

// end has the sessions come to an end by themselves.
func (l *load) end(t *testing.T) {
	t.Helper()
	close(l.stop)
	l.wg.Wait()
}

// pace is how long a session rests between two commands, so that there is room for
// the reloads.
const pace = 500 * time.Millisecond

// rest says whether to go on.
func (l *load) rest() bool {
	select {
	case <-l.stop:
		return false
	case <-time.After(rand.N(2 * pace)):
		return true
	}
}

// login logs in and out again, over and over.
func (l *load) login(i int) {
	for n := 0; ; n++ {
		select {
		case <-l.stop:
			return
		default:
		}
		s, err := l.open(fmt.Sprint("user", (4*n+i)%loadUsers), n%2 == 0)
		if err == nil {
			err = errors.Join(s.command("NOOP"), s.command("LOGOUT"))
			s.Close()
		}
		if err != nil {
			l.fail("a new client: %w", err)
		}
		l.logins.Add(1)
	}
}

// idle waits for news until the end, and is told that there is some.
func (l *load) idle(s *loadSession) error {
	if err := s.send("idle IDLE\r\n"); err != nil {
		return err
	}
	if line, err := s.line(); err != nil || line[0] != '+' {
		return fmt.Errorf("IDLE is answered with %q, %w", line, err)
	}
	<-l.stop
	if err := s.send("DONE\r\n"); err != nil {
		return err
	}
	if err := s.await("idle"); err != nil {
		return err
	}
	return s.command("LOGOUT")
}

// fetch reads the first mail of a user, over and over.
func (l *load) fetch(s *loadSession, user int) error {
	want := sha256.Sum256(mailOf(user))
	// It is told of the mail, which was stored after it has selected the mailbox.
	if err := s.command("NOOP"); err != nil {
		return err
	}
	for l.rest() {
		got, err := s.fetch("1")
		if err != nil {
			return fmt.Errorf("fetching: %w", err)
		}
		if sha256.Sum256(got) != want {
			return fmt.Errorf("what was fetched is not what was stored, in %d octets", len(got))
		}
		l.fetched.Add(1)
	}
	return s.command("LOGOUT")
}

// store stores mails in a mailbox of its own, and reads each.
func (l *load) store(s *loadSession, i int) error {
	box := fmt.Sprint("box", i)
	// Dovecot may say that it is there already, when it has made all the folders of a
	// user who is new.
	_ = s.command("CREATE " + box)
	if err := s.command("SELECT " + box); err != nil {
		return err
	}
	for n := 1; l.rest(); n++ {
		mail := mailOf(1000*i + n)
		if err := s.append(mail, box); err != nil {
			return fmt.Errorf("storing: %w", err)
		}
		got, err := s.fetch(strconv.Itoa(n))
		if err != nil {
			return fmt.Errorf("fetching what was stored: %w", err)
		}
		if sha256.Sum256(got) != sha256.Sum256(mail) {
			return fmt.Errorf("what was fetched is not what was stored, in %d octets", len(got))
		}
		l.appended.Add(1)
	}
	return s.command("LOGOUT")
}

// mailOf makes a mail out of a number.
func mailOf(n int) []byte {
	rng := rand.New(rand.NewPCG(uint64(n), 8))
	b := []byte(fmt.Sprintf("Subject: %d\r\n\r\n", n))
	for len(b) < loadMail {
		b = fmt.Appendf(b, "%016x%016x%016x%016x\r\n", rng.Uint64(), rng.Uint64(), rng.Uint64(), rng.Uint64())
	}
	return b
}

// loadSession is a session of a client.
type loadSession struct {
	net.Conn
	br   *bufio.Reader
	n    int
	wait time.Duration
}

// open connects and logs in.
func (l *load) open(user string, starttls bool) (s *loadSession, err error) {
	addr := l.implicit
	if starttls {
		addr = l.starttls
	}
	conn, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	s = &loadSession{Conn: conn, wait: cmp.Or(l.wait, 2*patience)}
	_ = s.SetDeadline(time.Now().Add(s.wait))
	defer func() {
		if err != nil {
			_ = conn.Close()
		}
	}()
	if !starttls {
		s.Conn = tls.Client(conn, insecureTLS())
	}
	s.br = bufio.NewReader(s.Conn)
	if _, err := s.line(); err != nil {
		return nil, fmt.Errorf("waiting for the greeting: %w", err)
	}
	if starttls {
		if err := s.command("STARTTLS"); err != nil {
			return nil, err
		}
		s.Conn = tls.Client(conn, insecureTLS())
		s.br = bufio.NewReader(s.Conn)
	}
	if err := s.command("LOGIN " + user + " " + l.password); err != nil {
		return nil, err
	}
	return s, s.command("SELECT INBOX")
}

func (s *loadSession) send(text string) error {
	_ = s.SetDeadline(time.Now().Add(s.wait))
	_, err := io.WriteString(s.Conn, text)
	return err
}

func (s *loadSession) line() (string, error) {
	_ = s.SetDeadline(time.Now().Add(s.wait))
	line, err := s.br.ReadString('\n')
	if err != nil {
		return "-", err
	}
	return strings.TrimSuffix(line, "\r\n"), nil
}

// await waits for the end of a command.
func (s *loadSession) await(tag string) error {
	for {
		line, err := s.line()
		if err != nil {
			return fmt.Errorf("waiting for the answer: %w", err)
		}
		if answer, ok := strings.CutPrefix(line, tag+" "); ok {
			if !strings.HasPrefix(answer, "OK") {
				return fmt.Errorf("the answer is %q", answer)
			}
			return nil
		}
	}
}

func (s *loadSession) tag() string { s.n++; return fmt.Sprint("t", s.n) }

func (s *loadSession) command(text string) error {
	tag := s.tag()
	name, _, _ := strings.Cut(text, " ")
	if err := s.send(tag + " " + text + "\r\n"); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := s.await(tag); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// append stores a mail, and returns after the server has it.
func (s *loadSession) append(mail []byte, box string) error {
	tag := s.tag()
	if err := s.send(fmt.Sprintf("%s APPEND %s {%d+}\r\n%s\r\n", tag, box, len(mail), mail)); err != nil {
		return err
	}
	return s.await(tag)
}

// fetch reads a mail.
func (s *loadSession) fetch(number string) (mail []byte, err error) {
	tag := s.tag()
	if err := s.send(tag + " FETCH " + number + " BODY.PEEK[]\r\n"); err != nil {
		return nil, err
	}
	for {
		line, err := s.line()
		if err != nil {
			return nil, err
		}
		if i := strings.LastIndexByte(line, '{'); i >= 0 && strings.HasSuffix(line, "}") && line[0] == '*' {
			size, err := strconv.Atoi(line[i+1 : len(line)-1])
			if err != nil {
				return nil, err
			}
			mail = make([]byte, size)
			if _, err := io.ReadFull(s.br, mail); err != nil {
				return nil, err
			}
		}
		if answer, ok := strings.CutPrefix(line, tag+" "); ok {
			if !strings.HasPrefix(answer, "OK") {
				return nil, fmt.Errorf("the answer is %q", answer)
			}
			return mail, nil
		}
	}
}
