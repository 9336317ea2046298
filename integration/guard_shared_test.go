//go:build integration && unix

package integration

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imaptest"
	"github.com/caddy-imap/caddy-imap/internal/redistest"
)

// What an instance says of its store.
const (
	storeUsed   = "the guard's store is used"
	storeSilent = "the guard's store gives no answer"
)

// awaitStore waits until the store is used, or is not.
func (c *caddyServer) awaitStore(used bool) {
	c.t.Helper()
	eventually(c.t, "the guard to change its mind about the store", func() error {
		if up := len(c.LogLines(storeUsed)) > len(c.LogLines(storeSilent)); up != used {
			return errors.New("it has not")
		}
		return nil
	})
}

// storePassword is that of Caddy in Redis.
const storePassword = "Store-Of-All-80"

// instances are two servers with one storage and one Redis.
type instances struct {
	t       *testing.T
	d       *dovecot
	redis   *redistest.Server
	servers [2]*caddyServer
	ways    [2][]door
	storage string
}

func startInstances(t *testing.T, passwords map[string]string) *instances {
	t.Helper()
	need(t, "dovecot", "redis-server", "redis-cli")
	ca := imaptest.NewCA(t)
	in := &instances{t: t, redis: redistest.Start(t), storage: filepath.Join(shortDir(t), "shared")}
	in.redis.Do(append([]string{"acl", "setuser"}, documentedACL(t, secret(storePassword))...)...)
	in.d = startDovecot(t, dovecotSettings{Cert: ca.Issue(imaptest.Leaf{Names: []string{"127.0.0.3"}}), Extra: everySpelling}, passwords)
	for i := range in.servers {
		addr, imaps, auth := freeAddr(t), freeAddr(t), freeAddr(t)
		in.servers[i] = startCaddy(t, site{
			Globals: "\tstorage file_system " + in.storage,
			Guard:   "failure_delay 10ms\ndomain D d\nstore redis {\naddress " + in.redis.Addr + "\nusername caddy\npassword " + storePassword + "\n}",
			Backend: upstream(in.d.IMAP(), ca), IMAP: addr, IMAPS: imaps, Auth: auth, AuthOptions: "allow_delegates",
		}.String())
		awaitCertificate(t, addr)
		in.ways[i] = doors(imaps, auth)
	}
	in.await(true)
	return in
}

// documentedACL is what guard.md says that Caddy has to be allowed in Redis.
func documentedACL(t *testing.T, password string) []string {
	t.Helper()
	page, err := os.ReadFile("../docs/guard.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		if rule, ok := strings.CutPrefix(line, "user "); ok {
			return strings.Fields(strings.Replace(rule, "PASSWORD", password, 1))
		}
	}
	t.Fatal("guard.md has no ACL")
	return nil
}

func (in *instances) await(used bool) {
	in.t.Helper()
	for _, c := range in.servers {
		c.awaitStore(used)
	}
}

// silences counts how often an instance had no answer from the store.
func (in *instances) silences() (n int) {
	for _, c := range in.servers {
		n += len(c.LogLines(storeSilent))
	}
	return n
}

// both are the ways into the two of them by turns.
func (in *instances) both() []door {
	return []door{in.ways[0][0], in.ways[1][1], in.ways[1][0], in.ways[0][1]}
}

// guess has addresses guess the password of an account, once by each of the ways, and
// returns how many of the guesses Dovecot has refused.
func (in *instances) guess(ways []door, addresses int, names ...string) int {
	in.t.Helper()
	before := in.d.Denied()
	// Few at a time: a machine that is too busy to ask the store in time counts
	// alone, as it should, and has nothing to do with this test.
	attack{doors: ways, spellings: names, addresses: addresses, atOnce: 4}.run(in.t)
	return in.d.Denied() - before
}

// Two instances that count together let as many wrong passwords through as one. While
// their store is away each lets through as many again, and when it is back they agree,
// about what either of them has counted meanwhile, too.
//
// A machine that is too busy to ask the store in time has them count alone, as they
// should, and is tried again.
func TestGuessingAtTwoInstances(t *testing.T) {
	for i := range 5 {
		asked := true
		if t.Run(strconv.Itoa(i), func(t *testing.T) { asked = guessAtTwoInstances(t) }); asked {
			return
		}
	}
	t.Error("the machine was always too busy to ask the store within its time")
}

// guessAtTwoInstances returns false if the store was not asked in time.
func guessAtTwoInstances(t *testing.T) bool {
	password := secret("Owner-Of-All-81")
	passwords := passwordOfAll(password)
	for _, user := range []string{"bob", "carol", "dora"} {
		passwords[user] = password
	}
	in := startInstances(t, passwords)
	const most = accountFailures - knownReserve
	const home, few = "127.0.9.1", 5
	a, b := in.ways[0], in.ways[1]
	wantIn(t, a[0], home, "alice", password)

	names := spellings
	quiet := in.silences()
	got := in.guess(in.both(), 100, names...)
	if in.silences() == quiet && got != most {
		t.Errorf("the two have let %d guesses through, want %d", got, most)
	}
	together := got
	// The other one knows from where the owner comes, and not what his password is.
	wantIn(t, b[0], home, "alice", password)
	wantIn(t, b[1], "127.0.8.1", "alice", password)
	wantIn(t, a[1], "127.0.8.2", `D\alice`, password)
	if in.silences() != quiet {
		t.Log("the machine is too busy to ask the store within its time")
		return false
	}

	in.redis.Kill()
	var alone [2]int
	for i, ways := range in.ways {
		if alone[i] = in.guess(ways, few, names...); alone[i] > most {
			t.Errorf("without the store instance %d has let %d more guesses through, want %d at most", i, alone[i], most)
		}
		if got := in.guess(ways, few, "carol"); got != most {
			t.Errorf("without the store instance %d has let %d guesses through, want %d", i, got, most)
		}
		wantIn(t, ways[0], "127.0.8.3", "alice", password)
	}
	if got := in.guess(a, few, "dora"); got != most {
		t.Errorf("without the store one instance has let %d guesses through, want %d", got, most)
	}
	in.await(false)

	in.redis.Restart()
	in.redis.Do(append([]string{"acl", "setuser"}, documentedACL(t, secret(storePassword))...)...)
	start := time.Now()
	in.await(true)
	figure(t, "together %d guesses reached Dovecot; without Redis %d and %d more; agreed again %v after Redis was back",
		together, alone[0], alone[1], time.Since(start).Round(100*time.Millisecond))
	quiet = in.silences()
	for _, account := range [][]string{names, {"carol"}, {"dora", "Dora@D"}} {
		if got := in.guess(in.both(), few, account...); got != 0 && in.silences() == quiet {
			t.Errorf("when the store was back, %d more guesses at %s reached Dovecot", got, account[0])
		}
	}
	if got := in.guess(in.both(), few, "bob", `D\bob`); got != most && in.silences() == quiet {
		t.Errorf("when the store was back, %d guesses at bob reached Dovecot, want %d", got, most)
	}
	for i, c := range in.servers {
		wantIn(t, in.ways[i][0], "127.0.8.4", "alice", password)
		if held := c.Held(); len(held.Accounts) != 4 || len(held.Sources) != 0 {
			t.Errorf("instance %d holds %+v, want four accounts and no source", i, held)
		}
	}
	// What is lifted at one is lifted at both.
	in.servers[0].request(http.MethodDelete, "/imap/guard/accounts/BOB", "application/json", "")
	in.servers[1].request(http.MethodDelete, "/imap/guard/sources/127.0.10.1", "application/json", "")
	if got := in.guess(b, few, "bob"); got != most && in.silences() == quiet {
		t.Errorf("when the hold was lifted, %d guesses at bob reached Dovecot, want %d", got, most)
	}
	in.wantNothingStored(password, "alice", "carol", "127.0.9.1", "127.0.10.1")
	return true
}

// wantNothingStored looks for words where the guard keeps what it has counted.
func (in *instances) wantNothingStored(words ...string) {
	in.t.Helper()
	for _, c := range in.servers {
		c.Stop() // it writes its last snapshot
	}
	stored := []byte(in.redis.Do("--scan"))
	keys := len(stored)
	for _, kind := range []string{"account", "source", "ban"} {
		script := `local out = {} for _, k in ipairs(redis.call('keys', '*:' .. ARGV[1] .. ':*')) do out[#out+1] = redis.call('dump', k) end return out`
		stored = append(stored, in.redis.Do("--no-raw", "eval", script, "0", kind)...)
	}
	files := 0
	err := filepath.WalkDir(filepath.Join(in.storage, "imap"), func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		stored, files = append(append(stored, path...), b...), files+1
		return err
	})
	// The key and a snapshot of each instance.
	if err != nil || files < 3 || keys == 0 {
		in.t.Errorf("in the storage are %d files, %v; in Redis %d bytes of keys", files, err, keys)
	}
	for _, found := range imaptest.Revealed(stored, append(secrets(), words...)...) {
		in.t.Errorf("the guard has stored %s", found)
	}
}
