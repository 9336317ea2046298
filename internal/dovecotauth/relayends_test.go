package dovecotauth

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// TestRelayTimes pins the deadline, which is that of the backend, and how long a client
// may take.
func TestRelayTimes(t *testing.T) {
	run := func(name string, b *backend, f func(t *testing.T, p *peer)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := b.start(t)
				f(t, p)
				_ = p.hangUp()
				if n := b.running(); n != 0 {
					t.Errorf("%d exchanges go on", n)
				}
			})
		})
	}
	slow := scram(yes)
	slow.delay = DefaultDeadline - time.Second
	run("both slow", slow, func(t *testing.T, p *peer) {
		p.authScram(1, "")
		time.Sleep(relayTimeout - time.Second)
		p.send("CONT\t1\t" + b64(scramProof) + "\n")
		time.Sleep(DefaultDeadline - time.Second)
		p.expect("CONT\t1\t" + b64(scramFinal) + "\n")
		time.Sleep(relayTimeout - time.Second)
		p.send("CONT\t1\t\n")
		p.expect("OK\t1\tuser=user\n")
	})
	hangs := scram(yes)
	hangs.delay = time.Hour
	run("the backend hangs", hangs, func(t *testing.T, p *peer) {
		p.authScram(1, "")
		time.Sleep(time.Second)
		p.send("CONT\t1\t" + b64(scramProof) + "\n")
		time.Sleep(DefaultDeadline - 1)
		p.expect("")
		time.Sleep(time.Nanosecond)
		p.expect("FAIL\t1\tuser=user\ttemp\tcode=temp_fail\n")
		p.send("CONT\t1\t\n")
		p.expect("FAIL\t1\treason=Authentication request timed out\n")
	})
	dawdler := scram(yes)
	run("the client says nothing", dawdler, func(t *testing.T, p *peer) {
		p.authScram(1, "")
		time.Sleep(relayTimeout - 1)
		p.expect("")
		time.Sleep(time.Nanosecond)
		p.expect("")
		dawdler.ended(t, login.ErrCancelled)
		p.send("CONT\t1\t" + b64(scramProof) + "\n")
		p.expect("FAIL\t1\treason=Authentication request timed out\n")
		p.authScram(1, "")
	})
	late := scram(yes)
	run("the client says nothing to the last words", late, func(t *testing.T, p *peer) {
		p.authScram(1, "")
		p.send("CONT\t1\t" + b64(scramProof) + "\n")
		p.expect("CONT\t1\t" + b64(scramFinal) + "\n")
		time.Sleep(relayTimeout)
		p.expect("")
		p.send("CONT\t1\t\n")
		p.expect("FAIL\t1\treason=Authentication request timed out\n")
	})
	impatient := scram(yes)
	impatient.patience = time.Second
	run("the backend does not wait", impatient, func(t *testing.T, p *peer) {
		p.authScram(1, "")
		time.Sleep(time.Second)
		p.expect("FAIL\t1\tuser=user\ttemp\tcode=temp_fail\n")
		impatient.ended(t, context.DeadlineExceeded)
		p.authScram(1, "") // the id is free
		p.send("CONT\t1\t" + b64(scramProof) + "\n")
		p.expect("CONT\t1\t" + b64(scramFinal) + "\n")
	})
}

// TestRelayEnds pins what ends an exchange in its middle, and that the backend hears of
// it at once.
func TestRelayEnds(t *testing.T) {
	run := func(name string, b *backend, f func(t *testing.T, p *peer, c *Conn)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := b.relaying()
				s.OnUnavailable = Disconnect
				p, c := begin(t, s)
				p.authScram(1, "")
				f(t, p, c)
				_ = p.hangUp()
			})
		})
	}
	b := scram(yes)
	run("CANCEL", b, func(t *testing.T, p *peer, _ *Conn) {
		p.send("CANCEL\t1\n")
		p.expect("")
		b.ended(t, login.ErrCancelled)
	})
	thinks := scram(yes)
	thinks.delay = time.Second
	run("CANCEL after the proof", thinks, func(t *testing.T, p *peer, _ *Conn) {
		p.send("CONT\t1\t" + b64(scramProof) + "\nCANCEL\t1\n")
		p.expect("")
		if thinks.running() != 1 {
			t.Error("the check does not go on")
		}
		time.Sleep(time.Minute)
		p.expect("")
		thinks.ended(t)
	})
	gone := scram(yes)
	run("a client that hangs up", gone, func(t *testing.T, p *peer, _ *Conn) {
		_ = p.hangUp()
		gone.ended(t, login.ErrCancelled) // Exim tells in no other way that its client does not go on
		p.served <- nil
	})
	retired := scram(yes)
	run("a connection that is retired, since a mechanism is gone", retired, func(t *testing.T, p *peer, c *Conn) {
		c.Adopt(&Server{Check: retired.check})
		time.Sleep(retireTimeout + time.Second) // a password would have had less time
		p.send("CONT\t1\t" + b64(scramProof) + "\n")
		p.expect("CONT\t1\t" + b64(scramFinal) + "\n")
		p.send("CONT\t1\t\n")
		p.retired("OK\t1\tuser=user\n")
		p.served <- nil
	})
	thinking := scram(yes)
	thinking.delay = time.Second
	run("a connection that is retired after the proof", thinking, func(t *testing.T, p *peer, c *Conn) {
		p.send("CONT\t1\t" + b64(scramProof) + "\n")
		p.expect("")
		c.Retire()
		time.Sleep(time.Second)
		p.expect("CONT\t1\t" + b64(scramFinal) + "\n")
		p.send("CONT\t1\t\n")
		p.retired("OK\t1\tuser=user\n")
		p.served <- nil
	})
	called := scram(yes)
	run("a connection that is retired, and an exchange that is called off", called, func(t *testing.T, p *peer, c *Conn) {
		c.Retire()
		p.expect("")
		p.send("CANCEL\t1\n")
		p.retired("")
		called.ended(t, login.ErrCancelled)
		p.served <- nil
	})
	waits := scram(yes)
	run("a connection that is retired, and a client that says nothing", waits, func(t *testing.T, p *peer, c *Conn) {
		time.Sleep(time.Second)
		c.Retire()
		p.send(auth(2, "bob")) // it is not kept waiting for that
		p.expect("OK\t2\tuser=bob\n")
		time.Sleep(relayTimeout - time.Second - 1)
		p.expect("")
		time.Sleep(time.Nanosecond)
		p.retired("")
		waits.ended(t, login.ErrCancelled)
		p.served <- nil
	})
	dawdles := scram(yes)
	run("a connection that is retired, and another exchange", dawdles, func(t *testing.T, p *peer, c *Conn) {
		c.Retire()
		time.Sleep(relayTimeout / 2)
		p.authScram(2, "")
		p.send("CONT\t1\t" + b64(scramProof) + "\n")
		p.expect("CONT\t1\t" + b64(scramFinal) + "\n")
		time.Sleep(relayTimeout/2 - 1)
		p.expect("")
		time.Sleep(time.Nanosecond)
		p.retired("")
		p.served <- nil
	})
	others := scram(yes)
	run("unavailable for another", others, func(t *testing.T, p *peer, _ *Conn) {
		p.send(auth(2, "up")) // u is for unavailable, and no other check is under way
		p.expectClosed("")
		others.ended(t, context.Canceled)
		p.served <- nil
	})
	unexpected := scram(yes)
	unexpected.delay = time.Second
	run("a CONT too many", unexpected, func(t *testing.T, p *peer, _ *Conn) {
		p.send("CONT\t1\t" + b64(scramProof) + "\nCONT\t1\t\n")
		p.expect("FAIL\t1\treason=Unexpected continuation\n")
		time.Sleep(time.Minute)
		p.expect("")
	})
	twice := scram(yes)
	run("an id that is in use", twice, func(t *testing.T, p *peer, _ *Conn) {
		p.send("AUTH\t1\tXOAUTH2\tservice=smtp\n")
		p.expectClosed("")
		p.served <- nil
	})
}

// TestRelayResumedLate pins that an answer which has waited for its turn changes nothing
// about an exchange that ended with its connection meanwhile.
func TestRelayResumedLate(t *testing.T) {
	c := scram(yes).relaying().NewConn(nil)
	r := &request{id: 1, relay: &relayed{conn: c, answers: make(chan answer, 1), idle: true}}
	c.ctx = t.Context()
	c.relaying = 1
	c.drop(r)
	c.checked(r)
	c.resume(r, []byte(scramProof))
	if len(c.checking)+c.running+c.relaying+len(c.slots) != 0 {
		t.Errorf("%d are under check, %d run, %d are relayed, %d places are taken", len(c.checking), c.running, c.relaying, len(c.slots))
	}
}
