package oauthlogin

import (
	"container/list"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"sync"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// maxTokens is how many tokens are kept. The oldest makes room.
const maxTokens = 10_000

// sum is a keyed hash.
type sum [sha256.Size]byte

// holder is for whom a token was got: the user, and the proof that the password is the
// one that it was got with. There is no password and no name in it, and nobody can try
// passwords on it who has not the key, which is the process's own.
type holder struct{ user, proof sum }

// cache keeps tokens.
type cache struct {
	key  []byte
	most int

	mu sync.Mutex
	// order has the entries, the oldest first.
	order   *list.List
	entries map[sum]*list.Element
}

type entry struct {
	holder
	token login.Secret
	// got is when the token was got, and until when it is used.
	got, until time.Time
}

func newCache(most int) *cache {
	c := &cache{key: make([]byte, sha256.Size), most: most, order: list.New(), entries: make(map[sum]*list.Element)}
	_, _ = rand.Read(c.key) // it never fails
	return c
}

func (c *cache) holder(endpoint, user, password string) holder {
	return holder{user: c.sum("user", endpoint, user), proof: c.sum("password", endpoint, user, password)}
}

// sum hashes texts such that no others have the same hash.
func (c *cache) sum(texts ...string) (s sum) {
	h := hmac.New(sha256.New, c.key)
	for _, text := range texts {
		var length [8]byte
		binary.LittleEndian.PutUint64(length[:], uint64(len(text)))
		h.Write(length[:])
		h.Write([]byte(text))
	}
	h.Sum(s[:0])
	return s
}

// get returns the token that a holder got, if it may be used still.
func (c *cache) get(h holder, now time.Time) (login.Secret, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.expire(now)
	element := c.entries[h.user]
	if element == nil {
		return "", false
	}
	e := element.Value.(*entry)
	if !now.Before(e.until) || !hmac.Equal(e.proof[:], h.proof[:]) {
		return "", false
	}
	return e.token, true
}

// put keeps a token in the place of any other of the user.
func (c *cache) put(h holder, token login.Secret, got time.Time, age time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if old := c.entries[h.user]; old != nil {
		c.remove(old)
	}
	for c.order.Len() >= c.most {
		c.remove(c.order.Front())
	}
	c.entries[h.user] = c.order.PushBack(&entry{holder: h, token: token, got: got, until: got.Add(age)})
}

// drop forgets a token, and not another that has taken its place.
func (c *cache) drop(h holder, token login.Secret) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if element := c.entries[h.user]; element != nil && element.Value.(*entry).token == token {
		c.remove(element)
	}
}

// expire forgets what is too old for anybody.
func (c *cache) expire(now time.Time) {
	for e := c.order.Front(); e != nil && now.Sub(e.Value.(*entry).got) >= MaxAge; e = c.order.Front() {
		c.remove(e)
	}
}

func (c *cache) remove(element *list.Element) {
	delete(c.entries, element.Value.(*entry).user)
	c.order.Remove(element)
}
