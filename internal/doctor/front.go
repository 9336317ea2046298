package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
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
	// Implicit says that TLS begins with the first byte, Proxy that a PROXY header
	// comes before that.
	Implicit, Proxy bool
	// Names are those that clients connect to.
	Names []string
	// Own are the authorities of this Caddy, which its clients have to be given, and
	// OwnFile is where they are.
	Own     []*x509.Certificate
	OwnFile string
}

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
		d.tell(p, StepPort, portFault(PartFront, f.Dial, err), took)
		return false
	}
	if first {
		d.tell(p, StepPort, fine(f.Dial+" is open"), took)
	}
	t := &frontTalk{d: d, f: f, place: p, name: name, first: first}
	cfg := imapauth.Config{Address: f.Address, Mode: imapauth.StartTLS, Trace: t.traced,
		TLS: &tls.Config{ServerName: name, InsecureSkipVerify: true, NextProtos: []string{"imap"}}}
	if f.Implicit {
		cfg.Mode = imapauth.ImplicitTLS
	}
	if f.Proxy {
		cfg.Forward = imapauth.ForwardProxyV2
	}
	t.mode = cfg.Mode
	t.ctx = d.stepwise(ctx)
	defer t.ctx.stop()
	c, err := imapauth.Prepare(t.ctx, conn, &cfg, login.Ends{})
	if err != nil {
		if !t.failed {
			t.say(StepMechanisms, talkFault(err, t.mode), 0)
		}
		return t.fault == NoCertificate
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
		f := talkFault(e.Err, t.mode)
		f.advice = []string{"something else listens here, or the address belongs to another configuration; look who does:", "$ ss -ltnp"}
		if f.fault == HungUp {
			f.advice = append(f.advice, "or the guard has banned this address after wrong passwords: see GET /imap/guard of the admin API")
		}
		t.say(stepOf(e.Step), f, e.Took)
	case !t.first:
	case e.Step == imapauth.StepGreeting:
		t.say(StepGreeting, fine("it says "+quoted(e.Greeting)), e.Took)
	case e.Step == imapauth.StepStartTLS:
		t.say(StepStartTLS, fine("accepted"), e.Took)
	}
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
		t.say(StepCertificate, t.noCertificate(e.Err), e.Took)
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
		return fine("; clients have to be given the authority in " + t.f.OwnFile)
	}
	return finding{status: Warning, fault: CAUnknown, message: "signed by " + issuer(c.certs[len(c.certs)-1]) + ", which this machine does not trust; " + c.describe(),
		advice: []string{"clients that do not know that authority refuse to connect; a public one needs the certificates between in the file, too"}}
}

// noCertificate tells why a handshake failed.
func (t *frontTalk) noCertificate(err error) finding {
	f := talkFault(err, t.mode)
	text := err.Error()
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
