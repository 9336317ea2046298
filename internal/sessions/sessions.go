// Package sessions knows what is live in the process: the sessions of IMAP
// clients, and the connections on which mail servers ask about passwords. They
// are known from whatever configuration they began with until they end.
package sessions

import (
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// Kind says what an entry of a Registry is.
type Kind string

const (
	// IMAP is a session of an IMAP client that has logged in.
	IMAP Kind = "imap"
	// Auth is a connection of a mail server that asks about passwords.
	Auth Kind = "dovecot_auth"
)

// TLS says how one leg is protected.
type TLS struct {
	// Version and Cipher are the numbers that TLS has for them; a Version of 0 is
	// for no TLS.
	Version, Cipher uint16
}

// Info is what does not change about an entry.
type Info struct {
	// ID is the name that it has in the log.
	ID   string
	Kind Kind
	// User is the name that the user typed; a mail server has none.
	User string
	// Remote is the other end of the connection. RemoteIP is the address of who
	// logged in, if another is known for him.
	Remote   net.Addr
	RemoteIP netip.Addr
	// Backend is the name of the backend, Upstream the address of its server; a
	// mail server has no upstream.
	Backend, Upstream string
	// ClientTLS and BackendTLS are those of the two legs.
	ClientTLS, BackendTLS TLS
	// Started is when it began.
	Started time.Time
}

// Activity is what an entry does at the moment, and has done so far.
type Activity struct {
	// Idle says that nothing is under way. Opaque says that nobody knows, since
	// the session is compressed; Idle and Commands are not to be trusted then.
	Idle, Opaque bool
	// Commands counts the commands of a client, or the requests of a mail server,
	// InFlight those of them that a mail server has no answer to.
	Commands, InFlight int64
	// BytesIn is what came from the client, BytesOut what came for it.
	BytesIn, BytesOut int64
	// Service is what a mail server last asked for, such as "smtp", and PID the
	// process that asks. They are empty while that is not known.
	Service string
	PID     uint32
}

// Live is the connection behind an entry. Its methods may be called at any time
// and from anywhere, and do not block.
type Live interface {
	Activity() Activity
	// Kick ends it where nobody is interrupted: an IMAP client is told BYE with
	// the text when a response is complete, or after grace without it.
	Kick(text string, grace time.Duration)
}

// Entry is one live session or connection.
type Entry struct {
	Info
	Live
	number uint64
}

// Registry holds entries. Its zero value is empty and ready for use.
type Registry struct {
	mu      sync.Mutex
	entries map[*Entry]struct{}
	// numbers counts the entries that there have been; over sums up those that
	// have ended.
	numbers uint64
	over    map[Group]Totals
}

// Add registers a connection, until Remove is called for it.
func (r *Registry) Add(info Info, live Live) *Entry {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.numbers++
	e := &Entry{Info: info, Live: live, number: r.numbers}
	if r.entries == nil {
		r.entries = make(map[*Entry]struct{})
		r.over = make(map[Group]Totals)
	}
	r.entries[e] = struct{}{}
	return e
}

// Remove takes an entry out, whose connection has ended. More than once is once.
func (r *Registry) Remove(e *Entry) {
	a := e.Activity()
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.entries[e]; !ok {
		return
	}
	delete(r.entries, e)
	t := r.over[e.group()]
	t.add(a)
	r.over[e.group()] = t
}

// List returns the entries that match, in the order in which they were added. They
// are asked without a lock.
func (r *Registry) List(match func(*Entry) bool) []*Entry {
	r.mu.Lock()
	list := make([]*Entry, 0, len(r.entries))
	for e := range r.entries {
		list = append(list, e)
	}
	r.mu.Unlock()
	if match != nil {
		list = slices.DeleteFunc(list, func(e *Entry) bool { return !match(e) })
	}
	slices.SortFunc(list, func(a, b *Entry) int {
		if a.number < b.number {
			return -1
		}
		return 1
	})
	return list
}

// Group is what entries are summed up by.
type Group struct {
	Kind    Kind
	Backend string
}

func (i *Info) group() Group { return Group{i.Kind, i.Backend} }

// Totals are sums. Live and Idle count what is live now, the rest is since the
// process began.
type Totals struct {
	Live, Idle                  int
	BytesIn, BytesOut, Commands int64
}

func (t *Totals) add(a Activity) {
	t.BytesIn += a.BytesIn
	t.BytesOut += a.BytesOut
	t.Commands += a.Commands
}

// Totals returns the sums for each backend that there ever was something for. It
// asks each live entry, which is cheap, but not free.
func (r *Registry) Totals() map[Group]Totals {
	r.mu.Lock()
	defer r.mu.Unlock()
	totals := make(map[Group]Totals, len(r.over))
	for g, t := range r.over {
		totals[g] = t
	}
	for e := range r.entries {
		t, a := totals[e.group()], e.Activity()
		t.Live++
		if a.Idle && !a.Opaque {
			t.Idle++
		}
		t.add(a)
		totals[e.group()] = t
	}
	return totals
}
