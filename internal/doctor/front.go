package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Front is one of our own listeners for IMAP clients.
type Front struct {
	// Address is the listener's, as configured, and Backend the name of the backend
	// behind it.
	Address, Backend string
	// Network and Dial say where to connect to. The network is empty if that is not
	// known.
	Network, Dial string
	// Implicit says that TLS begins with the first byte.
	Implicit bool
	// Proxy is from whom a PROXY header is expected before that; nil if from nobody.
	Proxy *Proxied
	// Matched says that it depends on a matcher whether a connection gets there.
	Matched bool
	// ClientAuth says that clients may have to show certificates.
	ClientAuth bool
	// Relayed are the mechanisms that are passed on to the backend. A listener that takes no
	// passwords is well if it offers one of them.
	Relayed []string
	// Names are those that clients connect to.
	Names []string
	// Own are the authorities of this Caddy, which its clients have to be given, and
	// OwnFile is where they are.
	Own     []*x509.Certificate
	OwnFile string
}

// Proxied is from whom a listener takes a PROXY header.
type Proxied struct {
	// Allow are networks whose header is taken, Deny those whose header is not, whatever
	// Allow says, and Others whether that of the rest is.
	Allow, Deny []netip.Prefix
	Others      bool
}

// expects says whether a header has to come from an address. One that is not valid is
// that of a unix socket, where it always has.
func (p *Proxied) expects(from netip.Addr) bool {
	within := func(all []netip.Prefix) bool {
		return slices.ContainsFunc(all, func(net netip.Prefix) bool { return net.Contains(from) })
	}
	switch {
	case p == nil:
		return false
	case !from.IsValid():
		return true
	}
	return !within(p.Deny) && (p.Others || within(p.Allow))
}

// source is the address that a connection comes from.
func source(conn net.Conn) netip.Addr {
	if tcp, ok := conn.LocalAddr().(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// matched is told of a listener that cannot be talked to, and whose matcher may be why.
const matched = "this route has a matcher, which may not let this machine in"

// undialable is told of a listener whose Network is empty.
const undialable = "its socket comes from somebody else, such as systemd, and its address does not stand in the configuration"

// Front checks a listener, with a conversation for each name.
func (d *Doctor) Front(ctx context.Context, f Front) {
	p := place{part: PartFront, name: f.Backend, address: f.Address}
	if f.Network == "" {
		d.tell(p, StepPort, left(undialable), 0)
		return
	}
	names := f.Names
	if len(names) == 0 {
		names = []string{""}
	}
	for i, name := range names {
		if !d.frontName(ctx, p, f, name, i == 0) {
			return
		}
	}
}

// frontName has the conversation that a client has which knows the server by the name.
// All of it is told for the first name, and the certificate for the others. It
// returns false if the others cannot fare better.
func (d *Doctor) frontName(ctx context.Context, p place, f Front, name string, first bool) bool {
	start := time.Now()
	conn, err := d.dial(ctx, f.Network, f.Dial)
	took := time.Since(start)
	if err != nil {
		d.closed = true
		d.tell(p, StepPort, portFault(PartFront, f.Dial, err), took)
		return false
	}
	d.open = true
	from := source(conn)
	if first {
		open := f.Dial + " is open"
		if f.Proxy != nil && !f.Proxy.expects(from) {
			open += "; proxy_protocol takes no header from " + from.String() + ", so none is sent"
		}
		d.tell(p, StepPort, fine(open), took)
	}
	t := &frontTalk{d: d, f: f, place: p, name: name, first: first}
	cfg := imapauth.Config{Address: f.Address, Mode: imapauth.StartTLS, Trace: t.traced, Relayed: f.Relayed,
		TLS: &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"imap"}}}
	if f.Implicit {
		cfg.Mode = imapauth.ImplicitTLS
	}
	if f.Proxy.expects(from) {
		cfg.Forward = imapauth.ForwardProxyV2
	}
	t.mode = cfg.Mode
	t.ctx = d.stepwise(ctx)
	defer t.ctx.stop()
	c, err := imapauth.Prepare(t.ctx, conn, &cfg, login.Ends{})
	if err != nil {
		if !t.failed {
			t.say(StepMechanisms, t.faultOf(err), 0)
		}
		return t.fault == NoCertificate || t.asked
	}
	c.Leave(ctx)
	return true
}

// frontTalk is a conversation with a listener of ours.
type frontTalk struct {
	d      *Doctor
	f      Front
	place  place
	name   string
	mode   imapauth.TLSMode
	first  bool
	ctx    *patience
	failed bool
	fault  Fault
	// asked says that clients have to show a certificate.
	asked bool
}

func (t *frontTalk) say(step Step, f finding, took time.Duration) {
	bad := f.status == "" || f.status == Failed
	t.failed = t.failed || bad
	if bad {
		t.fault = f.fault
	}
	t.d.tell(t.place, step, f, took)
}

func (t *frontTalk) traced(e imapauth.Event) {
	defer t.ctx.next()
	switch {
	case e.Step == imapauth.StepHandshake:
		t.handshake(e)
	case e.Err != nil:
		t.end(stepOf(e.Step), e)
	case !t.first:
	case e.Step == imapauth.StepGreeting:
		t.say(StepGreeting, fine("it says "+quoted(e.Greeting)), e.Took)
	case e.Step == imapauth.StepStartTLS:
		t.say(StepStartTLS, fine("accepted"), e.Took)
	}
}

// end tells of a step that has ended the conversation.
func (t *frontTalk) end(step Step, e imapauth.Event) {
	switch {
	case t.wantsCertificate(e.Err):
		// With TLS 1.3 it is said only after the handshake.
		t.failed, t.asked = true, true
		t.say(StepTLS, fine("clients must show a certificate, and we have none; so far all is well"), e.Took)
	case t.f.Matched:
		t.failed = true
		t.say(step, left(matched), e.Took)
	default:
		t.say(step, t.faultOf(e.Err), e.Took)
	}
}

// wantsCertificate says whether a listener of ours has ended TLS because of client_auth.
// In TLS 1.2 there is no alert for that alone.
func (t *frontTalk) wantsCertificate(err error) bool {
	text := alert(err)
	return strings.Contains(text, "certificate required") || t.f.ClientAuth && (strings.Contains(text, "bad certificate") || strings.Contains(text, "handshake failure"))
}

// faultOf tells why the conversation has ended, with advice for who runs the listener.
func (t *frontTalk) faultOf(err error) finding {
	f := talkFault(err, t.mode)
	if text := alert(err); text != "" {
		f.message = "the TLS handshake failed: " + foreign(text)
	}
	switch f.fault {
	case NotIMAP, ClearFirst, NoStartTLS:
		f.advice = []string{"something else listens here, or the address belongs to another configuration; look who does:", "$ ss -ltnp"}
	case LoginDisabled:
		f.advice = []string{"look at the options mechanisms and capability of the handler imap; of mechanisms that are passed on, clients are offered only what the backend has"}
	default:
		f.advice = []string{"the log of Caddy says why, where it is its own doing; look who listens here:", "$ ss -ltnp",
			"the guard may have banned this address after wrong passwords: see GET /imap/guard of the admin API"}
	}
	return f
}

func stepOf(s imapauth.Step) Step {
	switch s {
	case imapauth.StepCapability:
		return StepCapabilities
	case imapauth.StepStartTLS:
		return StepStartTLS
	default:
		return StepGreeting
	}
}

func (t *frontTalk) handshake(e imapauth.Event) {
	if e.Err != nil {
		if f := t.noCertificate(e.Err); f.fault == NoCertificate {
			t.say(StepCertificate, f, e.Took)
		} else {
			t.end(StepTLS, e)
		}
		return
	}
	if t.first {
		t.say(StepTLS, fine(tls.VersionName(e.TLS.Version)+", "+tls.CipherSuiteName(e.TLS.CipherSuite)), e.Took)
	}
	c := chain{certs: e.TLS.PeerCertificates, name: t.name, now: time.Now()}
	problems := c.problems(t.authority)
	ours := ""
	if len(problems) == 1 && problems[0].status == OK {
		ours, problems = problems[0].message, nil
	}
	if len(problems) > 0 {
		for _, f := range problems {
			switch f.fault {
			case CertExpired:
				f.advice = []string{renewal}
			case CertName:
				f.advice = []string{"name the server with the option hostname of the imap app, so that Caddy gets a certificate for it, or give one in files with the option certificate"}
			}
			t.say(StepCertificate, f, 0)
		}
		return
	}
	f := fine(c.describe() + ours)
	if c.expiresSoon() && !isShortLived(c.certs[0]) {
		f.status, f.fault = Warning, CertExpiresSoon
		f.advice = []string{renewal}
	}
	t.say(StepCertificate, f, 0)
}

const renewal = "Caddy renews its own certificates a while before their end, and its log says why it could not; those in files are renewed by hand, and need a reload"

// isShortLived says that a certificate was never meant to be valid for long, as those
// of Caddy's own authority are, which has them renewed every few hours.
func isShortLived(cert *x509.Certificate) bool {
	return cert.NotAfter.Sub(cert.NotBefore) < 2*expiresSoon
}

// authority tells of a certificate whose authority this machine does not trust.
func (t *frontTalk) authority(c chain) finding {
	own := c
	own.roots = x509.NewCertPool()
	for _, cert := range t.f.Own {
		own.roots.AddCert(cert)
	}
	if own.verify(c.goodTime()) == nil {
		return fine(", renewed by Caddy; clients have to be given the authority in " + t.f.OwnFile)
	}
	return finding{status: Warning, fault: CAUnknown, message: "signed by " + issuer(c.certs[len(c.certs)-1]) + ", which this machine does not trust; " + c.validity(),
		advice: []string{"clients that do not know that authority refuse to connect; a public one needs the certificates between in the file, too"}}
}

// noCertificate tells of a handshake that failed because there is no certificate. The
// finding is empty if it did not.
func (t *frontTalk) noCertificate(err error) finding {
	var f finding
	text := alert(err)
	if strings.Contains(text, "internal error") || strings.Contains(text, "unrecognized name") || strings.Contains(text, "no certificate") {
		who := foreign(t.name)
		if who == "" {
			who = "clients that name no server"
		}
		f = finding{fault: NoCertificate, message: "there is no certificate for " + who, advice: []string{
			"name the server with the option hostname of the imap app, or give a certificate in files with its option certificate",
			"if that is done, Caddy has not got it yet: its log says why; a public authority must reach port 80 or 443 of this machine",
		}}
	}
	return f
}
