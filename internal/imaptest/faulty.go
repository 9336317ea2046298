package imaptest

import (
	"net"
	"sync"
	"testing"
)

// Faulty is a TCP proxy before a server. Each connection through it is a Link with
// the faults that the test chooses.
type Faulty struct {
	tb     testing.TB
	ln     net.Listener
	target string
	wg     sync.WaitGroup

	mu     sync.Mutex
	closed bool
	next   []planned
	usual  func() (up, down Fault)
	links  map[*Link]struct{}
}

// planned is a connection to come.
type planned struct {
	up, down Fault
	began    chan *Link
}

// NewFaulty starts a proxy on 127.0.0.1 before the server at the address.
func NewFaulty(tb testing.TB, target string) *Faulty {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatalf("listening for a faulty proxy: %v", err)
	}
	f := &Faulty{tb: tb, ln: ln, target: target, links: make(map[*Link]struct{})}
	f.Usually(nil)
	f.wg.Add(1)
	go f.accept()
	tb.Cleanup(f.Close)
	return f
}

// Addr is where the proxy listens, as host:port.
func (f *Faulty) Addr() string { return f.ln.Addr().String() }

// Usually says what befalls connections that nothing was planned for: what choose
// returns, and nothing at all if it is nil.
func (f *Faulty) Usually(choose func() (up, down Fault)) {
	if choose == nil {
		choose = func() (up, down Fault) { return up, down }
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.usual = choose
}

// Next plans what befalls the next connection that nothing is planned for yet, up
// being what goes to the server. The channel gets its link when it begins, or nil if
// the server cannot be reached.
func (f *Faulty) Next(up, down Fault) <-chan *Link {
	p := planned{up, down, make(chan *Link, 1)}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next = append(f.next, p)
	return p.began
}

// Open is how many connections there are.
func (f *Faulty) Open() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.links)
}

// Close stops listening, and cuts all connections. More than one call is one.
func (f *Faulty) Close() {
	f.mu.Lock()
	f.closed = true
	_ = f.ln.Close()
	for l := range f.links {
		l.end(true)
	}
	f.mu.Unlock()
	f.wg.Wait()
}

func (f *Faulty) accept() {
	defer f.wg.Done()
	for {
		near, err := f.ln.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		var p planned
		if len(f.next) > 0 {
			p, f.next = f.next[0], f.next[1:]
		} else {
			p.up, p.down = f.usual()
		}
		f.mu.Unlock()
		f.wg.Add(1)
		go f.join(near.(*net.TCPConn), p)
	}
}

// join serves one connection to its end.
func (f *Faulty) join(near *net.TCPConn, p planned) {
	defer f.wg.Done()
	far, err := net.Dial("tcp", f.target)
	var l *Link
	if err == nil {
		l = f.add(near, far.(*net.TCPConn), p)
	} else {
		_ = near.SetLinger(0)
		_ = near.Close()
	}
	if p.began != nil {
		p.began <- l
	}
	if l == nil {
		return
	}
	l.wg.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.links, l)
}

// add begins a link, unless the proxy is closed.
func (f *Faulty) add(near, far *net.TCPConn, p planned) *Link {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		_, _ = near.Close(), far.Close()
		return nil
	}
	l := NewLink(near, far, p.up, p.down)
	f.links[l] = struct{}{}
	return l
}
