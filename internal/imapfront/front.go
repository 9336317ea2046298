// Package imapfront is the server's side of an IMAP session before login: from
// the greeting to the LOGIN or AUTHENTICATE that lets the user in.
//
// Nothing that it says comes from a backend, and no password is invited or
// accepted before TLS stands (RFC 3501 section 6.2, RFC 8314, RFC 7817).
package imapfront

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

const (
	// maxBadCommands ends a conversation that is none, and one of a client that goes on
	// logging in without TLS.
	maxBadCommands = 3
	// maxCommands bounds what a client may ask before it has logged in. It costs nearly
	// nothing to ask, and an answer each time.
	maxCommands = 100
	// writeTimeout bounds every write; what we say before login is short.
	writeTimeout = 10 * time.Second
	// protocol is our name in ALPN.
	protocol = "imap"
	// handshakeTimeout bounds a TLS handshake within the login timeout.
	handshakeTimeout = 15 * time.Second
)

// Errors of Serve. All of them are the client's doing.
var (
	ErrTooManyBad      = errors.New("too many bad commands")
	ErrTooManyCommands = errors.New("too many commands before the login")
	ErrTooManyFailures = errors.New("too many failed logins")
	ErrLogout          = errors.New("the client logged out")
	ErrBanned          = errors.New("the client's address is banned")
	ErrNotIMAP         = errors.New("the client does not speak IMAP")
	ErrInjection       = errors.New("plaintext behind STARTTLS")
)

// front is one conversation.
type front struct {
	cfg *Config
	id  string
	// peer is the client; remote is where somebody logs in from, which only a
	// trusted client may say is elsewhere; local is what the client connected to.
	peer, remote, local netip.AddrPort

	conn net.Conn
	r    *imapwire.Reader
	out  []byte
	tls  *tls.ConnectionState
	// broken is why nothing can be written any more.
	broken error
	// deadline is when the client must have logged in.
	deadline time.Time
	// commands counts all commands, faults bad ones, failures refused logins.
	commands, faults, failures int
	// interrupted is closed when ctx is done, and nobody sets deadlines because of
	// that any more.
	interrupted chan struct{}
	// session is set by the login that ends the conversation.
	session *Session
}

// Serve talks to a client until it has logged in, is gone, or ctx is done. It
// does not own the connection: the caller closes c.Conn, whatever comes back,
// and recovers from panics: one of cfg.Open or cfg.TLS is passed on.
// The error, if any, is the cause of ctx or the client's fault, and then belongs
// into a debug log.
func Serve(ctx context.Context, cfg *Config, c Client) (*Session, error) {
	peer := netip.AddrPortFrom(c.Remote, c.RemotePort)
	f := &front{
		cfg: cfg, id: c.ID, peer: peer, remote: peer, local: c.Local, conn: c.Conn, tls: c.TLS,
		deadline: time.Now().Add(cfg.LoginTimeout),
	}
	handedOver := false
	defer func() {
		if f.session != nil && !handedOver { // even after a panic
			f.session.Backend.Close()
		}
	}()
	interrupted, err := f.within(ctx)
	if f.session == nil {
		return nil, err
	}
	if interrupted {
		err = errors.Join(err, context.Cause(ctx))
	}
	if err == nil {
		err = f.conn.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, err
	}
	handedOver = true
	return f.session, nil
}

// within holds the conversation until ctx is done: then whatever read or write
// is going on ends. When it returns, nobody is left who could touch the
// connection.
func (f *front) within(ctx context.Context) (interrupted bool, err error) {
	conn := f.conn
	f.interrupted = make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(f.interrupted)
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
	defer func() {
		if interrupted = !stop(); interrupted {
			<-f.interrupted
		}
	}()
	if err := f.open(ctx); err != nil {
		return false, err
	}
	f.r = imapwire.NewReader(f.conn)
	err = f.converse(ctx)
	pending := f.r.Release()
	if f.session != nil {
		f.session.Pending = pending
	}
	return false, err
}

// open makes TLS stand if it has to from the start.
func (f *front) open(ctx context.Context) error {
	if f.cfg.Banned != nil && f.cfg.Banned(f.peer.Addr()) && !f.trusted() {
		if f.tls == nil && f.cfg.ImplicitTLS {
			return ErrBanned
		}
		f.printf("* BYE Too many failed logins from your address, try again later.")
		return errors.Join(ErrBanned, f.flush())
	}
	if f.tls != nil {
		return f.checkProtocol()
	}
	if f.cfg.ImplicitTLS {
		return f.handshake(ctx)
	}
	return nil
}

// converse greets and answers commands until somebody is logged in.
func (f *front) converse(ctx context.Context) error {
	f.printf("* OK [CAPABILITY %s] %s ready.", f.capabilities(), f.cfg.Banner)
	for first := true; f.session == nil; first = false {
		if err := f.flush(); err != nil {
			return err
		}
		if err := f.conn.SetReadDeadline(f.deadline); err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return f.hangUp(ctx, err)
		}
		cmd, err := readCommand(f.r, f.invite)
		if err != nil {
			return f.hangUp(ctx, err)
		}
		if first && isForeign(cmd) {
			return ErrNotIMAP
		}
		if f.commands++; f.commands > maxCommands {
			return f.hangUp(ctx, ErrTooManyCommands)
		}
		if err := f.dispatch(ctx, cmd); err != nil {
			_ = f.flush() // the last words of a connection that ends anyway
			return err
		}
	}
	return f.flush()
}

// hangUp says BYE to a client that is read no further, if it is still there.
func (f *front) hangUp(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		<-f.interrupted // or it would cut off what is said now
		err = context.Cause(ctx)
		f.printf("* BYE Server is shutting down.")
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.printf("* BYE Disconnected for inactivity.")
	case errors.Is(err, imapwire.ErrLineTooLong), errors.Is(err, errCommandTooLong):
		f.printf("* BYE Command too long.")
	case errors.Is(err, ErrTooManyCommands):
		f.printf("* BYE Too many commands without a login.")
	default:
		return err
	}
	_ = f.flush()
	return err
}

// isForeign recognises the first line of HTTP, with which a browser can be made
// to carry IMAP commands in its body, and of TLS on a port that is not for it.
func isForeign(cmd *command) bool {
	if cmd.name != "" {
		return false
	}
	line := string(cmd.lines[0])
	if strings.HasPrefix(line, "\x16\x03") {
		return true
	}
	switch cmd.tag {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH":
		return true
	}
	return strings.Contains(line, " HTTP/")
}

// dispatch answers one command. An error ends the connection.
func (f *front) dispatch(ctx context.Context, cmd *command) error {
	// Before anything is said about arguments: no password in clear text is
	// looked at, and none is asked for.
	if (cmd.name == "LOGIN" || cmd.name == "AUTHENTICATE") && !f.mayAuthenticate() {
		return f.privacyRequired(cmd)
	}
	if cmd.fault != "" {
		return f.bad(cmd, cmd.fault)
	}
	switch cmd.name {
	case "LOGIN":
		return f.login(ctx, cmd)
	case "AUTHENTICATE":
		return f.authenticate(ctx, cmd)
	case "ID":
		f.introduce(cmd)
		f.printf("* ID NIL")
		return f.ok(cmd, "ID completed.")
	}
	if a := (args{cmd: cmd}); !a.end() {
		return f.bad(cmd, cmd.name+" takes no arguments.")
	}
	return f.simple(ctx, cmd)
}

// trusted says whether the client is believed when it speaks for others.
func (f *front) trusted() bool { return f.cfg.Trusted != nil && f.cfg.Trusted(f.peer.Addr()) }

// introduce learns from a trusted client, such as webmail, for whom it speaks. What
// others say about that is worth nothing.
func (f *front) introduce(cmd *command) {
	if !f.trusted() {
		return
	}
	a := args{cmd: cmd}
	fields, err := a.idFields()
	if err != nil {
		return
	}
	addr, err := netip.ParseAddr(fields["x-originating-ip"])
	if err != nil {
		return
	}
	port, err := strconv.ParseUint(fields["x-originating-port"], 10, 16)
	if err != nil {
		port = 0 // not known
	}
	f.remote = login.PlainAddrPort(netip.AddrPortFrom(addr, uint16(port)))
}

// bad answers BAD, and hangs up on a client that does nothing else.
func (f *front) bad(cmd *command, why string) error {
	tag := cmd.tag
	if tag == "" {
		tag = "*"
	}
	f.printf("%s BAD %s", tag, why)
	return f.misbehaved()
}

// misbehaved counts what no client should say, and ends a conversation with too much of
// it.
func (f *front) misbehaved() error {
	if f.faults++; f.faults >= maxBadCommands {
		f.printf("* BYE Too many bad commands.")
		return ErrTooManyBad
	}
	return nil
}

// simple answers the commands that take no arguments.
func (f *front) simple(ctx context.Context, cmd *command) error {
	switch cmd.name {
	case "CAPABILITY":
		f.printf("* CAPABILITY %s", f.capabilities())
		return f.ok(cmd, "Pre-login capabilities listed, post-login capabilities have more.")
	case "LOGOUT":
		f.printf("* BYE Logging out")
		_ = f.ok(cmd, "Logout completed.")
		return ErrLogout
	case "STARTTLS":
		return f.startTLS(ctx, cmd)
	default:
		return f.ok(cmd, "NOOP completed.")
	}
}

// invite asks for a synchronising literal, where one is welcome.
func (f *front) invite(name string) (bool, error) {
	if name != "ID" && (name != "LOGIN" || !f.mayLogin()) {
		return false, nil
	}
	f.printf("+ OK")
	return true, f.flush()
}

// mayAuthenticate reports whether a password may be sent now, and mayLogin whether
// with LOGIN.
func (f *front) mayAuthenticate() bool { return f.tls != nil || f.cfg.InsecureAuth }
func (f *front) mayLogin() bool        { return f.mayAuthenticate() && f.takesPasswords() }

func (f *front) ok(cmd *command, text string) error {
	f.printf("%s OK %s", cmd.tag, text)
	return nil
}

// printf collects a line to send; flush sends what was collected in one write.
func (f *front) printf(format string, a ...any) {
	f.out = append(fmt.Appendf(f.out, format, a...), '\r', '\n')
}

func (f *front) flush() error {
	if len(f.out) == 0 || f.broken != nil {
		return f.broken
	}
	f.broken = f.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	if f.broken == nil {
		_, f.broken = f.conn.Write(f.out)
	}
	f.out = f.out[:0]
	return f.broken
}
