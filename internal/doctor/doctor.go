package doctor

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Doctor makes checks. It is not safe for concurrent use. All its fields but Tell may
// be left empty.
type Doctor struct {
	// Tell is told of each Check as soon as it is made.
	Tell func(Check)
	// Timeout bounds each step. Default: 8s.
	Timeout time.Duration
	// Login is who logs in. Default: nobody does.
	Login *Login
	// Again asks the operator whether to send a password that was refused once
	// more, with another spelling of the name. Default: it is not sent.
	Again func(user string) bool
	// LookupIP and Dial are the network's. Defaults: those of package net.
	LookupIP func(ctx context.Context, network, host string) ([]netip.Addr, error)
	Dial     func(ctx context.Context, network, address string) (net.Conn, error)

	// granted is the name that a backend has let in; withheld says that the
	// password must not be sent any more.
	granted  string
	withheld bool
	// closed says that a listener of ours for IMAP clients is closed, and open that one
	// is open.
	closed, open bool
}

// Login is somebody who may log in.
type Login struct {
	User   string
	Secret login.Secret
	// Domains are the Windows domains that are known, by their short names, and
	// Domain the one of names without a domain, if it is known.
	Domains map[string]string
	Domain  string
}

const defaultTimeout = 8 * time.Second

func (d *Doctor) timeout() time.Duration {
	if d.Timeout > 0 {
		return d.Timeout
	}
	return defaultTimeout
}

// ErrNoIMAP is the error of a configuration that is none for us.
var ErrNoIMAP = errors.New("there is no imap app in this configuration, and thus no backend")

// Config tells of a configuration, of the error that loading it ended with, and of
// what its adapter has warned of.
func (d *Doctor) Config(file string, err error, warnings ...string) {
	f := fine("loaded, and every module of it set up, as caddy validate does")
	switch {
	case errors.Is(err, ErrNoIMAP):
		f = finding{fault: NoIMAP, message: foreign(err.Error()), advice: []string{"Caddy starts with it, and serves no IMAP: add the app imap and its listeners, as in Caddyfile.example"}}
	case err != nil:
		f = finding{fault: BadConfig, message: foreign(err.Error()), advice: []string{"Caddy would not start with this configuration; mend it first"}}
	}
	p := place{part: PartConfig, address: file}
	d.tell(p, StepLoad, f, 0)
	for _, w := range warnings {
		d.tell(p, StepLoad, finding{status: Warning, message: foreign(w)}, 0)
	}
}

// NoListener tells of a configuration none of whose listeners can be looked at: it has
// none, or their sockets come from somebody else.
func (d *Doctor) NoListener(file string, some bool) {
	f := finding{status: Warning, fault: NoListener, message: "nothing in it listens for IMAP clients or mail servers, so nobody can log in",
		advice: []string{"add listeners with imap or dovecot_auth to layer4, as in Caddyfile.example"}}
	if some {
		f.message = "no listener could be looked at: their sockets come from somebody else, such as systemd"
		f.advice = []string{"connect to them yourself, as docs/start.md shows, or write their addresses as kept/host:port"}
	}
	d.tell(place{part: PartConfig, address: file}, StepLoad, f, 0)
}

// lookup finds the addresses of a host.
func (d *Doctor) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	family := map[string]string{"tcp4": "ip4", "tcp6": "ip6"}[network]
	if family == "" {
		family = "ip"
	}
	if d.LookupIP != nil {
		return d.LookupIP(ctx, family, host)
	}
	return net.DefaultResolver.LookupNetIP(ctx, family, host)
}

// dial connects.
func (d *Doctor) dial(ctx context.Context, network, address string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, d.timeout())
	defer cancel()
	if d.Dial != nil {
		return d.Dial(ctx, network, address)
	}
	return new(net.Dialer).DialContext(ctx, network, address)
}

// patience is a context whose end moves on with each step.
type patience struct {
	context.Context
	timer *time.Timer
	each  time.Duration
	end   context.CancelCauseFunc
}

// stepwise returns a context that is over when a step takes too long.
func (d *Doctor) stepwise(parent context.Context) *patience {
	ctx, cancel := context.WithCancelCause(parent)
	each := d.timeout()
	timer := time.AfterFunc(each, func() { cancel(imapauth.ErrTimeout) })
	return &patience{ctx, timer, each, cancel}
}

// next begins the next step.
func (p *patience) next() { p.timer.Reset(p.each) }

func (p *patience) stop() {
	p.timer.Stop()
	p.end(nil)
}

// resolve looks up a host, and returns its addresses.
func (d *Doctor) resolve(ctx context.Context, p place, network, host, port string) []string {
	if _, err := netip.ParseAddr(host); err == nil {
		return []string{net.JoinHostPort(host, port)}
	}
	start := time.Now()
	found, err := d.lookup(ctx, network, host)
	took := time.Since(start)
	if err != nil || len(found) == 0 {
		d.tell(p, StepName, nameFault(host, err), took)
		return nil
	}
	var addresses []string
	shown := ""
	for i, addr := range found {
		addresses = append(addresses, net.JoinHostPort(addr.Unmap().String(), port))
		if i > 0 {
			shown += ", "
		}
		shown += addr.Unmap().String()
	}
	d.tell(p, StepName, fine(host+" is "+shown), took)
	return addresses
}
