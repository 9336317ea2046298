package guard

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// model is a guard that remembers everything and is in no hurry.
type model struct {
	cfg     *Config
	tries   []modelTry
	heldOff map[string]time.Time
	banned  map[string]time.Time
	// unban is since when pairs count against a source.
	unban map[string]time.Time
}

// modelTry is an attempt that reached the backend.
type modelTry struct {
	at                    time.Time
	account, secret, from string
	// wrong says that it was refused as such, and counts that it is a failure.
	wrong, counts bool
	result        login.Result
	free, stale   bool
}

// isToken says which secrets are tokens.
func isToken(secret string) bool { return secret >= "3" }

// wasRight says whether a secret was ever let in.
func (m *model) wasRight(account, secret string) bool {
	return slices.ContainsFunc(m.tries, func(t modelTry) bool {
		return t.account == account && t.secret == secret && t.result == login.Granted
	})
}

// decide says what a guard should do, by going through all that ever was.
func (m *model) decide(account, secret, from string, now time.Time) (what string, free, stale bool) {
	if now.Before(m.banned[from]) {
		return "banned", false, false
	}
	if now.Before(m.heldOff[account]) {
		return "held off", false, false
	}
	// How often it was refused since it was granted, and whether it still counts
	// as one that was right.
	var refusals int
	var next time.Time
	var wasRight, failed, wrong, latest, known bool
	var lastFailure time.Time
	for _, t := range m.tries {
		if t.account != account {
			continue
		}
		if t.result == login.Granted {
			known = known || t.from == from && from != "" && now.Sub(t.at) < knownFor
			if isToken(t.secret) == isToken(secret) {
				latest = t.secret == secret
			}
			if t.secret == secret {
				wasRight, failed, wrong, refusals = true, false, false, 0
			}
		}
		if t.secret != secret || !t.wrong {
			continue
		}
		failed, lastFailure = true, t.at
		if t.result == login.Denied {
			wrong = true
			refusals++
			next = t.at.Add(refusedAgain[min(refusals, len(refusedAgain))-1])
			if wasRight && latest {
				next = t.at.Add(grantedAgain)
			} else {
				wasRight = false
			}
		}
	}
	if refusals > 0 && now.Before(next) {
		return "remembered", false, false
	}
	if wasRight && (!failed || (latest || !wrong) && now.Sub(lastFailure) >= grantedAgain) {
		return "ask", true, true
	}
	limit := m.cfg.AccountFailures
	if !known || refusals > 0 {
		limit -= m.cfg.KnownReserve
	}
	if m.failures(account, now) >= limit {
		return "held", false, false
	}
	return "ask", false, refusals > 0
}

// failures counts those of an account that still count.
func (m *model) failures(account string, now time.Time) (n int) {
	for i, t := range m.tries {
		if t.account != account || !t.counts || now.Sub(t.at) >= m.cfg.Window {
			continue
		}
		forgotten := false
		for _, later := range m.tries[i+1:] {
			if later.account != account {
				continue
			}
			if later.result == login.Granted {
				forgotten = forgotten || !t.stale && t.from == later.from && t.from != "" ||
					t.free && t.secret == later.secret && later.free
			}
			// Those of a password that was right count as one.
			forgotten = forgotten || t.free && later.free && later.counts && later.secret == t.secret
		}
		if !forgotten {
			n++
		}
	}
	return n
}

// settle remembers an attempt.
func (m *model) settle(t modelTry, backoff time.Duration) {
	t.counts = t.wrong && !(isToken(t.secret) && m.wasRight(t.account, t.secret))
	m.tries = append(m.tries, t)
	if backoff > 0 {
		m.heldOff[t.account] = t.at.Add(min(backoff, maxBackoff))
	}
	if !t.counts || t.from == "" {
		return
	}
	pairs := make(map[string]bool)
	for _, old := range m.tries {
		if old.from != t.from || !old.at.After(m.unban[t.from]) || t.at.Sub(old.at) >= m.cfg.Window {
			continue
		}
		if old.counts {
			pairs[old.account+" "+old.secret] = true
		}
		if old.result == login.Granted {
			// Who has logged in to an account is forgiven what he got wrong there.
			maps.DeleteFunc(pairs, func(pair string, _ bool) bool { return strings.HasPrefix(pair, old.account+" ") })
		}
	}
	if len(pairs) >= m.cfg.SourceFailures {
		m.banned[t.from] = t.at.Add(m.cfg.SourceBan)
		m.unban[t.from] = t.at
	}
}

// TestModel compares the guard with the model, whatever happens.
func TestModel(t *testing.T) {
	for seed := range uint64(150) {
		synctest.Test(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 0))
			w := newWorld(t)
			w.cfg.SourceFailures = 2 + r.IntN(8)
			w.cfg.AccountFailures = 1 + r.IntN(6)
			w.cfg.KnownReserve = r.IntN(w.cfg.AccountFailures)
			m := &model{cfg: w.cfg, heldOff: make(map[string]time.Time), banned: make(map[string]time.Time), unban: make(map[string]time.Time)}
			for step := range 400 {
				time.Sleep([]time.Duration{0, time.Second, 29 * time.Second, time.Minute, 7 * time.Minute, 31 * time.Minute}[r.IntN(6)])
				if r.IntN(10) == 0 {
					w.right["alice"] = fmt.Sprint(r.IntN(4)) // at most as many as are remembered
				}
				if r.IntN(30) == 0 {
					w.Guard.Snapshot() // which forgets
				}
				account := []string{"alice", "bob"}[r.IntN(2)]
				secret, from := fmt.Sprint(r.IntN(6)), []string{"", office, home, thief}[r.IntN(4)]
				v := login.Verdict{Result: login.Granted}
				switch mood := r.IntN(12); {
				case mood == 0:
					v = login.UnavailableFor(errPanic)
				case mood == 1:
					v = login.ThrottledFor("LIMIT", time.Duration(r.IntN(100))*time.Second, errPanic)
					v.Suspect = r.IntN(2) == 0
				case w.right[account] != secret:
					v = login.DeniedWith("")
				}
				w.answer = func(*login.Attempt) login.Verdict { return v }

				now := time.Now()
				what, free, stale := m.decide(account, secret, from, now)
				want := what
				if what == "ask" {
					want = v.Result.String()
					m.settle(modelTry{at: now, account: account, secret: secret, from: from, wrong: v.Result == login.Denied || v.Suspect,
						result: v.Result, free: free, stale: stale}, v.Backoff)
				}
				a := attempt(account, secret, from)
				if isToken(secret) {
					a.Mechanism = login.XOAuth2
				}
				if got := word(w.Open(t.Context(), w.cfg, a, w.backend(a))); got != want {
					t.Fatalf("seed %d, step %d, after %s: %s with %s from %q: %s, want %s", seed, step, sinceStart(), account, secret, from, got, want)
				}
			}
			w.expectNothingPending(w.Guard)
		})
	}
}
