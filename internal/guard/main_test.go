package guard

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Who tries to get in, in these tests.
const (
	office  = "192.0.2.1"
	home    = "192.0.2.77"
	phoneIP = "198.51.100.9"
	thief   = "203.0.113.66"
)

// testConfig is as an operator has it who sets nothing.
func testConfig() *Config {
	return &Config{
		AccountFailures: 4, KnownReserve: 1, Window: 30 * time.Minute,
		SourceFailures: 20, SourceBan: 15 * time.Minute,
		Answers: new(Answers),
	}
}

// world is a guard in front of a backend that writes down what it is asked.
type world struct {
	testing.TB
	*Guard
	cfg *Config

	mu sync.Mutex
	// right are the passwords of accounts, by what they count as.
	right map[string]string
	// answer overrides the backend's answer; nil is as it is.
	answer func(a *login.Attempt) login.Verdict
	// takes is how long an answer takes.
	takes time.Duration
	// denied is when the backend refused somebody; asked is how often it was
	// asked anything.
	denied []time.Time
	asked  int
	// proofs is how many were tried that are good for once.
	proofs int
	// held and bans are the events.
	held, bans int
}

func newWorld(tb testing.TB) *world {
	w := &world{TB: tb, cfg: testConfig(), right: map[string]string{"alice": "right", "bob": "bobs"}}
	w.Guard = w.instance()
	return w
}

// instance returns another guard in front of the same backend.
func (w *world) instance() *Guard {
	return New([]byte("secret"), Events{
		AccountHeld:  func(*login.Attempt, int) { w.mu.Lock(); w.held++; w.mu.Unlock() },
		SourceBanned: func(*login.Attempt, time.Time) { w.mu.Lock(); w.bans++; w.mu.Unlock() },
	})
}

func attempt(user, secret, from string) *login.Attempt {
	a := &login.Attempt{User: user, Secret: login.Secret(secret), Start: time.Now()}
	if from != "" {
		a.Remote = netip.MustParseAddr(from)
	}
	return a
}

// backend answers an attempt.
func (w *world) backend(a *login.Attempt) Ask {
	return func(ctx context.Context, _ bool) login.Verdict {
		if w.takes > 0 {
			select {
			case <-time.After(w.takes):
			case <-ctx.Done():
				return login.UnavailableFor(ctx.Err())
			}
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.asked++
		if w.answer != nil {
			return w.answer(a)
		}
		if want := w.right[w.cfg.Domains.Account(a.User)]; want != "" && want == string(a.Secret) {
			return login.Verdict{Result: login.Granted}
		}
		w.denied = append(w.denied, time.Now())
		return login.DeniedWith("")
	}
}

// open tries to get in, and returns the word for what came of it.
func (w *world) open(user, secret, from string) string {
	a := attempt(user, secret, from)
	return word(w.Open(context.Background(), w.cfg, a, w.backend(a)))
}

func (w *world) check(user, secret, from string) string {
	a := attempt(user, secret, from)
	return word(w.Check(context.Background(), w.cfg, a, w.backend(a)))
}

// word tells apart what the guard and what the backend has decided.
func word(v login.Verdict) string {
	for why, word := range map[error]string{
		ErrHeld: "held", ErrCrowded: "crowded", ErrBanned: "banned", ErrHeldOff: "held off", ErrRemembered: "remembered",
	} {
		if errors.Is(v.Err, why) {
			want := login.Throttled
			if word == "remembered" {
				want = login.Denied
			}
			if v.Result != want || v.Code == "" {
				return "a wrong verdict for " + word
			}
			return word
		}
	}
	return v.Result.String()
}

// expect tries to get in.
func (w *world) expect(want, user, secret, from string) {
	w.Helper()
	if got := w.open(user, secret, from); got != want {
		w.Errorf("%s with %s from %s after %s: %s, want %s", user, secret, from, sinceStart(), got, want)
	}
}

// sinceStart is the time in a bubble of synctest.
func sinceStart() time.Duration {
	return time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
}

func (w *world) expectAsked(want int) {
	w.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.asked != want {
		w.Errorf("the backend was asked %d times, want %d", w.asked, want)
	}
}

// expectBudget fails if more were denied in any window than the budget is.
func (w *world) expectBudget(most int) {
	w.Helper()
	for i := range w.denied {
		if j := i + most; j < len(w.denied) && w.denied[j].Sub(w.denied[i]) < w.cfg.Window {
			w.Errorf("more than %d denied in %s", most, w.denied[j].Sub(w.denied[i]))
			return
		}
	}
}

// expectNothingPending fails if a reservation was not given back.
func (w *world) expectNothingPending(g *Guard) {
	w.Helper()
	for i := range g.memory.accounts {
		g.memory.accounts[i].sweep(func(_ ID, a *account) bool {
			if len(a.pending) > 0 || a.settled != nil {
				w.Errorf("%d reservations were not given back", len(a.pending))
			}
			return true
		})
	}
	for i := range g.memory.sources {
		g.memory.sources[i].sweep(func(_ shortID, s *source) bool {
			if s.crowd != nil {
				w.Errorf("of a source, %d logins are under way and %d wait", len(s.crowd.pending), len(s.crowd.waiting))
			}
			return true
		})
	}
	g.flights.mu.Lock()
	defer g.flights.mu.Unlock()
	if n := len(g.flights.running); n > 0 {
		w.Errorf("%d flights have not landed", n)
	}
}
