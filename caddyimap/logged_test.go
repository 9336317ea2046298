package caddyimap

import (
	"bytes"
	"encoding/json"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
)

func init() { caddy.RegisterModule(logWriter{}) }

// logged is what a configuration has logged, as its operator would find it in a
// file.
type logged struct {
	tb  testing.TB
	key string

	mu  sync.Mutex
	buf bytes.Buffer
}

var (
	logs    sync.Map
	logKeys atomic.Int64
)

func newLogged(tb testing.TB) *logged {
	l := &logged{tb: tb, key: strconv.FormatInt(logKeys.Add(1), 10)}
	logs.Store(l.key, l)
	// Whatever a test is about, no line may ever hold the password.
	tb.Cleanup(func() {
		logs.Delete(l.key)
		for _, found := range imaptest.Revealed(l.bytes(), testSecret) {
			tb.Errorf("the log shows %s", found)
		}
	})
	return l
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logged) Close() error { return nil }

func (l *logged) bytes() []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return bytes.Clone(l.buf.Bytes())
}

// line is one line of the log.
type line map[string]any

func (l line) text(field string) string { s, _ := l[field].(string); return s }

// lines are the lines so far that have the level, and the message if that is not
// empty.
func (l *logged) lines(level, msg string) []line {
	l.tb.Helper()
	return parseLines(l.tb, l.bytes(), level, msg)
}

func parseLines(tb testing.TB, log []byte, level, msg string) []line {
	tb.Helper()
	var found []line
	for text := range bytes.Lines(log) {
		var parsed line
		if err := json.Unmarshal(text, &parsed); err != nil {
			tb.Errorf("the log has a line that is no JSON: %v: %s", err, text)
			continue
		}
		if parsed.text("level") == level && (msg == "" || parsed.text("msg") == msg) {
			found = append(found, parsed)
		}
	}
	return found
}

// one is the only line with the level and message.
func (l *logged) one(level, msg string) line {
	l.tb.Helper()
	found := l.lines(level, msg)
	if len(found) != 1 {
		l.tb.Fatalf("%d lines %q at level %s, want 1:\n%s", len(found), msg, level, l.bytes())
	}
	return found[0]
}

// soon is the like for a line that is written a moment after what it tells of.
func (l *logged) soon(level, msg string) line {
	l.tb.Helper()
	becomes(l.tb, "the line "+msg, func() bool { return len(l.lines(level, msg)) > 0 })
	return l.one(level, msg)
}

// logWriter is the log output of these tests.
type logWriter struct {
	Key string `json:"key,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (logWriter) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "caddy.logging.writers.imap_test",
		New: func() caddy.Module { return new(logWriter) },
	}
}

func (w logWriter) String() string    { return "imap_test " + w.Key }
func (w logWriter) WriterKey() string { return w.String() }

func (w logWriter) OpenWriter() (io.WriteCloser, error) {
	l, _ := logs.Load(w.Key)
	return l.(*logged), nil
}

var _ caddy.WriterOpener = logWriter{}
