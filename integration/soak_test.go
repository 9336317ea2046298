//go:build integration && unix

package integration

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

const (
	// soakUsers have right passwords, and soakGuessed others are guessed at.
	soakUsers, soakGuessed = 12, 4
	// soakWait is how long a client waits for an answer, soakIdle how long a session
	// may be silent.
	soakWait, soakIdle = 10 * time.Second, 15 * time.Second
	// soakFaults is one in how many connections has a fault.
	soakFaults = 4
)

// Everything at once, for as long as SOAK_TIME says: clients that read, store and
// wait, mail servers, guessers, networks with faults between all of them, backends
// that are killed, reloads, and an operator who ends sessions. Connections may break
// and logins may come to nothing; but no literal is changed, no mail that was cut off
// is stored, nobody gets in who should not, nobody is told that a right password is
// wrong, and in the end the server holds what it held before.
func TestSoak(t *testing.T) {
	need(t, "dovecot")
	length := time.Minute
	if text := os.Getenv("SOAK_TIME"); text != "" {
		var err error
		if length, err = time.ParseDuration(text); err != nil {
			t.Fatal(err)
		}
	}
	s := startSoak(t)
	s.run(3*time.Second, nil) // to warm up
	before := s.rest()
	start := time.Now()
	s.run(length, s.disturb)
	took := time.Since(start).Round(time.Second)
	after := s.rest()
	if limit := before.Memory*3/2 + 64<<20; after.Memory > limit {
		t.Errorf("the server holds %d MiB, and held %d MiB before", after.Memory>>20, before.Memory>>20)
	}
	if limit := before.Heap + 8<<20; after.Heap > limit {
		t.Errorf("the server uses %d MiB, and used %d MiB before", after.Heap>>20, before.Heap>>20)
	}
	// Without faults everybody is served, as if nothing had been.
	for i := range soakUsers {
		c, err := s.steady.open(soakUser(i), true)
		if err != nil {
			t.Errorf("in the end %s cannot log in: %v", soakUser(i), err)
			continue
		}
		if err := c.command("LOGOUT"); err != nil {
			t.Error(err)
		}
		_ = c.Close()
	}
	stored := s.inspect()
	s.expect(map[string]*atomic.Int64{
		"mails stored": &s.appended, "mails fetched": &s.fetched, "times of waiting": &s.idled, "mail servers' logins": &s.checked,
		"passwords refused": &s.refused, "sessions broken off": &s.broken, "sessions ended by the operator": &s.kicked, "faults": &s.faults,
		"backends killed": &s.killed, "reloads": &s.reloads,
	})
	figure(t, "%v: %v; %d mails looked at in the mailboxes. Before: %v; at the end: %v", took, s, stored, before, after)
}

// soak is the world of the test.
type soak struct {
	t     *testing.T
	c     *caddyServer
	d     [2]*dovecot
	wires []*imaptest.Faulty
	// steady clients have a good network, shaky ones have not.
	steady, shaky *load
	auth, shaken  string
	config        func(i int) string
	ids           atomic.Int64
	// before is what the server held at rest.
	before vitals

	// ending is closed when clients are to come to an end.
	ending chan struct{}
	wg     sync.WaitGroup

	logins, appended, fetched, idled, checked, refused, unavailable, broken, kicked, faults, killed, reloads atomic.Int64

	mu sync.Mutex
	// kept are mails that must be in a mailbox.
	kept map[int64]bool
}

func (s *soak) String() string {
	return fmt.Sprintf("%d logins, %d mails stored, %d fetched, %d times of IDLE, %d logins of mail servers, %d passwords refused, %d logins unavailable, %d sessions broken off, %d ended by the operator, %d faults, %d kills, %d reloads",
		s.logins.Load(), s.appended.Load(), s.fetched.Load(), s.idled.Load(), s.checked.Load(), s.refused.Load(), s.unavailable.Load(), s.broken.Load(), s.kicked.Load(), s.faults.Load(), s.killed.Load(), s.reloads.Load())
}

func soakUser(i int) string { return fmt.Sprint("soaker", i) }

func startSoak(t *testing.T) *soak {
	password := secret("Soak-And-Wring-41")
	users := make(map[string]string)
	for i := range soakUsers {
		users[soakUser(i)] = password
	}
	for i := range soakGuessed {
		users[fmt.Sprint("guessed", i)] = password
	}
	s := &soak{t: t, kept: make(map[int64]bool)}
	ca := imaptest.NewCA(t)
	cert := ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.1"}})
	var upstreams string
	for i := range s.d {
		s.d[i] = startDovecot(t, dovecotSettings{Cert: cert, IP: fmt.Sprint("127.0.0.", 3+i), Extra: "service imap-login {\n service_count = 0\n client_limit = 2000\n process_limit = 2\n}\nservice imap {\n process_limit = 2000\n}"}, users)
		upstreams += " " + s.wire(s.d[i].IMAP())
	}
	starttls, implicit, auth := freeAddr(t), freeAddr(t), freeAddr(t)
	s.config = func(i int) string {
		return site{
			// A guard that would keep the guesses from the backends, or other logins
			// behind those that were broken off, is tested elsewhere.
			Guard:   "account_failures 1000\nsource_failures 1000\naccount_window 1m\nfailure_delay 100ms",
			Backend: upstream(upstreams, ca) + "\n\t\t\tlb_policy round_robin\n\t\t\tauth_timeout 5s\n\t\t\tfail_duration 2s\n",
			IMAP:    "kept/" + starttls, IMAPS: "kept/" + implicit, Auth: "kept/" + auth,
			IMAPOptions: fmt.Sprintf("banner number%d\nlogin_timeout 10s\nidle_timeout %s", i, soakIdle),
		}.String()
	}
	s.c = startCaddy(t, s.config(0))
	awaitCertificate(t, starttls)
	s.steady = &load{starttls: starttls, implicit: implicit, password: password, wait: soakWait}
	s.shaky = &load{starttls: s.wire(starttls), implicit: s.wire(implicit), password: password, wait: soakWait}
	s.auth, s.shaken = auth, s.wire(auth)
	return s
}

// wire puts a network before a server that can have faults.
func (s *soak) wire(addr string) string {
	f := imaptest.NewFaulty(s.t, addr)
	s.wires = append(s.wires, f)
	return f.Addr()
}

// fault is one of any kind, or none.
func (s *soak) fault() (f imaptest.Fault) {
	if rand.IntN(2*soakFaults) > 0 { // there are two directions
		return f
	}
	s.faults.Add(1)
	switch rand.IntN(8) {
	case 0:
		f.Latency = rand.N(50 * time.Millisecond)
	case 1:
		f.Rate = 50_000 + rand.IntN(1_000_000)
	case 2:
		f.Trickle = true
	default:
		f.End = imaptest.End(1 + rand.IntN(4))
		f.After = rand.Int64N(1 << (4 + rand.IntN(15)))
	}
	return f
}

// run has all clients at work for a while, and what disturbs them.
func (s *soak) run(length time.Duration, disturb func(second int)) {
	for _, w := range s.wires {
		w.Usually(nil)
		if disturb != nil {
			w.Usually(func() (up, down imaptest.Fault) { return s.fault(), s.fault() })
		}
	}
	s.ending = make(chan struct{})
	for i := range soakUsers {
		s.wg.Go(func() { s.client(s.steady, i) })
		s.wg.Go(func() { s.client(s.shaky, i) })
	}
	for i := range soakGuessed {
		s.wg.Go(func() { s.guesser(i) })
		s.wg.Go(func() { s.mailServer(i) })
	}
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for second := 1; time.Duration(second)*time.Second <= length; second++ {
		<-ticker.C
		if disturb != nil {
			disturb(second)
		}
		if disturb != nil && second%5 == 0 {
			fmt.Printf("soak: %ds of %v: %v. %v\n", second, length, s, s.c.vitals())
		}
	}
	close(s.ending)
	s.wg.Wait()
	for _, w := range s.wires {
		w.Usually(nil)
	}
}

// disturb is what happens in a second.
func (s *soak) disturb(second int) {
	if second%3 == 0 {
		s.reloads.Add(1)
		s.c.reload(s.config(int(s.reloads.Load())))
	}
	if second%2 == 0 {
		var ended struct{ Kicked int64 }
		answer := s.c.request(http.MethodDelete, "/imap/sessions?user="+soakUser(rand.IntN(soakUsers)), "", "")
		if _, err := fmt.Sscanf(answer, `{"kicked":%d}`, &ended.Kicked); err != nil {
			s.t.Errorf("ending sessions is answered with %q", answer)
		}
		s.kicked.Add(ended.Kicked)
	}
	d := s.d[second/10%2]
	switch second % 10 {
	case 5:
		d.Kill()
		s.killed.Add(1)
	case 8:
		d.Start()
	}
}

// rest waits until all is over, and all servers run.
func (s *soak) rest() vitals {
	s.t.Helper()
	for _, d := range s.d {
		if d.p.exited() != nil {
			d.Start()
		}
	}
	for _, w := range s.wires {
		eventually(s.t, "connections through faulty networks to end", func() error {
			if n := w.Open(); n > 0 {
				return fmt.Errorf("%d are open", n)
			}
			return nil
		})
	}
	calm := vitals{Files: 1 << 20, Goroutines: 1 << 20}
	if s.reloads.Load() > 0 {
		calm = s.before
	}
	s.before = s.c.awaitCalm(calm)
	return s.before
}

// over says whether clients are to end, after a moment.
func (s *soak) over() bool {
	select {
	case <-s.ending:
		return true
	case <-time.After(rand.N(100 * time.Millisecond)):
		return false
	}
}

// client has one session after the other.
func (s *soak) client(l *load, i int) {
	for n := 0; !s.over(); n++ {
		c, err := l.open(soakUser(i), n%2 == 0)
		if err != nil {
			if strings.Contains(err.Error(), "AUTHENTICATIONFAILED") {
				s.t.Errorf("%s is refused with the right password: %v", soakUser(i), err)
			}
			s.unavailable.Add(1)
			continue
		}
		s.logins.Add(1)
		if err := s.session(c, n); err != nil {
			s.broken.Add(1)
		}
		_ = c.Close()
	}
}

// session stores mails in a mailbox of its own, and fetches them, or waits for news.
// An error is that the connection has broken.
func (s *soak) session(c *loadSession, n int) error {
	if n%5 == 4 {
		if err := s.idle(c); err != nil {
			return err
		}
		s.idled.Add(1)
		return c.command("LOGOUT")
	}
	box := fmt.Sprint("soak", s.ids.Add(1))
	if err := errors.Join(c.command("CREATE "+box), c.command("SELECT "+box)); err != nil {
		return err
	}
	var ids []int64
	for i := range 1 + rand.IntN(4) {
		id := s.ids.Add(1)
		mail := mailOf(int(id))
		if err := c.append(mail, box); err != nil {
			return err
		}
		s.keep(true, id)
		ids = append(ids, id)
		s.appended.Add(1)
		got, err := c.fetch(fmt.Sprint(i + 1))
		if err != nil {
			return err
		}
		if sha256.Sum256(got) != sha256.Sum256(mail) {
			s.t.Errorf("mail %d is not what was stored, in %d octets", id, len(got))
		}
		s.fetched.Add(1)
	}
	if n%10 != 0 { // or the disk would be full some day
		s.keep(false, ids...)
		if err := errors.Join(c.command("SELECT INBOX"), c.command("DELETE "+box)); err != nil {
			return err
		}
	}
	return c.command("LOGOUT")
}

// keep notes that mails must be there from now on, or need not.
func (s *soak) keep(kept bool, ids ...int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if delete(s.kept, id); kept {
			s.kept[id] = true
		}
	}
}

func (s *soak) idle(c *loadSession) error {
	if err := c.send("idle IDLE\r\n"); err != nil {
		return err
	}
	if line, err := c.line(); err != nil || line[0] != '+' {
		return fmt.Errorf("IDLE is answered with %q, %w", line, err)
	}
	select {
	case <-s.ending:
	case <-time.After(rand.N(3 * time.Second)):
	}
	if err := c.send("DONE\r\n"); err != nil {
		return err
	}
	return c.await("idle")
}

// guesser tries passwords that nobody has, by both doors, from all over the place.
func (s *soak) guesser(i int) {
	for n := 0; !s.over(); n++ {
		from, user := fmt.Sprintf("127.9.%d.%d", rand.IntN(200), i+1), fmt.Sprint("guessed", i)
		door := doors(s.steady.implicit, s.auth)[n%2]
		answer, err := door.login(from, user, nextGuess())
		switch {
		case err != nil:
			s.unavailable.Add(1)
		case granted(answer):
			s.t.Errorf("%s got in with a wrong password: %q", user, answer)
		case denied(answer):
			s.refused.Add(1)
		default:
			s.unavailable.Add(1)
		}
	}
}

// mailServer has right passwords checked, over a good network and another.
func (s *soak) mailServer(i int) {
	for n := 0; !s.over(); n++ {
		user := soakUser((soakGuessed*n + i) % soakUsers)
		answer, err := authLogin("127.0.0.2", []string{s.auth, s.shaken}[n%2], user, s.steady.password)
		switch {
		case err != nil:
			s.unavailable.Add(1)
		case granted(answer):
			s.checked.Add(1)
		case denied(answer):
			s.t.Errorf("%s is refused with the right password: %q", user, answer)
		default:
			s.unavailable.Add(1)
		}
	}
}

// inspect looks at all mails in the mailboxes: each is one that was sent, whole, and
// each that was acknowledged is there. It returns how many there are.
func (s *soak) inspect() (stored int) {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, d := range s.d {
		err := filepath.WalkDir(filepath.Join(d.dir, "home"), func(path string, entry fs.DirEntry, err error) error {
			dir := filepath.Base(filepath.Dir(path))
			if err != nil || entry.IsDir() || dir != "cur" && dir != "new" {
				return err
			}
			got, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			var id int64
			if _, err := fmt.Sscanf(string(got[:min(len(got), 100)]), "Subject: %d", &id); err != nil {
				s.t.Errorf("a mail begins with %.100q", got)
				return nil
			}
			if want := bytes.ReplaceAll(mailOf(int(id)), []byte("\r\n"), []byte("\n")); !bytes.Equal(got, want) {
				s.t.Errorf("of mail %d there are %d octets stored that are not its %d", id, len(got), len(want))
			}
			delete(s.kept, id)
			stored++
			return nil
		})
		if err != nil {
			s.t.Error(err)
		}
	}
	if len(s.kept) > 0 {
		s.t.Errorf("%d mails that were acknowledged are not there", len(s.kept))
	}
	return stored
}

// expect wants all that there should have been.
func (s *soak) expect(counts map[string]*atomic.Int64) {
	s.t.Helper()
	for what, count := range counts {
		if count.Load() == 0 {
			s.t.Errorf("there were no %s", what)
		}
	}
}
