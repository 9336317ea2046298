package dovecotauth

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

var errDeadline = errors.New("no verdict before the deadline")

// start begins to check the credentials of a request. It waits while too many
// checks are under way.
func (c *Conn) start(r *request) {
	if r.relay != nil {
		select {
		case c.exchanges <- struct{}{}:
		case <-c.ctx.Done():
			return
		}
	}
	select {
	case c.slots <- struct{}{}:
	case <-c.ctx.Done():
		return
	}
	r.attempt.Start = time.Now()
	var ctx context.Context
	if r.relay != nil {
		ctx, r.cancel = context.WithCancel(c.ctx)
	} else {
		ctx, r.cancel = context.WithDeadline(c.ctx, r.attempt.Start.Add(r.server.deadline()))
	}
	c.mu.Lock()
	if c.closing {
		c.mu.Unlock()
		r.cancel()
		<-c.slots
		return
	}
	c.checking[r.id] = r
	c.running++
	if r.relay != nil {
		c.relaying++
	}
	c.mu.Unlock()
	c.checks.Add(1)
	if r.relay != nil {
		go c.carry(ctx, r)
	} else {
		go c.check(ctx, r)
	}
}

// check asks for a verdict and answers the request, at the deadline at the
// latest: a client that is told nothing for longer takes the server for dead.
func (c *Conn) check(ctx context.Context, r *request) {
	defer c.checks.Done()
	defer c.checked(r)
	defer c.recovered("answering a request")
	release := sync.OnceFunc(func() { <-c.slots })
	defer release()
	defer r.cancel()
	stop := c.whenDone(ctx, func() {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			c.settle(r, login.UnavailableFor(errDeadline))
		}
	})
	v := c.ask(ctx, r)
	c.hold(ctx, r, v, release)
	stop()
	c.settle(r, v)
}

// hold waits until the verdict may be told. Others may be asked about meanwhile,
// unless very many are held already.
func (c *Conn) hold(ctx context.Context, r *request, v login.Verdict, release func()) {
	if r.server.Hold == nil {
		return
	}
	select {
	case c.held <- struct{}{}:
		defer func() { <-c.held }()
		release()
	default:
	}
	r.server.Hold(ctx, &r.attempt, v)
}

// ask returns the verdict of Check, or an unavailable one if that panics.
func (c *Conn) ask(ctx context.Context, r *request) (v login.Verdict) {
	defer func() {
		if p := recover(); p != nil {
			c.logPanic("checking a password", p)
			v = login.UnavailableFor(errPanic)
		}
	}()
	if r.refused == nil {
		v = r.server.Check(ctx, &r.attempt)
		if r.refused == nil { // as it always is where nothing is relayed
			return v
		}
	}
	v = login.DeniedWith("")
	v.Err = r.refused
	if r.server.Refused != nil && r.refused != errMalformed {
		r.server.Refused(ctx, &r.attempt, v)
	}
	return v
}

// settle answers a request, unless it was answered or cancelled before. What becomes of
// it because the connection is reset is not told: clients would take it for a refusal.
func (c *Conn) settle(r *request, v login.Verdict) {
	decided := v.Result == login.Granted || v.Result == login.Denied
	c.mu.Lock()
	if c.checking[r.id] != r {
		c.mu.Unlock()
		return
	}
	if c.closing || c.ctx.Err() != nil {
		delete(c.checking, r.id)
		c.mu.Unlock()
		return
	}
	// A request that waits for its CONT does not count: Postfix abandons those
	// without a word, and it alone would be told a lie by a FAIL.
	if !decided && r.server.OnUnavailable == Disconnect && len(c.checking) == 1 {
		c.closing = true
	}
	disconnect := c.closing
	delete(c.checking, r.id)
	user, refused := r.user(), r.refused
	c.mu.Unlock()
	if disconnect {
		c.out <- nil
		return
	}
	word, fields := verdictWords(v, user)
	switch {
	case refused != nil:
		word, fields = "FAIL", refused.fields
	case v.Result == login.Granted && v.Final != nil:
		fields += "\tresp=" + base64.StdEncoding.EncodeToString(v.Final)
	}
	c.reply(word, r.id, fields)
}

// verdictWords puts a verdict into words. user is the field with the user's name.
func verdictWords(v login.Verdict, user string) (word, fields string) {
	switch v.Result {
	case login.Granted:
		return "OK", user
	case login.Denied:
		switch v.Code {
		case imap.ResponseCodeAuthorizationFailed:
			user += "\tcode=authz_fail"
		case imap.ResponseCodeExpired:
			user += "\tcode=pass_expired\treason=Password expired"
		case imap.ResponseCodeContactAdmin, imap.ResponseCodeNoPerm:
			user += "\tcode=user_disabled"
		}
		return "FAIL", user
	default:
		// The bare word is for clients that know the codes of version 1.1 only.
		return "FAIL", user + "\ttemp\tcode=temp_fail"
	}
}

// port reads a port, which is 0 if it is not known.
func port(text string) uint16 {
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return 0
	}
	return uint16(n)
}

// netipAddr reads the address of a person, without its IPv6 wrapping. The name of a
// network interface behind it is dropped: it is one of the mail server's machine, and
// may be any text, which nobody would expect in an address.
func netipAddr(text string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("parsing an address: %w", err)
	}
	return addr.Unmap().WithZone(""), nil
}
