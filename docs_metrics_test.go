package caddyimap_test

import (
	"encoding/json"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"
)

const (
	metricsPage   = "docs/metrics.md"
	dashboardFile = "docs/grafana-dashboard.json"
	alertsFile    = "docs/alerts.yml"
)

// measuredConfig is one in which all is measured that can be.
const measuredConfig = `{"apps": {
	"imap": {"backends": {"x": {"upstreams": [{"dial": "a"}]}}, "guard": {"store": {"store": "redis", "addresses": ["127.0.0.1:6379"]}}},
	"layer4": {"servers": {"s": {"listen": ["127.0.0.1:0"], "routes": [{"handle": [{"handler": "imap"}]}, {"handle": [{"handler": "dovecot_auth"}]}, {"handle": [{"handler": "dovecot_userdb"}]}]}}}
}}`

// metric is a metric of the page.
type metric struct {
	name, kind string
	labels     []string
}

// documentedMetrics returns those of all tables of the page.
func documentedMetrics(t *testing.T) (found []metric) {
	t.Helper()
	page := read(t, metricsPage)
	for _, heading := range []string{"Logins", "The guard", "Sessions", "Upstreams", "Mail servers"} {
		for _, row := range table(t, page, heading, "Metric") {
			found = append(found, metric{codeSpans(row[0])[0], row[1], codeSpans(row[2])})
		}
	}
	return found
}

// isOurs says whether a metric is one of ours, and not of Caddy itself.
func isOurs(name string) bool {
	return strings.HasPrefix(name, "caddy_imap_") || strings.HasPrefix(name, "caddy_dovecot_")
}

var descText = regexp.MustCompile(`^Desc\{fqName: "(\w+)", help: "([^"]*)", unit: "", constLabels: \{\}, variableLabels: \{([\w,]*)\}\}$`)

// TestMetricsPage compares metrics.md with what the code registers, in both
// directions: names and labels, the reasons and the results.
func TestMetricsPage(t *testing.T) {
	ctx, err := caddy.ProvisionContext(quiet(t, []byte(measuredConfig)))
	if err != nil {
		t.Fatal(err)
	}
	for _, app := range []string{"imap", "layer4"} {
		if _, err := ctx.App(app); err != nil {
			t.Fatal(err)
		}
	}
	registry := ctx.GetMetricsRegistry()
	descs := make(chan *prometheus.Desc, 1000) // more than there are
	registry.Describe(descs)
	close(descs)
	registered := make(map[string][]string)
	var names []string
	for desc := range descs {
		m := descText.FindStringSubmatch(desc.String())
		if m == nil {
			if strings.Contains(desc.String(), `"caddy_imap_`) || strings.Contains(desc.String(), `"caddy_dovecot_`) {
				t.Errorf("cannot read %s", desc)
			}
			continue
		}
		if !isOurs(m[1]) {
			continue
		}
		names = append(names, m[1])
		registered[m[1]] = strings.FieldsFunc(m[3], func(r rune) bool { return r == ',' })
		if !strings.HasSuffix(m[2], ".") {
			t.Errorf("%s: the help %q is no sentence", m[1], m[2])
		}
	}
	var documented []string
	for _, m := range documentedMetrics(t) {
		documented = append(documented, m.name)
		same(t, "labels of "+m.name, m.labels, registered[m.name])
		suffix := map[string]string{"counter": "_total", "histogram": "_seconds"}[m.kind]
		if !strings.HasSuffix(m.name, suffix) || m.kind == "gauge" && strings.HasSuffix(m.name, "_total") {
			t.Errorf("%s is no name for a %s", m.name, m.kind)
		}
	}
	same(t, "metrics", documented, names)

	// What can be 0 is there from the beginning.
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string][]string)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				values[f.GetName()+" "+l.GetName()] = append(values[f.GetName()+" "+l.GetName()], l.GetValue())
			}
		}
	}
	page := read(t, metricsPage)
	var reasons []string
	for _, row := range table(t, page, "Why the guard refuses", "`reason`") {
		reasons = append(reasons, codeSpans(row[0])...)
	}
	same(t, "reasons", reasons, values["caddy_imap_guard_refusals_total reason"])
	var results []string
	for _, row := range table(t, page, "What the labels say", "Label") {
		if row[0] == "`result`" {
			results = codeSpans(row[1])
		}
	}
	same(t, "results", results, values["caddy_dovecot_auth_requests_total result"])
}

// Parts of PromQL, once strings and ranges have been taken out.
var (
	promOpaque   = regexp.MustCompile(`"[^"]*"|\[[^\]]*\]`)
	promGrouping = regexp.MustCompile(`\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)`)
	promWord     = regexp.MustCompile(`[a-zA-Z_:][a-zA-Z0-9_:]*`)
	promTerm     = regexp.MustCompile(`(` + promWord.String() + `)\s*(\{[^}]*\}|\()?`)
	promKeywords = []string{"and", "or", "unless", "bool", "offset"}
)

// checkPromQL looks whether an expression names only metrics that there are, and
// labels that these have. It returns the names, and all labels of these metrics.
func checkPromQL(t *testing.T, where, expr string, known []metric) (names, labels []string) {
	t.Helper()
	expr = promOpaque.ReplaceAllString(expr, "")
	var grouped []string
	for _, m := range promGrouping.FindAllStringSubmatch(expr, -1) {
		grouped = append(grouped, promWord.FindAllString(m[1], -1)...)
	}
	expr = promGrouping.ReplaceAllString(expr, "")
	for _, m := range promTerm.FindAllStringSubmatch(expr, -1) {
		if m[2] == "(" || slices.Contains(promKeywords, m[1]) {
			continue
		}
		found, ok := findMetric(known, m[1])
		if !ok {
			t.Errorf("%s: there is no metric %s", where, m[1])
			continue
		}
		for _, label := range promWord.FindAllString(m[2], -1) {
			if !slices.Contains(found.labels, label) {
				t.Errorf("%s: %s has no label %s", where, m[1], label)
			}
		}
		names, labels = append(names, found.name), append(labels, found.labels...)
	}
	if len(names) == 0 {
		t.Errorf("%s: no metric in it", where)
	}
	for _, label := range grouped {
		if !slices.Contains(labels, label) {
			t.Errorf("%s: no metric in it has the label %s", where, label)
		}
	}
	return names, labels
}

// findMetric finds a metric by a name of its series, with the labels that these
// have, those of the scrape included.
func findMetric(known []metric, series string) (metric, bool) {
	for _, m := range known {
		labels := append([]string{"job", "instance"}, m.labels...)
		switch {
		case m.kind == "histogram" && series == m.name+"_bucket":
			return metric{m.name, m.kind, append(labels, "le")}, true
		case m.kind == "histogram" && (series == m.name+"_sum" || series == m.name+"_count"),
			m.kind != "histogram" && series == m.name:
			return metric{m.name, m.kind, labels}, true
		}
	}
	return metric{}, false
}

var (
	labelValues = regexp.MustCompile(`^label_values\((.*), (\w+)\)$`)
	legendLabel = regexp.MustCompile(`\{\{(\w+)\}\}`)
)

// TestDashboard compares the dashboard with the page: it names only what there is,
// and leaves nothing out.
func TestDashboard(t *testing.T) {
	type target struct {
		Datasource struct{ UID string }
		Expr       string
		Legend     string `json:"legendFormat"`
	}
	var dashboard struct {
		SchemaVersion int
		Templating    struct {
			List []struct {
				Name, Type, Definition string
				Query                  json.RawMessage
			}
		}
		Panels []struct {
			ID          int
			Title, Type string
			GridPos     struct{ H, W, X, Y int }
			Datasource  struct{ UID string }
			FieldConfig struct{ Defaults struct{ Unit string } }
			Targets     []target
		}
	}
	if err := json.Unmarshal([]byte(read(t, dashboardFile)), &dashboard); err != nil {
		t.Fatal(err)
	}
	if dashboard.SchemaVersion < 37 {
		t.Errorf("schema version %d is older than Grafana 10", dashboard.SchemaVersion)
	}
	known := documentedMetrics(t)
	variables := []string{"__rate_interval"}
	for _, v := range dashboard.Templating.List {
		variables = append(variables, v.Name)
		if v.Type == "datasource" {
			continue
		}
		m := labelValues.FindStringSubmatch(v.Definition)
		if m == nil || !strings.Contains(string(v.Query), m[2]) {
			t.Errorf("variable %s: %s, %s", v.Name, v.Definition, v.Query)
			continue
		}
		if _, labels := checkPromQL(t, "variable "+v.Name, m[1], known); !slices.Contains(labels, m[2]) {
			t.Errorf("variable %s: no label %s", v.Name, m[2])
		}
	}
	used := regexp.MustCompile(`\$(\w+)`)
	var shown []string
	taken := make(map[[2]int]string)
	ids := make(map[int]bool)
	for _, p := range dashboard.Panels {
		if ids[p.ID] {
			t.Errorf("%s: the id %d is taken", p.Title, p.ID)
		}
		ids[p.ID] = true
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := taken[at]; ok || at[0] >= 24 {
					t.Fatalf("%s is where %q is, or outside", p.Title, other)
				}
				taken[at] = p.Title
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.FieldConfig.Defaults.Unit == "" && p.Type != "state-timeline" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("%s: it has no unit, no query, or not the data source that is chosen", p.Title)
		}
		for _, target := range p.Targets {
			for _, m := range used.FindAllStringSubmatch(target.Expr, -1) {
				if !slices.Contains(variables, m[1]) {
					t.Errorf("%s: no variable %s", p.Title, m[1])
				}
			}
			names, labels := checkPromQL(t, p.Title, target.Expr, known)
			shown = append(shown, names...)
			for _, m := range legendLabel.FindAllStringSubmatch(target.Legend, -1) {
				if !slices.Contains(labels, m[1]) {
					t.Errorf("%s: no label %s for the legend", p.Title, m[1])
				}
			}
			if p.Type != "stat" && target.Legend == "" {
				t.Errorf("%s: no legend", p.Title)
			}
		}
	}
	for _, m := range known {
		if !slices.Contains(shown, m.name) {
			t.Errorf("the dashboard does not show %s", m.name)
		}
	}
}

var (
	alertRule  = regexp.MustCompile(`(?m)^      - alert: (\w+)\n        expr: (?:\|\n((?:          .*\n)+)|(.*)\n)`)
	alertName  = regexp.MustCompile(`\balert: `)
	alertLabel = regexp.MustCompile(`\$labels\.(\w+)`)
)

// TestAlerts compares the alerts with the page: which there are, and that they name
// only what there is.
func TestAlerts(t *testing.T) {
	known := documentedMetrics(t)
	text := read(t, alertsFile)
	var names []string
	rules := alertRule.FindAllStringSubmatchIndex(text, -1)
	for i, m := range rules {
		name, expr := text[m[2]:m[3]], ""
		if m[4] >= 0 {
			expr = text[m[4]:m[5]]
		} else {
			expr = text[m[6]:m[7]]
		}
		names = append(names, name)
		end := len(text)
		if i+1 < len(rules) {
			end = rules[i+1][0]
		}
		_, labels := checkPromQL(t, name, expr, known)
		for _, label := range alertLabel.FindAllStringSubmatch(text[m[1]:end], -1) {
			if !slices.Contains(labels, label[1]) {
				t.Errorf("%s: no label %s", name, label[1])
			}
		}
	}
	if n := len(alertName.FindAllString(text, -1)); n != len(names) {
		t.Fatalf("%d of %d alerts can be read", len(names), n)
	}
	var documented []string
	for _, row := range table(t, read(t, metricsPage), "Alerts", "Alert") {
		documented = append(documented, codeSpans(row[0])...)
	}
	same(t, "alerts", documented, names)
}
