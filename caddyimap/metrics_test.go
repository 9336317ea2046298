package caddyimap

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	dto "github.com/prometheus/client_model/go"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// series are what was gathered, by name and labels as in `x{a="b",c="d"}`. Of a
// histogram there are x_count and x_sum.
type series map[string]float64

// metrics gathers what the registry of the configuration has of ours.
func (c *config) metrics() series {
	c.tb.Helper()
	families, err := c.ctx.GetMetricsRegistry().Gather()
	if err != nil {
		c.tb.Fatal(err)
	}
	found := make(series)
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "caddy_imap_") && !strings.HasPrefix(f.GetName(), "caddy_dovecot_auth_") {
			continue
		}
		for _, m := range f.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := func(suffix string) string { return f.GetName() + suffix + "{" + strings.Join(labels, ",") + "}" }
			switch f.GetType() {
			case dto.MetricType_COUNTER:
				found[name("")] = m.GetCounter().GetValue()
			case dto.MetricType_GAUGE:
				found[name("")] = m.GetGauge().GetValue()
			case dto.MetricType_HISTOGRAM:
				found[name("_count")] = float64(m.GetHistogram().GetSampleCount())
				found[name("_sum")] = m.GetHistogram().GetSampleSum()
			default:
				c.tb.Errorf("%s is a %v", f.GetName(), f.GetType())
			}
		}
	}
	return found
}

// since returns what is not as it was before, as the difference.
func (s series) since(before series) series {
	changed := make(series)
	for name, value := range s {
		if d := value - before[name]; d != 0 {
			changed[name] = d
		}
	}
	return changed
}

// only returns those whose names begin so, without that.
func (s series) only(prefix string) series {
	some := make(series)
	for name, value := range s {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			some[rest] = value
		}
	}
	return some
}

func wantSeries(t *testing.T, what string, got, want series) {
	t.Helper()
	if maps.Equal(got, want) {
		return
	}
	names := slices.Collect(maps.Keys(want))
	for name := range got {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if got[name] != want[name] {
			t.Errorf("%s: %s is %v, want %v", what, name, got[name], want[name])
			continue
		}
		if _, ok := got[name]; !ok {
			t.Errorf("%s: %s is not there", what, name)
		} else if _, ok := want[name]; !ok {
			t.Errorf("%s: %s is there", what, name)
		}
	}
}

// TestLoginMetrics pins that each attempt counts once, as what it was, and is timed
// in those phases that it had.
func TestLoginMetrics(t *testing.T) {
	w := newWorld(t)
	answers := map[string]string{
		"granted": "OK", "denied": "NO [AUTHENTICATIONFAILED] x", "throttled": "NO [LIMIT] x", "unavailable": "NO [INUSE] x",
	}
	p := w.profile()
	p.Login = func(l imaptest.Login) string {
		result, _, _ := strings.Cut(l.User, "-")
		return answers[result]
	}
	c := w.running(w.guarded(strict(), w.start(p).Addr()))
	begun := c.metrics().only(`caddy_imap_logins_total{backend="exchange",`)
	maps.DeleteFunc(begun, func(name string, _ float64) bool { // of other tests
		return !strings.Contains(name, `"PLAIN"`) && !strings.Contains(name, `"LOGIN"`)
	})
	if len(begun) != 16 {
		t.Errorf("counted from the beginning are %v, want four results of two mechanisms of two handlers", begun)
	}
	before := c.metrics()
	for i, result := range []string{"granted", "denied", "throttled", "unavailable"} {
		a := attempt()
		for n := range i + 1 {
			a.User = fmt.Sprintf("%s-%d", result, n) // whom the guard knows nothing of
			if v := c.ref("").Check(t.Context(), a); v.Result.String() != result {
				t.Errorf("%s: %v, %v", result, v.Result, v.Err)
			}
		}
		a.User = result
		if session, _ := c.ref("").open(t.Context(), a); session != nil {
			session.Close()
		}
	}
	again, nameless := attempt(), attempt()
	again.User, nameless.User = "denied", ""
	c.ref("").Check(t.Context(), again)
	c.ref("").Check(t.Context(), nameless)
	got := c.metrics().since(before)
	wantSeries(t, "logins", got.only("caddy_imap_logins_total"), series{
		`{backend="exchange",handler="dovecot_auth",mechanism="PLAIN",result="granted"}`:     1,
		`{backend="exchange",handler="dovecot_auth",mechanism="PLAIN",result="denied"}`:      4,
		`{backend="exchange",handler="dovecot_auth",mechanism="PLAIN",result="throttled"}`:   3,
		`{backend="exchange",handler="dovecot_auth",mechanism="PLAIN",result="unavailable"}`: 4,
		`{backend="exchange",handler="imap",mechanism="PLAIN",result="granted"}`:             1,
		`{backend="exchange",handler="imap",mechanism="PLAIN",result="denied"}`:              1,
		`{backend="exchange",handler="imap",mechanism="PLAIN",result="throttled"}`:           1,
		`{backend="exchange",handler="imap",mechanism="PLAIN",result="unavailable"}`:         1,
	})
	wantSeries(t, "durations", got.only("caddy_imap_login_duration_seconds_count"), series{
		`{backend="exchange",result="granted"}`:     2,
		`{backend="exchange",result="denied"}`:      5,
		`{backend="exchange",result="throttled"}`:   4,
		`{backend="exchange",result="unavailable"}`: 5,
	})
	// What nobody would be asked about does not come to the guard. The guard answers
	// the same wrong password itself.
	wantSeries(t, "phases", got.only("caddy_imap_login_phase_duration_seconds_count"), series{
		`{backend="exchange",phase="guard"}`:     15,
		`{backend="exchange",phase="handshake"}`: 14,
		`{backend="exchange",phase="backend"}`:   14,
	})
}

// TestLostLoginMetrics pins that a login counts for which there is no backend any
// more.
func TestLostLoginMetrics(t *testing.T) {
	w := newWorld(t)
	fake := w.anyAlice()
	app := w.guarded(strict(), fake.Addr())
	app.Backends["gone"] = w.backend(fake.Addr())
	c := w.running(app)
	ref := c.ref("gone")
	next := w.running(w.guarded(strict(), fake.Addr()))
	c.stopOnce()
	before := next.metrics()
	check(t, ref, attempt(), login.Unavailable)
	ref.Refused(t.Context(), attempt(), login.DeniedWith(""))
	wantSeries(t, "logins", next.metrics().since(before).only("caddy_imap_logins_total"), series{
		`{backend="gone",handler="dovecot_auth",mechanism="PLAIN",result="unavailable"}`: 1,
		`{backend="gone",handler="dovecot_auth",mechanism="PLAIN",result="denied"}`:      1,
	})
}

// TestLoginPhases pins whose time is whose: a server that takes its time to be
// ready, one that does with its answer, and a login that waits for the same one.
func TestLoginPhases(t *testing.T) {
	const answerTime = 300 * time.Millisecond
	w := newWorld(t)
	silent := imaptest.NewScript(t, func(c *imaptest.Conn) { c.Rest() })
	p := w.profile()
	arrived := make(chan struct{}, 2)
	p.Login = func(l imaptest.Login) string {
		arrived <- struct{}{}
		time.Sleep(answerTime)
		return "NO [AUTHENTICATIONFAILED] x"
	}
	c := w.running(w.guarded(strict(), silent.Addr(), w.start(p).Addr()))
	before := c.metrics()
	phase := func(name string) time.Duration {
		got := c.metrics().since(before)[`caddy_imap_login_phase_duration_seconds_sum{backend="exchange",phase="`+name+`"}`]
		return time.Duration(got * float64(time.Second))
	}
	leader := make(chan login.Verdict)
	go func() { leader <- c.ref("").Check(t.Context(), attempt()) }()
	<-arrived
	start := time.Now()
	check(t, c.ref(""), attempt(), login.Denied)
	followed := time.Since(start)
	<-leader
	// The next upstream is dialled after a second.
	if d := phase("handshake"); d < time.Second || d > 5*time.Second {
		t.Errorf("handshake: %v", d)
	}
	if d := phase("backend"); d < answerTime || d > answerTime+time.Second {
		t.Errorf("backend: %v", d)
	}
	if d := phase("guard"); d < followed/2 || d > followed+time.Second/2 {
		t.Errorf("guard: %v, and the follower took %v", d, followed)
	}
	whole := c.metrics().since(before)[`caddy_imap_login_duration_seconds_sum{backend="exchange",result="denied"}`]
	parts := (phase("handshake") + phase("backend") + phase("guard")).Seconds()
	if whole < parts || whole > parts+1 {
		t.Errorf("the whole took %v, its parts %v", whole, parts)
	}
}

// TestGuardMetrics pins what is told of the guard.
func TestGuardMetrics(t *testing.T) {
	w := newWorld(t)
	g := strict()
	g.SourceFailures = 5
	p := w.profile()
	p.Login = func(l imaptest.Login) string {
		if l.User == "busy" {
			return "NO [LIMIT] Too many connections, please wait 60 seconds"
		}
		return "NO [AUTHENTICATIONFAILED] x"
	}
	c := w.running(w.guarded(g, w.start(p).Addr()))
	holds := func(accounts, sources float64) {
		t.Helper()
		wantSeries(t, "holds", series{
			"held":   c.metrics()["caddy_imap_guard_held_accounts{}"],
			"banned": c.metrics()["caddy_imap_guard_banned_sources{}"],
		}, series{"held": accounts, "banned": sources})
	}
	holds(0, 0)
	before := c.metrics()
	if _, ok := before["caddy_imap_guard_store_up{}"]; ok {
		t.Error("the store is up that nobody shares")
	}
	ref := c.ref("")
	for i := range 3 {
		check(t, ref, from("198.51.100.1", "alice", fmt.Sprintf("guess-%d", i)), login.Denied)
	}
	holds(1, 0)
	check(t, ref, from("198.51.100.1", "alice", "guess-1"), login.Denied)
	for i := range 2 {
		check(t, ref, from("198.51.100.1", "alice", fmt.Sprintf("more-%d", i)), login.Throttled)
	}
	for i := range 5 {
		check(t, ref, from("127.0.0.1", fmt.Sprintf("user%d", i), "guess"), login.Denied)
	}
	holds(1, 1)
	for range 3 {
		check(t, ref, from("127.0.0.1", "alice", "guess"), login.Throttled)
	}
	cl := serve(t, c.handler(&Handler{InsecureAuth: true}))
	cl.expect("* BYE")
	cl.closed()
	// A trusted client speaks for others.
	cl = serve(t, webmail(c))
	cl.expect("* OK")
	cl.ask("z LOGOUT", "* BYE", "z OK")
	cl.closed()
	wantSeries(t, "refusals", c.metrics().since(before).only("caddy_imap_guard_refusals_total"), series{
		`{reason="remembered"}`:         1,
		`{reason="held"}`:               2,
		`{reason="banned"}`:             3,
		`{reason="banned_at_greeting"}`: 1,
	})
	if lifted, err := c.app.liftAccount(t.Context(), "alice"); !lifted || err != nil {
		t.Errorf("lifted: %v, %v", lifted, err)
	}
	holds(0, 1)
	for i, r := range refusalReasons {
		before := c.metrics()
		countRefusal(fmt.Errorf("wrapped: %w", r.err))
		if got := c.metrics().since(before); len(got) != 1 {
			t.Errorf("reason %d: %v", i, got)
		}
	}
	// A guard that is off says nothing about itself.
	off := w.running(w.guarded(&Guard{Off: true, FailureDelay: 1}, deadAddr(t)))
	if got := off.metrics().only("caddy_imap_guard_"); len(got) > 0 {
		t.Errorf("without a guard: %v", got)
	}
	c.stopOnce()
}

// TestUpstreamMetrics pins what is told of upstreams, that it is gone with them, and
// that counters go on in the next configuration.
func TestUpstreamMetrics(t *testing.T) {
	w := newWorld(t)
	dead, good, drained := deadAddr(t), w.fake(), w.fake()
	app, b := w.pooled(dead, good.Addr(), drained.Addr())
	b.Upstreams[2].Drain = true
	b.HealthChecks = &HealthChecks{Passive: &PassiveHealthChecks{FailDuration: caddy.Duration(time.Hour)}}
	c := w.running(app)
	at := func(addr string) string {
		return fmt.Sprintf(`{backend="exchange",endpoint=%q,upstream=%q}`, addr, addr)
	}
	state := func(state, addr string) string {
		return fmt.Sprintf(`{backend="exchange",state=%q,upstream=%q}`, state, addr)
	}
	first := c.metrics()
	for _, addr := range []string{dead, good.Addr(), drained.Addr()} {
		for _, s := range []string{"up", "down"} {
			if n, ok := first[`caddy_imap_upstream_health_changes_total`+state(s, addr)]; n != 0 || !ok {
				t.Errorf("changes of %s to %s in the beginning: %v, there: %v", addr, s, n, ok)
			}
		}
	}
	asks(t, c.ref(""), good)
	session, v := c.ref("").open(t.Context(), attempt())
	if session == nil {
		t.Fatalf("%v: %v", v.Result, v.Err)
	}
	got := c.metrics()
	wantSeries(t, "up", got.only("caddy_imap_upstream_up"), series{at(dead): 0, at(good.Addr()): 1, at(drained.Addr()): 1})
	wantSeries(t, "draining", got.only("caddy_imap_upstream_draining"), series{at(dead): 0, at(good.Addr()): 0, at(drained.Addr()): 1})
	wantSeries(t, "sessions", got.only("caddy_imap_upstream_sessions"), series{at(dead): 0, at(good.Addr()): 1, at(drained.Addr()): 0})
	wantSeries(t, "changes", got.since(first).only("caddy_imap_upstream_health_changes_total"), series{state("down", dead): 1})

	// What is left of an upstream is its session, and nobody knows how it is.
	other := w.fake()
	app, _ = w.pooled(other.Addr())
	next := w.running(app)
	c.stopOnce()
	got = next.metrics()
	wantSeries(t, "up", got.only("caddy_imap_upstream_up"), series{at(other.Addr()): 1})
	wantSeries(t, "draining", got.only("caddy_imap_upstream_draining"), series{at(other.Addr()): 0})
	wantSeries(t, "sessions", got.only("caddy_imap_upstream_sessions"), series{at(other.Addr()): 0, at(good.Addr()): 1})
	if n := got[`caddy_imap_logins_total{backend="exchange",handler="imap",mechanism="PLAIN",result="granted"}`]; n == 0 {
		t.Error("the logins from before the reload are forgotten")
	}
	session.Close()
	wantSeries(t, "sessions", next.metrics().only("caddy_imap_upstream_sessions"), series{at(other.Addr()): 0})
}

// TestUpstreamBackMetrics pins that coming up counts.
func TestUpstreamBackMetrics(t *testing.T) {
	w := newWorld(t)
	before := w.running(w.guarded(strict(), deadAddr(t))).metrics()
	countHealthChange("exchange", "back.example.org:143", true)
	countHealthChange("exchange", "back.example.org:143", true)
	c := w.running(w.guarded(strict(), deadAddr(t)))
	wantSeries(t, "changes", c.metrics().since(before).only("caddy_imap_upstream_health_changes_total"), series{
		`{backend="exchange",state="up",upstream="back.example.org:143"}`: 2,
	})
}

// TestNothingMeasured pins that a configuration which never starts leaves nothing
// behind that others would show.
func TestNothingMeasured(t *testing.T) {
	w := newWorld(t)
	app := w.guarded(strict(), deadAddr(t))
	app.Backends["never"] = w.backend(deadAddr(t))
	w.load(app).cancel()
	for name := range w.running(w.guarded(strict(), deadAddr(t))).metrics() {
		if strings.Contains(name, `"never"`) {
			t.Errorf("%s is there", name)
		}
	}
}

// TestMetricsCost pins that measuring a login takes no memory.
func TestMetricsCost(t *testing.T) {
	m := newLoginMeasures("exchange")
	a, v := attempt(), login.DeniedWith("")
	if n := testing.AllocsPerRun(100, func() {
		m.count(entranceIMAP, a, v)
		since(m.guard, a.Start)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func BenchmarkMetrics(b *testing.B) {
	m := newLoginMeasures("exchange")
	a, v := attempt(), login.DeniedWith("")
	for b.Loop() {
		since(m.guard, a.Start)
		since(m.handshake, a.Start)
		since(m.answer, a.Start)
		m.count(entranceIMAP, a, v)
	}
}
