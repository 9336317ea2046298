package caddyimap

import (
	"math"
	"net/netip"
	"runtime/debug"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/guard"
)

// clients are the connections of IMAP clients, logged in or not, whatever
// configuration they began with.
var clients = clientConnections{sources: make(map[netip.Addr]int)}

// clientConnections counts connections, all of them and those of each source.
type clientConnections struct {
	mu      sync.Mutex
	all     int
	sources map[netip.Addr]int
	// full tells the operator that there are too many.
	full glue.Seldom
}

// tooMany is why a client is turned away.
type tooMany struct {
	option string
	// told is what the client is told.
	told    string
	refused prometheus.Counter
}

func (e *tooMany) Error() string { return "there are as many connections as " + e.option + " allows" }

var (
	tooManyConnections = newTooMany("max_connections", "Too many connections, try again later.")
	tooManyOfSource    = newTooMany("max_connections_per_source", "Too many connections from your address, try again later.")
)

func newTooMany(option, told string) *tooMany {
	return &tooMany{option, told, connectionsRefused.WithLabelValues(option)}
}

// begin counts a connection, unless there are as many as there may be; a limit of 0
// is none. What it returns is to be called once, when the connection has ended.
// Without a limit it is counted all the same, since the next configuration may have
// one. An address that is not valid has no limit of its own.
func (c *clientConnections) begin(addr netip.Addr, limit, perSource int) (end func(), why *tooMany) {
	source := guard.Source(addr)
	c.mu.Lock()
	defer c.mu.Unlock()
	if perSource > 0 && source.IsValid() && c.sources[source] >= perSource {
		return nil, tooManyOfSource
	}
	if limit > 0 && c.all >= limit {
		return nil, tooManyConnections
	}
	c.all++
	c.sources[source]++
	return func() { c.end(source) }, nil
}

func (c *clientConnections) end(source netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.all--
	if c.sources[source]--; c.sources[source] == 0 {
		delete(c.sources, source)
	}
}

func (c *clientConnections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.all
}

// admit counts a client's connection, by the limits of the newest configuration.
// Who is trusted speaks for many, and who is exempt shares his address with many, so
// these have no limit of their own.
func (r *BackendRef) admit(addr netip.Addr, trusted bool) (end func(), why *tooMany) {
	app, _, _ := r.find()
	if app == nil {
		app = r.own
	}
	perSource := app.MaxConnectionsPerSource
	if trusted || app.Guard.exempts(addr) {
		perSource = 0
	}
	if end, why = clients.begin(addr, app.maxConnections, perSource); why == nil {
		return end, nil
	}
	why.refused.Inc()
	if why == tooManyConnections {
		clients.tellFull(app)
	}
	return nil, why
}

// tellFull tells the operator, once in a while.
func (c *clientConnections) tellFull(app *App) {
	if n, due := c.full.Due(); due {
		app.logger.Warn("clients are turned away, since there are as many connections as max_connections allows; "+
			"see who they are, limit each address with max_connections_per_source, or raise max_connections, if there are memory and open files "+
			"(LimitNOFILE in a systemd unit) for more",
			zap.Int("max_connections", app.maxConnections), zap.Int("turned_away", n))
	}
}

// filesApart are open files that no client's connection needs, such as those of mail
// servers' connections, of the log, and of Caddy itself.
const filesApart = 200

// connectionsByFiles returns how many clients the process has files for, which are
// two for each: one for the client, one for the backend. layer4 v0.1.2 accepts
// nothing any more on a plain listener once a file could not be opened. A limit of 0
// is none, and so is one that nobody reaches.
func connectionsByFiles(files uint64) int {
	switch {
	case files == 0 || files > 1<<31:
		return 0
	case files <= filesApart+2:
		return 1
	}
	return int(files-filesApart) / 2
}

// What the connections of clients are allowed of the memory: a quarter, with a session
// at its more expensive. A quiet one takes half of that. The rest is for those who
// fetch large messages, and for all else that Caddy does.
const (
	memoryShare         = 4
	memoryPerConnection = 64 << 10
)

// connectionsByMemory returns how many clients the process has memory for; 0 is no
// limit, since it is not known how much there is.
func connectionsByMemory(memory uint64) int {
	if memory == 0 {
		return 0
	}
	return int(max(1, min(memory/memoryShare/memoryPerConnection, math.MaxInt32)))
}

// memory returns how many bytes of memory the process may use, or 0 if that is not
// known. Caddy has set GOMEMLIMIT to a little less than what the machine or the control
// group has, unless somebody else has set it.
func memory() uint64 {
	if limit := debug.SetMemoryLimit(-1); limit < math.MaxInt64 {
		return uint64(limit)
	}
	return machineMemory()
}

// defaultConnections is the smaller one of two limits of which 0 is none.
func defaultConnections(byFiles, byMemory int) int {
	if byFiles == 0 || byMemory == 0 {
		return max(byFiles, byMemory)
	}
	return min(byFiles, byMemory)
}

// connectionsRefused counts connections that were turned away. The values of its label
// are names of options.
var connectionsRefused = prometheus.NewCounterVec(prometheus.CounterOpts{
	Namespace: metricsNamespace,
	Subsystem: metricsSubsystem,
	Name:      "connections_refused_total",
	Help:      "Connections of IMAP clients that were turned away because there are too many.",
}, []string{"limit"})
