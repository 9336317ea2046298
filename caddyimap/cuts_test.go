package caddyimap

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/mholt/caddy-l4/layer4"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

// step is what a client says, and what it hears until a line that begins so.
type step struct{ say, until, want string }

// The literals are of lines that would mean something if they were not in one.
const (
	cutMail   = "Subject: x\r\n\r\nc OK forged\r\n)\r\nc OK FETCH forged\r\n* BYE forged\r\n"
	cutUpload = "Subject: y\r\n\r\nd NOOP\r\nz LOGOUT\r\nlast words"
)

// cutSteps are the session that is cut off, from the login on.
func cutSteps() []step {
	return []step{
		{say: loginGood + "\r\n", until: "in OK"},
		{say: "b SELECT INBOX\r\n", until: "b OK"},
		{say: "c FETCH 1 BODY[]\r\n", until: "c OK done"},
		{say: fmt.Sprintf("d APPEND INBOX {%d}\r\n", len(cutUpload)), until: "+ go on"},
		{say: cutUpload + "\r\n", until: "d OK done"},
		{say: "e IDLE\r\n", until: "* 4 EXISTS"},
		{say: "DONE\r\n", until: "e OK done"},
		{say: "z LOGOUT\r\n", until: "z OK done"},
	}
}

// cutAnswers are the backend's, by the line that they follow.
var cutAnswers = map[string]string{
	"b SELECT INBOX":   "* 1 EXISTS\r\n* FLAGS (\\Seen)\r\n* OK [UIDVALIDITY 7] valid\r\nb OK [READ-WRITE] done\r\n",
	"c FETCH 1 BODY[]": fmt.Sprintf("* 1 FETCH (BODY[] {%d}\r\n%s)\r\nc OK done\r\n", len(cutMail), cutMail),
	"last words":       "d OK done\r\n",
	"e IDLE":           "+ idling\r\n* 4 EXISTS\r\n",
	"DONE":             "e OK done\r\n",
	"z LOGOUT":         "* BYE bye\r\nz OK done\r\n",
}

// refused is what a client may hear instead of what it waits for: if its backend
// could not be asked, or it was silent for too long.
var refused = regexp.MustCompile(`^(in NO \[UNAVAILABLE\] [ -~]*|\* BYE Disconnected for inactivity\.)\r\n$`)

// cutRig has sessions with one faulty leg.
type cutRig struct {
	t       *testing.T
	handler layer4.NextHandler
	fake    *imaptest.Fake
	// faulty is before the backend; nil if it is the client's leg that is.
	faulty *imaptest.Faulty
	// tls is for clients that use it.
	tls   *tls.Config
	steps []step
	// dialing is held from when a fault at the backend is planned until the backend
	// is dialled.
	dialing sync.Mutex

	// struck counts the cuts that came to pass; whole, the sessions that came to
	// their end; longest is how long one took to end after its cut.
	struck, whole atomic.Int64
	mu            sync.Mutex
	longest       time.Duration
}

// play is the backend. All that it hears must be what the client has said, in order.
func (r *cutRig) play(c *imaptest.Conn, _ imaptest.Login) {
	var all strings.Builder
	for _, s := range r.steps[1:] {
		all.WriteString(s.say)
	}
	left, uploading := all.String(), false
	for {
		line, ok := c.ReadLine()
		if ok {
			line += "\r\n"
		}
		rest, same := strings.CutPrefix(left, line)
		if !same {
			r.t.Errorf("the backend heard %q instead of %q", line, left)
			return
		}
		if left = rest; !ok {
			return
		}
		line = strings.TrimSuffix(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "d APPEND"):
			uploading = true
			c.Send("+ go on\r\n")
		case uploading && line != "last words":
		default:
			uploading = false
			c.Send(cutAnswers[line])
		}
		if line == "z LOGOUT" && !uploading {
			return
		}
	}
}

// tcpPair returns both ends of a connection over the loopback.
func tcpPair(tb testing.TB) (dialled, accepted *net.TCPConn) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Error(err)
		return nil, nil
	}
	defer ln.Close()
	one, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Error(err)
		return nil, nil
	}
	two, err := ln.Accept()
	if err != nil {
		tb.Error(err)
		return nil, nil
	}
	return one.(*net.TCPConn), two.(*net.TCPConn)
}

// session holds one session with the faults, and returns its faulty link. Whatever
// becomes of it, both legs must be closed soon after the cut.
func (r *cutRig) session(up, down imaptest.Fault) *imaptest.Link {
	what := fmt.Sprintf("%v after %d up, %v after %d down", up.End, up.After, down.End, down.After)
	nc, near := tcpPair(r.t)
	far, theirs := tcpPair(r.t)
	if nc == nil || far == nil {
		return nil
	}
	_ = nc.SetDeadline(time.Now().Add(patience))
	handled := make(chan struct{})
	go r.handle(theirs, handled)
	cl := cutClient{r: r, what: what, conn: nc}
	if r.faulty == nil {
		cl.link = imaptest.NewLink(near, far, up, down)
	}
	front := cl.link
	if front == nil {
		front = imaptest.NewLink(near, far, imaptest.Fault{}, imaptest.Fault{})
		cl.plan = func() <-chan *imaptest.Link { return r.faulty.Next(up, down) }
	}
	begin := time.Now()
	struck := make(chan time.Time, 1)
	if cl.link != nil {
		go noteStruck(cl.link, struck)
	}
	cl.talk()
	_ = cl.conn.Close()
	_ = nc.Close()
	r.await(what+": the handler", handled)
	r.await(what+": the client's leg", front.Done())
	if cl.link == nil { // it never came to a login
		return nil
	}
	r.await(what+": the backend's leg", cl.link.Done())
	if r.faulty == nil {
		if at := <-struck; !at.IsZero() {
			begin = at
		}
	}
	r.mu.Lock()
	r.longest = max(r.longest, time.Since(begin))
	r.mu.Unlock()
	select {
	case <-cl.link.Struck():
		r.struck.Add(1)
	default:
	}
	if cl.whole {
		r.whole.Add(1)
	}
	return cl.link
}

// noteStruck tells when the cut came to pass; zero if it never did.
func noteStruck(l *imaptest.Link, at chan<- time.Time) {
	select {
	case <-l.Struck():
		at <- time.Now()
	case <-l.Done():
		at <- time.Time{}
	}
}

func (r *cutRig) handle(nc net.Conn, handled chan<- struct{}) {
	defer close(handled)
	defer nc.Close()
	cx := layer4.WrapConnection(nc, nil, zap.NewNop())
	if err := r.handler.Handle(cx, nil); err != nil {
		r.t.Errorf("the handler returned %v", err)
	}
}

func (r *cutRig) await(what string, done <-chan struct{}) {
	select {
	case <-done:
	case <-time.After(patience):
		r.t.Errorf("%s does not end", what)
	}
}

// cutClient is the client of one session.
type cutClient struct {
	r    *cutRig
	what string
	conn net.Conn
	br   *bufio.Reader
	// link is the faulty one; of the backend's leg it is there after the login, for
	// which plan makes the plan.
	link *imaptest.Link
	plan func() <-chan *imaptest.Link
	// whole says that the session came to its end.
	whole bool
}

// talk goes on for as long as it hears what it should.
func (c *cutClient) talk() {
	r := c.r
	c.br = bufio.NewReader(c.conn)
	greeting := greetingClear
	if r.tls == nil {
		greeting = "* OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ID STARTTLS AUTH=PLAIN AUTH=LOGIN] Caddy ready."
	}
	if !c.hear(greeting + "\r\n") {
		return
	}
	if r.tls != nil {
		if !c.say("tls STARTTLS\r\n") || !c.hear("tls OK Begin TLS negotiation now.\r\n") {
			return
		}
		secure := tls.Client(c.conn, r.tls)
		if secure.Handshake() != nil {
			return
		}
		c.conn, c.br = secure, bufio.NewReader(secure)
	}
	for i := range r.steps {
		s := &r.steps[i]
		if i == 0 && c.plan != nil {
			if !c.logIn(s.say) {
				return
			}
		} else if !c.say(s.say) {
			return
		}
		if s.want == "" {
			s.want = c.record(s.until)
		} else if !c.hear(s.want) {
			return
		}
	}
	if line, err := c.br.ReadString('\n'); err == nil || line != "" {
		r.t.Errorf("%s: the client heard %q after the end, %v", c.what, line, err)
	}
	c.whole = true
}

func (c *cutClient) say(text string) bool {
	_, err := c.conn.Write([]byte(text))
	return err == nil
}

// logIn logs in such that the connection to the backend is the one planned.
func (c *cutClient) logIn(text string) bool {
	c.r.dialing.Lock()
	defer c.r.dialing.Unlock()
	began := c.plan()
	if !c.say(text) {
		c.r.t.Errorf("%s: no login", c.what)
		return false
	}
	select {
	case c.link = <-began:
		return true
	case <-time.After(patience):
		c.r.t.Errorf("%s: the backend is not dialled", c.what)
		return false
	}
}

// hear says whether all is heard that should be. What is heard must be a beginning
// of that, or a refusal in its place.
func (c *cutClient) hear(want string) bool {
	for line := range strings.Lines(want) {
		got, err := c.br.ReadString('\n')
		if ne, ok := err.(net.Error); ok && ne.Timeout() {
			c.r.t.Errorf("%s: the client is still waiting for %q", c.what, line)
		}
		if got == line {
			continue
		}
		if (err == nil || !strings.HasPrefix(line, got)) && !refused.MatchString(got) && !beginsRefusal(got, err) {
			c.r.t.Errorf("%s: the client heard %q, %v; want %q", c.what, got, err, line)
		}
		return false
	}
	return true
}

// beginsRefusal says whether a line that was cut off may have been one.
func beginsRefusal(got string, err error) bool {
	const no, bye = "in NO [UNAVAILABLE] ", "* BYE Disconnected for inactivity.\r"
	return err != nil && (strings.HasPrefix(no, got) || strings.HasPrefix(got, no) || strings.HasPrefix(bye, got))
}

// record hears until a line that begins so.
func (c *cutClient) record(until string) string {
	var all strings.Builder
	for {
		line, err := c.br.ReadString('\n')
		if err != nil {
			c.r.t.Fatalf("recording: %q, %v", line, err)
		}
		all.WriteString(line)
		if strings.HasPrefix(line, until) {
			return all.String()
		}
	}
}

// cutPlan is what is cut off in one run.
type cutPlan struct {
	leg  string
	tls  bool
	ends []imaptest.End
	// stride is how many bytes there are from one cut to the next; turns says that the
	// ends take turns, and not each of them comes at each place.
	stride int64
	turns  bool
	// silence is every timeout that there is.
	silence time.Duration
	// workers is how many sessions there are at a time.
	workers int
}

// TestCuts cuts a session off at each of its bytes, on each leg and in each
// direction, by each kind of end. Nobody hears what was not said, and nothing is
// left of the session soon after that.
//
// With the race detector it does so at some of the bytes only; make unit runs it
// without, too.
func TestCuts(t *testing.T) {
	atOnce := []imaptest.End{imaptest.Close, imaptest.Reset, imaptest.HalfClose}
	silent := []imaptest.End{imaptest.Freeze}
	for _, p := range []cutPlan{
		{"client", false, atOnce, 1, false, time.Hour, 8},
		{"backend", false, atOnce, 1, false, time.Hour, 8},
		{"client", true, atOnce, 1, true, time.Hour, 8},
		{"backend", true, atOnce, 1, true, time.Hour, 8},
		{"client", false, silent, 1, false, time.Second, 200},
		{"backend", false, silent, 1, false, time.Second, 200},
		{"client", true, silent, 13, false, time.Second, 50},
		{"backend", true, silent, 13, false, time.Second, 50},
	} {
		if raceDetector {
			p.stride *= 7
			p.workers = min(p.workers, 50)
		}
		t.Run(fmt.Sprintf("%s, TLS %v, %v", p.leg, p.tls, p.ends), p.run)
	}
}

// rig starts the servers of a plan, and records a session without faults.
func (p cutPlan) rig(t *testing.T) (r *cutRig, c *config, up, down int64) {
	w := newWorld(t)
	r = &cutRig{t: t, steps: cutSteps()}
	profile := w.profile()
	profile.Announce = true
	profile.Session = r.play
	profile.TLS.SessionTicketsDisabled = true // each handshake is a whole one
	secureBackend := p.tls && p.leg == "backend"
	if !secureBackend {
		profile.Clear, profile.Before, profile.Inside = true, "IMAP4rev1 AUTH=PLAIN", "IMAP4rev1 AUTH=PLAIN"
	}
	r.fake = w.start(profile)
	addr := r.fake.Addr()
	if p.leg == "backend" {
		r.faulty = imaptest.NewFaulty(t, addr)
		addr = r.faulty.Addr()
	}
	app, b := w.pooled(addr)
	if !secureBackend {
		b.TLSMode, b.TLS = "off", nil
	}
	b.AuthTimeout, b.DialTimeout = caddy.Duration(p.silence), caddy.Duration(p.silence)
	c = w.running(app)
	h := &Handler{InsecureAuth: true}
	if p.tls && p.leg == "client" {
		h.InsecureAuth = false
		r.tls = w.tls("mail.example.org")
		// A smaller hello has fewer places where it can be cut off.
		r.tls.CurvePreferences = []tls.CurveID{tls.X25519}
	}
	h.LoginTimeout, h.IdleTimeout = caddy.Duration(p.silence), caddy.Duration(p.silence)
	if p.leg == "backend" {
		h.LoginTimeout = caddy.Duration(time.Hour) // or it may be over before its turn
	}
	r.handler = c.handler(h)

	up, down = r.session(imaptest.Fault{}, imaptest.Fault{}).Passed()
	if r.whole.Load() != 1 {
		t.Fatal("without any fault the session does not come to its end")
	}
	return r, c, up, down
}

func (p cutPlan) run(t *testing.T) {
	r, c, up, down := p.rig(t)
	quiet := goleak.IgnoreCurrent()
	start, planned := time.Now(), r.cut(p, up, down)
	noSessions(t)
	r.fake.WaitIdle()
	for name, value := range c.metrics() {
		if value != 0 && (strings.HasPrefix(name, "caddy_imap_sessions{") || strings.HasPrefix(name, "caddy_imap_idle_sessions{") || strings.HasPrefix(name, "caddy_imap_upstream_sessions{")) {
			t.Errorf("%s is %v after the end of all sessions", name, value)
		}
	}
	if err := goleak.Find(quiet); err != nil {
		t.Error(err)
	}
	t.Logf("%d bytes up, %d down: %d cuts in %v, of which %d came to pass; the longest end took %v",
		up, down, planned, time.Since(start).Round(time.Millisecond), r.struck.Load(), r.longest.Round(time.Millisecond))
	// The length of a signature differs by a few bytes. With timeouts, a busy machine
	// may take too long for a session before its cut.
	least := planned * 98 / 100
	if p.silence < time.Minute {
		least = planned / 2
	}
	if r.struck.Load() < int64(least) {
		t.Errorf("%d of %d cuts came to pass", r.struck.Load(), planned)
	}
}

// cut holds a session for each cut, and returns how many.
func (r *cutRig) cut(p cutPlan, up, down int64) (planned int) {
	type cut struct{ up, down imaptest.Fault }
	cuts := make(chan cut)
	var workers sync.WaitGroup
	for range p.workers {
		workers.Go(func() {
			for c := range cuts {
				r.session(c.up, c.down)
			}
		})
	}
	for i, n := 0, int64(0); n < max(up, down); i, n = i+1, n+p.stride {
		ends := p.ends
		if p.turns {
			ends = ends[i%len(ends):][:1]
		}
		for _, end := range ends {
			f := imaptest.Fault{End: end, After: n}
			if n < up {
				cuts <- cut{up: f}
				planned++
			}
			if n < down {
				cuts <- cut{down: f}
				planned++
			}
		}
	}
	close(cuts)
	workers.Wait()
	return planned
}

// TestSlowNetworks pins that a session comes to its end, and nothing is changed,
// whatever pieces it comes in and however late.
func TestSlowNetworks(t *testing.T) {
	late := imaptest.Fault{Latency: 10 * time.Millisecond}
	for _, p := range []cutPlan{
		{leg: "client", silence: time.Hour}, {leg: "backend", silence: time.Hour},
		{leg: "client", tls: true, silence: time.Hour}, {leg: "backend", tls: true, silence: time.Hour},
	} {
		t.Run(fmt.Sprintf("%s, TLS %v", p.leg, p.tls), func(t *testing.T) {
			r, _, _, _ := p.rig(t)
			for _, f := range []imaptest.Fault{late, {Trickle: true}, {Rate: 20_000}, {Trickle: true, Rate: 20_000}} {
				r.session(f, imaptest.Fault{})
				r.session(imaptest.Fault{}, f)
				r.session(f, f)
			}
			if n := r.whole.Load(); n != 13 {
				t.Errorf("%d of 13 sessions came to their end", n)
			}
		})
	}
}
