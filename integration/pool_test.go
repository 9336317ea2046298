//go:build integration

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// Signal sends a signal to all of its processes.
func (d *dovecot) Signal(signal syscall.Signal) {
	d.t.Helper()
	if err := syscall.Kill(-d.p.cmd.Process.Pid, signal); err != nil {
		d.t.Fatalf("sending %v to Dovecot: %v", signal, err)
	}
}

// Kill ends it as the power does.
func (d *dovecot) Kill() {
	d.t.Helper()
	d.Signal(syscall.SIGKILL)
	<-d.p.done
}

// AllLogins counts the logins that it has granted.
func (d *dovecot) AllLogins() int { return len(dovecotLogin.FindAllString(d.Log(), -1)) }

// slowLogin is what a login takes that has waited for an upstream in vain.
const slowLogin = time.Second

// loginOf is one login of a stream.
type loginOf struct {
	client int
	start  time.Time
	took   time.Duration
	answer string
	err    error
}

// stream is clients that log in again and again, each as a user of its own.
type stream struct {
	stop chan struct{}
	all  sync.WaitGroup

	mu     sync.Mutex
	logins []loginOf
	count  atomic.Int64
}

// streamUsers are the users of a stream of so many clients.
func streamUsers(clients int, password string) map[string]string {
	users := make(map[string]string)
	for i := range clients {
		users[fmt.Sprintf("user%d", i)] = password
	}
	return users
}

func startStream(t *testing.T, door door, clients int, password string) *stream {
	s := &stream{stop: make(chan struct{})}
	for i := range clients {
		s.all.Add(1)
		go s.client(door, i, password)
	}
	t.Cleanup(func() { s.Stop() })
	s.More(t, 4*clients)
	return s
}

func (s *stream) client(door door, i int, password string) {
	defer s.all.Done()
	for {
		select {
		case <-s.stop:
			return
		case <-time.After(20 * time.Millisecond):
		}
		l := loginOf{client: i, start: time.Now()}
		l.answer, l.err = door.login("127.0.0.1", fmt.Sprintf("user%d", i), password)
		l.took = time.Since(l.start)
		s.mu.Lock()
		s.logins = append(s.logins, l)
		s.mu.Unlock()
		s.count.Add(1)
	}
}

// More waits until there were so many more logins.
func (s *stream) More(t *testing.T, n int) {
	t.Helper()
	want := s.count.Load() + int64(n)
	eventually(t, fmt.Sprintf("%d more logins", n), func() error {
		if got := s.count.Load(); got < want {
			return fmt.Errorf("%d are missing", want-got)
		}
		return nil
	})
}

// Stop ends the stream, and returns all logins.
func (s *stream) Stop() []loginOf {
	select {
	case <-s.stop:
	default:
		close(s.stop)
	}
	s.all.Wait()
	return s.logins
}

// judge looks at the logins of a stream during which one server went away at some
// moment: those that began later are granted, and none of the clients has waited
// more than once. It returns how many failed that had begun before, and how many
// were slow.
func judge(t *testing.T, logins []loginOf, gone time.Time) (cut, slow int, slowest time.Duration) {
	t.Helper()
	waited := make(map[int]int)
	for _, l := range logins {
		if l.err != nil || !granted(l.answer) {
			if l.start.After(gone) {
				t.Errorf("client %d, %v after the server went: %q, %v", l.client, l.start.Sub(gone), l.answer, l.err)
			}
			cut++
			continue
		}
		slowest = max(slowest, l.took)
		if l.took >= slowLogin {
			waited[l.client]++
			slow++
		}
	}
	for client, n := range waited {
		if n > 1 {
			t.Errorf("client %d has waited %d times", client, n)
		}
	}
	return cut, slow, slowest
}

// endpoint asks the admin API about an upstream.
func (c *caddyServer) endpoint(address string) (found struct {
	Up       bool   `json:"up"`
	Error    string `json:"error"`
	Sessions int    `json:"sessions"`
},
) {
	c.t.Helper()
	var answer struct {
		Backends []struct {
			Upstreams []struct {
				Address   string            `json:"address"`
				Endpoints []json.RawMessage `json:"endpoints"`
			} `json:"upstreams"`
		} `json:"backends"`
	}
	text := c.request(http.MethodGet, "/imap/backends", "", "")
	if err := json.Unmarshal([]byte(text), &answer); err != nil {
		c.t.Fatalf("%v in %s", err, text)
	}
	for _, b := range answer.Backends {
		for _, u := range b.Upstreams {
			if u.Address == address {
				if err := json.Unmarshal(u.Endpoints[0], &found); err != nil {
					c.t.Fatal(err)
				}
				return found
			}
		}
	}
	c.t.Fatalf("no upstream %s in %s", address, text)
	return found
}

func (c *caddyServer) awaitUp(address string, up bool) {
	c.t.Helper()
	eventually(c.t, fmt.Sprintf("%s to be up: %v", address, up), func() error {
		if e := c.endpoint(address); e.Up != up {
			return fmt.Errorf("it is not; its error is %q", e.Error)
		}
		return nil
	})
}

// twoDovecots starts two with the same users, behind a Caddy with the options for
// its backend.
func twoDovecots(t *testing.T, clients int, password, options string) (one, two *dovecot, c *caddyServer, d door) {
	t.Helper()
	need(t, "dovecot")
	ca := imaptest.NewCA(t)
	set := dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})}
	users := streamUsers(clients, password)
	one, two = startDovecot(t, set, users), startDovecot(t, set, users)
	addr, imaps := freeAddr(t), freeAddr(t)
	c = startCaddy(t, site{
		Backend: upstream(one.IMAP()+" "+two.IMAP(), ca) + "\n" + options,
		IMAP:    "kept/" + addr, IMAPS: "kept/" + imaps,
	}.String())
	awaitCertificate(t, addr)
	return one, two, c, doors(imaps, "")[0]
}

// One of two servers is killed under a stream of logins: logins go on at the other,
// and nobody waits more than once. When it is back, it is used again.
func TestKilledUpstream(t *testing.T) {
	const clients = 8
	password := secret("Twice-Alive-71")
	one, two, c, door := twoDovecots(t, clients, password, "fail_duration 2s")
	s := startStream(t, door, clients, password)
	if two.AllLogins() != 0 || one.AllLogins() == 0 {
		t.Errorf("%d and %d logins, want all at the first", one.AllLogins(), two.AllLogins())
	}
	one.Kill()
	gone := time.Now()
	s.More(t, 20*clients)
	c.awaitUp(one.IMAP(), false)
	c.awaitUp(two.IMAP(), true)
	one.Start()
	before := one.AllLogins()
	eventually(t, "the first to be used again", func() error {
		if one.AllLogins() < before+4*clients {
			return errors.New("it is not")
		}
		return nil
	})
	c.awaitUp(one.IMAP(), true)
	all := s.Stop()
	cut, slow, slowest := judge(t, all, gone)
	c.WaitLog(`"level":"warn"`, "upstream is down", one.IMAP())
	c.WaitLog(`"level":"info"`, `"msg":"upstream is up"`, one.IMAP())
	figure(t, "%d logins of %d clients while one of two Dovecots was killed: %d cut off in the middle, %d slow, the slowest took %v",
		len(all), clients, cut, slow, slowest.Round(time.Millisecond))
}

// One of two servers hangs: its port is open, and nobody answers. The first login of
// each client may wait for a second. With checks, no login ever tries it until it
// is well.
func TestHangingUpstream(t *testing.T) {
	const clients = 8
	password := secret("Twice-Asleep-72")
	one, two, c, door := twoDovecots(t, clients, password,
		"fail_duration 3s\nhealth_interval 1s\nhealth_timeout 1s\nauth_timeout 4s")
	s := startStream(t, door, clients, password)
	one.Signal(syscall.SIGSTOP)
	gone := time.Now()
	t.Cleanup(func() { _ = syscall.Kill(-one.p.cmd.Process.Pid, syscall.SIGCONT) })
	c.awaitUp(one.IMAP(), false)
	s.More(t, 50*clients)
	if e := c.endpoint(two.IMAP()); !e.Up {
		t.Errorf("the other is down as well: %s", e.Error)
	}
	one.Signal(syscall.SIGCONT)
	c.awaitUp(one.IMAP(), true)
	before := one.AllLogins()
	eventually(t, "the first to be used again", func() error {
		if one.AllLogins() < before+4*clients {
			return errors.New("it is not")
		}
		return nil
	})
	all := s.Stop()
	cut, slow, slowest := judge(t, all, gone)
	if slow == 0 {
		t.Error("nobody has waited, so that it did not hang")
	}
	figure(t, "%d logins of %d clients while one of two Dovecots hung: %d cut off in the middle, %d slow, the slowest took %v",
		len(all), clients, cut, slow, slowest.Round(time.Millisecond))
}

// An upstream is drained by a request to the admin API, under a stream of logins.
func TestDrainedUpstream(t *testing.T) {
	t.Parallel()
	const clients = 4
	password := secret("Twice-Empty-73")
	one, two, c, door := twoDovecots(t, clients, password, "lb_policy first")
	s := startStream(t, door, clients, password)
	const path = "/config/apps/imap/backends/exchange/upstreams/0/drain"
	c.request(http.MethodPost, path, "application/json", "true")
	s.More(t, 2*clients) // what has begun before is over then
	before := two.AllLogins()
	eventually(t, "the first to be empty", func() error {
		if n := c.endpoint(one.IMAP()).Sessions; n > 0 {
			return fmt.Errorf("it has %d sessions", n)
		}
		return nil
	})
	at := one.AllLogins()
	s.More(t, 10*clients)
	if got := one.AllLogins(); got != at {
		t.Errorf("%d logins at an upstream that drains", got-at)
	}
	if two.AllLogins() == before {
		t.Error("no logins at the other")
	}
	c.request(http.MethodDelete, path, "application/json", "")
	eventually(t, "the first to be used again", func() error {
		if one.AllLogins() == at {
			return errors.New("it is not")
		}
		return nil
	})
	for _, l := range s.Stop() {
		if l.err != nil || !granted(l.answer) {
			t.Errorf("client %d: %q, %v", l.client, l.answer, l.err)
		}
	}
}
