package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-sasl"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Backend is one upstream of a backend.
type Backend struct {
	// Name is the backend's. It is empty if it has none.
	Name string
	// Config is what logins there are done with.
	Config *imapauth.Config
	// Rename makes the name that the backend wants of the one that a user types; nil
	// if they are the same.
	Rename func(*login.Attempt) (*login.Attempt, login.Verdict)
	// Token makes the attempt with a token of a renamed one with a password; nil if the
	// backend takes passwords. The verdict is Granted if there is a token.
	Token func(context.Context, *login.Attempt) (*login.Attempt, login.Verdict)
}

// Backend checks an upstream, from its name to a login. If the name has several
// addresses, each of them is checked, since each may be another server.
func (d *Doctor) Backend(ctx context.Context, b Backend) {
	p := place{part: PartBackend, name: b.Name, address: b.Config.Address}
	network := b.Config.Network
	if network == "" {
		network = "tcp"
	}
	if b.Config.Mode == imapauth.NoTLS && network != "unix" && !isLoopback(b.Config.Address) {
		d.tell(p, StepTLS, finding{status: Warning, fault: ClearText, message: "tls off: passwords and mail go there in clear text",
			advice: []string{"set tls starttls, or tls implicit"}}, 0)
	}
	addresses := []string{b.Config.Address}
	if host, port, err := net.SplitHostPort(b.Config.Address); err == nil && network != "unix" {
		addresses = d.resolve(ctx, p, network, host, port)
	}
	for _, address := range addresses {
		if len(addresses) > 1 {
			p.endpoint = address
		}
		d.endpoint(ctx, p, b, network, address)
	}
}

// endpoint checks one address of an upstream.
func (d *Doctor) endpoint(ctx context.Context, p place, b Backend, network, address string) {
	start := time.Now()
	conn, err := d.dial(ctx, network, address)
	took := time.Since(start)
	if err != nil {
		d.tell(p, StepPort, portFault(PartBackend, address, err), took)
		return
	}
	d.tell(p, StepPort, fine(address+" is open"), took)
	t := &talk{d: d, b: b, parent: ctx, place: p, network: network, address: address}
	t.cfg = *b.Config
	t.cfg.Trace = t.traced
	if t.cfg.TLS != nil {
		// A session that is resumed shows no certificate.
		t.cfg.TLS = t.cfg.TLS.Clone()
		t.cfg.TLS.ClientSessionCache = nil
		t.cfg.Shares = nil
	}
	if c := t.prepare(conn); c != nil {
		t.login(c)
	}
}

func isLoopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// talk is a conversation with an upstream.
type talk struct {
	d     *Doctor
	b     Backend
	place place
	cfg   imapauth.Config
	// network and address are where it goes to.
	network, address string
	// parent is the context of all, and ctx that of the step that goes on.
	parent context.Context
	ctx    *patience

	// spoken is called when the port has said something.
	spoken func()

	greeting string
	caps     []string
	// passwords says that users with a password can be logged in.
	passwords bool
	// failed says that what ended the conversation has been told.
	failed bool
	// user is who is tried, others are the spellings that are left, and sent is the
	// name that the backend is told.
	user, sent string
	others     []string
	// told and probed say what there has been a verdict about.
	told, probed bool
}

// prepare brings the connection to where somebody could log in, and returns nil if
// that fails.
func (t *talk) prepare(conn net.Conn) *imapauth.Client {
	t.ctx = t.d.stepwise(t.parent)
	defer t.ctx.stop()
	if t.cfg.Mode != imapauth.ImplicitTLS {
		looking, done := make(chan struct{}), make(chan struct{})
		t.spoken = sync.OnceFunc(func() { close(looking) })
		go t.suspectTLS(looking, done)
		defer func() {
			t.spoken()
			t.ctx.stop()
			<-done
		}()
	}
	var offered []string
	t.cfg.Offered = func(mechanisms []string) { offered = mechanisms }
	c, err := imapauth.Prepare(t.ctx, conn, &t.cfg, login.Ends{})
	if err == nil {
		t.mechanisms(offered)
		return c
	}
	if !t.failed {
		step := StepMechanisms
		if t.caps == nil {
			step = StepGreeting
		}
		t.say(step, talkFault(err, t.cfg.Mode), 0)
	}
	return nil
}

func (t *talk) say(step Step, f finding, took time.Duration) {
	t.failed = t.failed || f.status == "" || f.status == Failed
	t.d.tell(t.place, step, f, took)
}

// traced is told of each step of the conversation.
func (t *talk) traced(e imapauth.Event) {
	defer t.ctx.next()
	switch e.Step {
	case imapauth.StepGreeting:
		t.greeted(e)
	case imapauth.StepCapability:
		if e.Err != nil {
			t.say(StepCapabilities, talkFault(e.Err, t.cfg.Mode), e.Took)
			return
		}
		t.list(e)
	case imapauth.StepStartTLS:
		if e.Err != nil {
			t.say(StepStartTLS, talkFault(e.Err, t.cfg.Mode), e.Took)
			return
		}
		t.say(StepStartTLS, fine("accepted"), e.Took)
	case imapauth.StepHandshake:
		t.handshake(e)
	case imapauth.StepLogin, imapauth.StepProbe:
		t.verdict(e)
	}
}

// errTLSFirst says that a silent port waits for TLS.
var errTLSFirst = errors.New("the port begins with TLS")

// suspectTLS ends the conversation if nothing is said for a while, and the port turns out
// to wait for TLS. There is no need to be patient with it.
func (t *talk) suspectTLS(spoken <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	wait := time.NewTimer(t.d.timeout() / 8)
	defer wait.Stop()
	select {
	case <-spoken:
	case <-wait.C:
		if t.beginsWithTLS(t.ctx) {
			t.ctx.end(errTLSFirst)
		}
	}
}

func (t *talk) greeted(e imapauth.Event) {
	if t.spoken != nil {
		t.spoken()
	}
	if e.Err != nil {
		f := talkFault(e.Err, t.cfg.Mode)
		if errors.Is(e.Err, errTLSFirst) || t.cfg.Mode != imapauth.ImplicitTLS && f.fault == HungUp && t.beginsWithTLS(t.parent) {
			f = finding{fault: TLSFirst, message: "this port begins with TLS, and the connection began in clear text",
				advice: []string{"set tls implicit (with --to: --tls implicit), or use the port with STARTTLS, usually 143"}}
		}
		t.say(StepGreeting, f, e.Took)
		return
	}
	t.greeting = e.Greeting
	t.say(StepGreeting, greeted(e.Greeting), e.Took)
	if len(e.Caps) > 0 {
		e.Took = 0
		t.list(e)
	}
}

// beginsWithTLS finds out whether the silent port waits for a handshake.
func (t *talk) beginsWithTLS(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, t.d.timeout())
	defer cancel()
	conn, err := t.d.dial(ctx, t.network, t.address)
	if err != nil {
		return false
	}
	defer conn.Close()
	// Nothing is sent to whoever this is.
	return tls.Client(conn, &tls.Config{InsecureSkipVerify: true, ServerName: "localhost"}).HandshakeContext(ctx) == nil
}

// list tells of capabilities.
func (t *talk) list(e imapauth.Event) {
	t.caps = e.Caps
	where := "before TLS: "
	if e.Inside {
		where = "inside TLS: "
	}
	t.say(StepCapabilities, fine(where+foreign(strings.Join(e.Caps, " "))), e.Took)
}

func (t *talk) handshake(e imapauth.Event) {
	certs := refused(e.Err)
	if e.Err != nil && len(certs) == 0 {
		f := talkFault(e.Err, t.cfg.Mode)
		if f.fault == Unavailable {
			f.fault = TLSFailed
		}
		t.say(StepTLS, f, e.Took)
		return
	}
	agreed := "the server answers, and shows a certificate"
	if e.TLS != nil {
		certs = e.TLS.PeerCertificates
		agreed = tls.VersionName(e.TLS.Version) + ", " + tls.CipherSuiteName(e.TLS.CipherSuite)
	}
	t.say(StepTLS, fine(agreed), e.Took)
	c := chain{certs: certs, roots: t.cfg.TLS.RootCAs, name: t.cfg.TLS.ServerName, now: time.Now()}
	problems := c.problems(privateCA(t.cfg.Address, t.cfg.Mode))
	switch {
	case t.cfg.TLS.InsecureSkipVerify:
		t.say(StepCertificate, finding{status: Warning, fault: NotVerified,
			message: "not verified, by tls_insecure_skip_verify: anybody on the way can collect passwords; it is " + c.describe(),
			advice:  []string{"use tls_trust_pool and tls_server_name instead"}}, 0)
	case e.Err != nil && len(problems) == 0:
		t.say(StepCertificate, finding{fault: TLSFailed, message: foreign(e.Err.Error()),
			advice: []string{"look at what the server sends:",
				"$ openssl s_client -connect " + t.cfg.Address + starttls(t.cfg.Mode) + " -showcerts </dev/null"}}, 0)
	case e.Err == nil:
		// It was verified with what is configured, which may know more than we do.
		f := fine(c.describe())
		if c.expiresSoon() {
			f.status, f.fault, f.advice = Warning, CertExpiresSoon, []string{"have it renewed"}
		}
		t.say(StepCertificate, f, 0)
	default:
		for _, f := range problems {
			t.say(StepCertificate, f, 0)
		}
	}
}

// mechanisms tells how users can be logged in, given what is offered of what is passed on.
func (t *talk) mechanisms(offered []string) {
	var ways []string
	can := mechanisms(t.caps)
	switch {
	case t.cfg.Token != "" && !has(t.caps, imap.AuthCap(t.cfg.Token)):
		t.say(StepMechanisms, talkFault(fmt.Errorf("%w: AUTH=%s", imapauth.ErrNoTokens, t.cfg.Token), t.cfg.Mode), 0)
	case t.cfg.Token != "":
		ways = append(ways, "tokens can be shown with AUTHENTICATE "+t.cfg.Token)
	case len(can) > 0:
		ways = append(ways, "passwords can be sent with "+strings.Join(can, ", "))
	}
	t.passwords = len(ways) > 0
	if len(offered) > 0 {
		ways = append(ways, "clients can log in themselves with "+strings.Join(offered, ", "))
	}
	t.say(StepMechanisms, fine(strings.Join(ways, "; ")), 0)
	missing := slices.DeleteFunc(slices.Clone(t.cfg.Relayed), func(m string) bool { return slices.Contains(offered, m) })
	if len(missing) > 0 {
		t.say(StepMechanisms, finding{status: Warning, fault: NotOffered,
			message: "clients are not offered " + strings.Join(missing, ", ") + ", which a handler's option mechanisms names, since this server does not have it",
			advice:  []string{"switch it on there, or take it away from mechanisms"}}, 0)
	}
}

// mechanisms says how passwords can be sent.
func mechanisms(caps []string) (can []string) {
	if has(caps, imap.AuthCap(sasl.Plain)) {
		can = append(can, "AUTHENTICATE PLAIN")
	}
	if has(caps, imap.AuthCap(sasl.Login)) {
		can = append(can, "AUTHENTICATE LOGIN")
	}
	if !has(caps, imap.CapLoginDisabled) {
		can = append(can, "LOGIN")
	}
	return can
}

func has(caps []string, name imap.Cap) bool {
	return slices.ContainsFunc(caps, func(c string) bool { return strings.EqualFold(c, string(name)) })
}
