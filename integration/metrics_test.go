//go:build integration && unix

package integration

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/redistest"
)

// scrape is what a server exposes of our metrics.
type scrape struct {
	text   string
	types  map[string]string             // by metric
	labels map[string]map[string]bool    // by metric, without le
	values map[string]map[string]float64 // by name of the series and its labels
}

var (
	scrapedType   = regexp.MustCompile(`^# TYPE (\w+) (\w+)$`)
	scrapedSeries = regexp.MustCompile(`^(\w+)(?:\{(.*)\})? (\S+)$`)
	scrapedLabel  = regexp.MustCompile(`(\w+)="((?:[^"\\]|\\.)*)"`)
	histogramPart = regexp.MustCompile(`_(bucket|sum|count)$`)
)

// Scrape asks the admin API.
func (c *caddyServer) Scrape() *scrape {
	c.t.Helper()
	s := &scrape{types: make(map[string]string), labels: make(map[string]map[string]bool), values: make(map[string]map[string]float64)}
	for line := range strings.Lines(c.request(http.MethodGet, "/metrics", "", "")) {
		if !strings.Contains(line, "caddy_imap_") && !strings.Contains(line, "caddy_dovecot_") {
			continue
		}
		s.text += line
		line = strings.TrimSuffix(line, "\n")
		if m := scrapedType.FindStringSubmatch(line); m != nil {
			s.types[m[1]] = m[2]
		}
		m := scrapedSeries.FindStringSubmatch(line)
		if m == nil {
			continue
		}
		value, err := strconv.ParseFloat(m[3], 64)
		if err != nil {
			c.t.Fatalf("%q: %v", line, err)
		}
		name := m[1]
		if base := histogramPart.ReplaceAllString(name, ""); s.types[base] == "histogram" {
			name = base
		}
		if s.labels[name] == nil {
			s.labels[name] = make(map[string]bool)
		}
		for _, l := range scrapedLabel.FindAllStringSubmatch(m[2], -1) {
			if l[1] != "le" {
				s.labels[name][l[1]] = true
			}
		}
		if s.values[m[1]] == nil {
			s.values[m[1]] = make(map[string]float64)
		}
		s.values[m[1]][m[2]] = value
	}
	return s
}

// sum adds up the series of a name whose labels hold all the words, and says
// whether there are any.
func (s *scrape) sum(name string, words ...string) (sum float64, found bool) {
series:
	for labels, value := range s.values[name] {
		for _, word := range words {
			if !strings.Contains(labels, word) {
				continue series
			}
		}
		sum, found = sum+value, true
	}
	return sum, found
}

func (s *scrape) want(t *testing.T, value float64, name string, words ...string) {
	t.Helper()
	if got, found := s.sum(name, words...); got != value || !found {
		t.Errorf("%s %q is %v, found: %v; want %v", name, words, got, found, value)
	}
}

// notLess fails if a counter has gone down since.
func (s *scrape) notLess(t *testing.T, before *scrape) {
	t.Helper()
	for name, series := range before.values {
		base := histogramPart.ReplaceAllString(name, "")
		if s.types[base] != "histogram" && s.types[name] != "counter" {
			continue
		}
		for labels, was := range series {
			if now, ok := s.values[name][labels]; !ok || now < was {
				t.Errorf("%s{%s} was %v and is %v", name, labels, was, now)
			}
		}
	}
}

// documentedMetric is a row of the tables of metrics.md.
var documentedMetric = regexp.MustCompile("(?m)^\\| `(caddy_\\w+)` \\| (\\w+) \\| (.*?) ?\\| .*\\|$")

// measured is a server with all that can be measured: two Dovecots, a store, and
// listeners for clients and for a mail server.
type measured struct {
	*caddyServer
	one, two *dovecot
	imap     string
	doors    []door
	config   func(upstreams string, more string) string
}

const measuredPassword = "Measured-Horse-77"

func startMeasured(t *testing.T, more string) *measured {
	t.Helper()
	need(t, "dovecot", "promtool", "prometheus", "redis-server")
	ca := imaptest.NewCA(t)
	set := dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}})}
	users := map[string]string{"alice": secret(measuredPassword), "bob": secret(measuredPassword)}
	m := &measured{one: startDovecot(t, set, users), two: startDovecot(t, set, users), imap: freeAddr(t)}
	imaps, auth := freeAddr(t), freeAddr(t)
	redis := redistest.Start(t)
	m.config = func(upstreams, more string) string {
		return site{
			Guard:   "failure_delay 10ms\naccount_failures 10\nstore redis {\naddress " + redis.Addr + "\n}",
			Backend: upstream(upstreams, ca) + "\nfail_duration 1h",
			IMAP:    "kept/" + m.imap, IMAPS: "kept/" + imaps, Auth: "kept/" + auth,
		}.String() + more
	}
	m.caddyServer = startCaddy(t, m.config(m.one.IMAP()+" "+m.two.IMAP(), more))
	awaitCertificate(t, m.imap)
	m.awaitStore(true)
	m.doors = doors(imaps, auth)
	return m
}

// attempts are logins that are right and wrong, by all ways.
func (m *measured) attempts(t *testing.T) {
	t.Helper()
	for _, d := range m.doors {
		wantIn(t, d, "127.0.0.2", "alice", measuredPassword)
		want(t, d, "127.0.0.2", "bob", nextGuess(), "that it is wrong", denied)
	}
	guess := nextGuess()
	for range 2 {
		want(t, m.doors[0], "127.0.0.2", "nobody", guess, "that it is wrong", denied)
	}
}

// What a server exposes is what metrics.md says, in names, types and labels, and
// has the values that belong to what was done. It is so in a configuration without
// web sites, over the admin API's socket, and after a reload.
func TestMetrics(t *testing.T) {
	m := startMeasured(t, "")
	m.attempts(t)
	session := dialSecure(t, m.imap)
	session.Want("OK", "LOGIN alice %s", measuredPassword)
	session.Want("OK", "NOOP")
	var first *scrape
	eventually(t, "the other sessions to be over", func() error {
		first = m.Scrape()
		if n, _ := first.sum("caddy_imap_sessions"); n != 1 {
			return fmt.Errorf("there are %v", n)
		}
		return nil
	})
	first.want(t, 1, "caddy_imap_commands_total")
	first.want(t, float64(len("t3 NOOP\r\n")), "caddy_imap_relayed_bytes_total", `direction="in"`)
	first.want(t, 2, "caddy_imap_logins_total", `handler="imap"`, `result="granted"`)
	first.want(t, 3, "caddy_imap_logins_total", `handler="imap"`, `result="denied"`)
	first.want(t, 1, "caddy_imap_logins_total", `handler="dovecot_auth"`, `result="granted"`)
	first.want(t, 1, "caddy_dovecot_auth_requests_total", `service="smtp"`, `result="denied"`)
	first.want(t, 1, "caddy_imap_guard_refusals_total", `reason="remembered"`)
	first.want(t, 1, "caddy_imap_guard_store_up")
	first.want(t, 2, "caddy_imap_upstream_up")
	first.want(t, 1, "caddy_imap_upstream_sessions", m.one.IMAP())
	first.want(t, 3, "caddy_imap_login_duration_seconds_count", `result="granted"`)
	first.want(t, 6, "caddy_imap_login_phase_duration_seconds_count", `phase="backend"`)
	first.want(t, 7, "caddy_imap_login_phase_duration_seconds_count", `phase="guard"`)

	// One of the two dies, and a login finds out.
	m.one.Kill()
	wantIn(t, m.doors[0], "127.0.0.2", "alice", measuredPassword)
	second := m.Scrape()
	second.want(t, 0, "caddy_imap_upstream_up", m.one.IMAP())
	second.want(t, 1, "caddy_imap_upstream_up", m.two.IMAP())
	second.want(t, 1, "caddy_imap_upstream_health_changes_total", `state="down"`, m.one.IMAP())
	second.notLess(t, first)

	// The dead one is taken out.
	m.Load(m.config(m.two.IMAP(), ""))
	m.awaitStore(true)
	m.attempts(t)
	third := m.Scrape()
	third.notLess(t, second)
	third.want(t, 4, "caddy_imap_logins_total", `handler="imap"`, `result="granted"`)
	third.want(t, 1, "caddy_imap_upstream_up")
	if _, found := third.sum("caddy_imap_upstream_up", m.one.IMAP()); found {
		t.Error("the health of an upstream is exposed that is gone")
	}
	_ = session.Close()
	m.one.Start()

	page, err := os.ReadFile("../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*scrape{first, third} {
		documented := make(map[string]bool)
		for _, row := range documentedMetric.FindAllStringSubmatch(string(page), -1) {
			documented[row[1]] = true
			if s.types[row[1]] != row[2] {
				t.Errorf("%s is documented as a %s, and exposed as %q", row[1], row[2], s.types[row[1]])
			}
			labels := slices.Sorted(maps.Keys(s.labels[row[1]]))
			if got := "`" + strings.Join(labels, "`, `") + "`"; len(labels) == 0 && row[3] != "" || len(labels) > 0 && sorted(row[3]) != got {
				t.Errorf("%s is documented with the labels %s, and exposed with %s", row[1], row[3], got)
			}
		}
		for name := range s.types {
			if !documented[name] {
				t.Errorf("%s is exposed, and not documented", name)
			}
		}
	}
	for _, word := range []string{"alice", "bob", "nobody", "127.0.0.2"} {
		if strings.Contains(third.text, word) {
			t.Errorf("the metrics tell of %s", word)
		}
	}
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(third.text)
	if out, err := lint.CombinedOutput(); err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}

	// Without the app there is nothing left.
	m.Load("")
	if s := m.Scrape(); len(s.values) > 0 {
		t.Errorf("without the app there are %v", s.values)
	}
}

// sorted puts names between backticks in order.
func sorted(list string) string {
	names := strings.Split(list, ", ")
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// figureOf reads a value as Prometheus writes it.
func figureOf(t *testing.T, text string) float64 {
	t.Helper()
	f, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// isFigure says whether a graph could show a value.
func isFigure(f float64) bool { return !math.IsNaN(f) && !math.IsInf(f, 0) }

// promtool checks the alerts, and when they ring.
func TestAlertRules(t *testing.T) {
	need(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "../docs/alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	rules, err := os.ReadFile("../docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("alerts_test.yml")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		all := strings.Count(string(tests), "alertname: "+m[1]+"\n")
		silent := strings.Count(string(tests), "alertname: "+m[1]+"\n        exp_alerts: []\n")
		if silent == 0 || silent == all {
			t.Errorf("%s is tested %d times, and to be silent %d times; want both", m[1], all, silent)
		}
	}
}
