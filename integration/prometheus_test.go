//go:build integration && unix

package integration

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// prometheus is a real one, that scrapes a server every second.
type prometheus struct {
	t    *testing.T
	addr string
}

const prometheusConfig = `
global:
  scrape_interval: 1s
  evaluation_interval: 1s
rule_files: [%q]
scrape_configs:
  - job_name: caddy-imap
    static_configs:
      - targets: [%q]
`

func startPrometheus(t *testing.T, target string) *prometheus {
	t.Helper()
	need(t, "prometheus")
	dir := shortDir(t)
	rules, err := filepath.Abs("../docs/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	p := &prometheus{t: t, addr: freeAddr(t)}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("prometheus",
		"--config.file="+writeFile(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf(prometheusConfig, rules, target)),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+p.addr)
	cmd.Stdout, cmd.Stderr = log, log
	process := startProcess(t, "prometheus", cmd)
	t.Cleanup(func() {
		if err := process.stop(t); err != nil || t.Failed() {
			text, _ := os.ReadFile(log.Name())
			t.Logf("Prometheus ended with %v\n%s", err, text)
		}
	})
	eventually(t, "Prometheus to be ready", func() error {
		if err := process.exited(); err != nil {
			text, _ := os.ReadFile(log.Name())
			t.Fatalf("%v\n%s", err, text)
		}
		resp, err := http.Get("http://" + p.addr + "/-/ready")
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			return fmt.Errorf("it says %s", resp.Status)
		}
		return nil
	})
	return p
}

// get asks the HTTP API, and reads the data of the answer.
func (p *prometheus) get(path string, data any) error {
	resp, err := http.Get("http://" + p.addr + "/api/v1/" + path)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	answer := struct {
		Status, Error string
		Data          any
	}{Data: data}
	if err := json.Unmarshal(body, &answer); err != nil {
		return fmt.Errorf("%w in %s", err, body)
	}
	if answer.Status != "success" {
		return fmt.Errorf("%s: %s", answer.Status, answer.Error)
	}
	return nil
}

// query returns an error unless a query finds something that a graph can show.
func (p *prometheus) query(expr string) error {
	var data struct {
		Result []struct{ Value [2]any }
	}
	if err := p.get("query?query="+url.QueryEscape(expr), &data); err != nil {
		return err
	}
	for _, r := range data.Result {
		if text, ok := r.Value[1].(string); ok && isFigure(figureOf(p.t, text)) {
			return nil
		}
	}
	return fmt.Errorf("it finds %v", data.Result)
}

// dashboardQueries are those of the dashboard, with everything chosen.
func dashboardQueries(t *testing.T) map[string]string {
	t.Helper()
	b, err := os.ReadFile("../docs/grafana-dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ RefID, Expr string }
		}
	}
	if err := json.Unmarshal(b, &dashboard); err != nil {
		t.Fatal(err)
	}
	chosen := strings.NewReplacer("$job", ".*", "$instance", ".*", "$backend", ".*", "$__rate_interval", "1m")
	queries := make(map[string]string)
	for _, panel := range dashboard.Panels {
		for _, target := range panel.Targets {
			queries[panel.Title+" "+target.RefID] = chosen.Replace(target.Expr)
		}
	}
	if len(queries) < 20 {
		t.Fatalf("only %d queries", len(queries))
	}
	return queries
}

// A real Prometheus scrapes the handler metrics, as metrics.md tells. Each query of
// the dashboard finds something, each alert can be worked out, and one rings for an
// upstream that was killed.
func TestPrometheus(t *testing.T) {
	t.Parallel()
	port := freePort(t)
	// The options are those of the global block; this ends it and begins a site.
	m := startMeasured(t, fmt.Sprintf("}\nhttp://127.0.0.1:%d {\n\tbind 127.0.0.1\n\tmetrics\n", port))
	p := startPrometheus(t, fmt.Sprintf("127.0.0.1:%d", port))
	eventually(t, "a first scrape", func() error { return p.query("caddy_imap_sessions or caddy_imap_logins_total") })
	session := dialSecure(t, m.imap)
	session.Want("OK", "LOGIN alice %s", measuredPassword)
	for range 3 {
		session.Want("OK", "NOOP")
	}
	m.attempts(t)
	m.one.Kill()
	wantIn(t, m.doors[0], "127.0.0.2", "alice", measuredPassword)
	for title, expr := range dashboardQueries(t) {
		eventually(t, fmt.Sprintf("data for %s, %s", title, expr), func() error { return p.query(expr) })
	}
	_ = session.Close()

	var groups struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError, State string }
		}
	}
	states := map[string]string{"IMAPUpstreamDown": "pending", "IMAPBackendDown": "inactive"}
	eventually(t, "all alerts to be worked out, and that of the upstream to wait", func() error {
		if err := p.get("rules", &groups); err != nil {
			return err
		}
		rules := 0
		for _, g := range groups.Groups {
			for _, r := range g.Rules {
				rules++
				if r.LastError != "" {
					t.Fatalf("%s: %s", r.Name, r.LastError)
				}
				if state := states[r.Name]; r.Health != "ok" || state != "" && r.State != state {
					return fmt.Errorf("%s is %s and %s", r.Name, r.Health, r.State)
				}
			}
		}
		if rules == 0 {
			return errors.New("there are none")
		}
		return nil
	})
	m.one.Start()
}
