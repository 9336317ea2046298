package doctor

import (
	"bufio"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/emersion/go-sasl"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Auth is a listener that mail servers ask about passwords.
type Auth struct {
	// Address is the listener's, as configured, and Backend the name of the backend
	// that it asks.
	Address, Backend string
	// Network and Dial say where to connect to. The network is empty if that is not
	// known.
	Network, Dial string
	// Delegates says that it lets users in who ask for the mailbox of somebody else.
	Delegates bool
	// Matched says that it depends on a matcher whether a connection gets there.
	Matched bool
}

const (
	// maxAuthGreeting is what the first answer may be, in bytes, and maxAuthLine the
	// line that Postfix takes.
	maxAuthGreeting = 8 << 10
	maxAuthLine     = 2048
	// holdBack is for how long our own listener holds a refusal back at most.
	holdBack = 10 * time.Second
)

// Auth checks a listener by speaking Postfix's part. It sends the password if a
// backend has let the user in with it, and not all listeners for IMAP clients are closed:
// somebody else could have taken the address of a Caddy that does not run.
func (d *Doctor) Auth(ctx context.Context, a Auth) {
	p := place{part: PartAuth, name: a.Backend, address: a.Address}
	if a.Network == "" {
		d.tell(p, StepPort, left(undialable), 0)
		return
	}
	start := time.Now()
	conn, err := d.dial(ctx, a.Network, a.Dial)
	took := time.Since(start)
	switch {
	case errors.Is(err, syscall.ECONNRESET) && !a.Matched: // before it could be used
		d.tell(p, StepHandshake, authFault(err), took)
		return
	case err != nil:
		d.tell(p, StepPort, portFault(PartAuth, a.Dial, err), took)
		return
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	d.tell(p, StepPort, fine(a.Dial+" is open"+owner(conn)), took)

	c := &postfix{conn: conn, br: bufio.NewReaderSize(io.LimitReader(conn, maxAuthGreeting+maxAuthLine), maxAuthLine)}
	start = time.Now()
	_ = conn.SetDeadline(start.Add(d.timeout()))
	mechanisms, err := c.hello()
	took = time.Since(start)
	switch {
	case err != nil && a.Matched:
		d.tell(p, StepHandshake, left(matched), took)
		return
	case err != nil:
		d.tell(p, StepHandshake, authFault(err), took)
		return
	}
	d.tell(p, StepHandshake, fine("it offers "+foreign(strings.Join(mechanisms, ", "))), took)
	d.authLogin(p, a, c, mechanisms)
}

// authLogin logs the user in that a backend has let in before.
func (d *Doctor) authLogin(p place, a Auth, c *postfix, mechanisms []string) {
	switch {
	case d.Login == nil:
		d.tell(p, StepLogin, left("nobody has logged in; say who with --user"), 0)
		return
	case d.granted == "":
		d.tell(p, StepLogin, left("no backend has let the user in, so the password is not sent again"), 0)
		return
	case !slices.ContainsFunc(mechanisms, func(m string) bool { return strings.EqualFold(m, sasl.Plain) }):
		d.tell(p, StepLogin, left("PLAIN, which this command would log in with, is not offered here"), 0)
		return
	case d.closed && !d.open:
		d.tell(p, StepLogin, left("no listener for IMAP clients is open, so this may not be Caddy, and the password is not sent; start Caddy with this configuration"), 0)
		return
	case login.IsDelegate(d.granted) && !a.Delegates:
		d.tell(p, StepDelegate, finding{status: Warning, fault: DelegatesRefused,
			message: foreign(d.granted) + " asks for the mailbox of somebody else, which this listener refuses",
			advice:  []string{"set allow_delegates, if such users are to send mail"}}, 0)
		return
	}
	start := time.Now()
	_ = c.conn.SetDeadline(start.Add(d.timeout() + holdBack))
	f, err := c.auth(d.granted, d.Login.Secret)
	if err != nil {
		f = finding{fault: Unavailable, message: "the connection was ended instead of an answer, so Postfix says 454 to its client: try again later",
			advice: []string{"the log of Caddy says why the backend was not asked, or has not answered"}}
	}
	d.tell(p, StepLogin, f, time.Since(start))
}

// postfix speaks the part of Postfix in the auth protocol.
type postfix struct {
	conn net.Conn
	br   *bufio.Reader
}

// errNotAuth says that something else than the auth protocol is spoken.
var errNotAuth = errors.New("not the auth protocol")

// hello does the handshake, and returns the mechanisms.
func (c *postfix) hello() (mechanisms []string, err error) {
	if _, err := fmt.Fprintf(c.conn, "VERSION\t1\t0\nCPID\t%d\n", os.Getpid()); err != nil {
		return nil, err
	}
	for version := false; ; {
		line, err := c.line()
		if err != nil {
			return nil, err
		}
		fields := strings.Split(line, "\t")
		switch {
		case fields[0] == "VERSION" && len(fields) > 2 && fields[1] == "1":
			version = true
		case !version:
			return nil, errNotAuth
		case fields[0] == "MECH" && len(fields) > 1:
			mechanisms = append(mechanisms, fields[1])
		case fields[0] == "DONE":
			if len(mechanisms) == 0 {
				return nil, fmt.Errorf("%w: it offers no mechanism", errNotAuth)
			}
			return mechanisms, nil
		}
	}
}

// auth asks about a password, and tells what is answered.
func (c *postfix) auth(user string, secret login.Secret) (finding, error) {
	resp := base64.StdEncoding.EncodeToString([]byte("\x00" + user + "\x00" + string(secret)))
	ask := "AUTH\t1\tPLAIN\tservice=smtp\tnologin\tlip=127.0.0.1\trip=127.0.0.1\tsecured\tresp=" + resp + "\n"
	if _, err := io.WriteString(c.conn, ask); err != nil {
		return finding{}, err
	}
	for {
		line, err := c.line()
		if err != nil {
			return finding{}, err
		}
		fields := strings.Split(line, "\t")
		if len(fields) < 2 || fields[1] != "1" {
			continue
		}
		values := make(map[string]string)
		for _, field := range fields[2:] {
			name, value, _ := strings.Cut(field, "=")
			values[name] = value
		}
		_, temporary := values["temp"]
		switch {
		case fields[0] == "OK":
			return fine("a mail server is told OK, and the name " + foreign(values["user"])), nil
		case fields[0] != "FAIL":
			return finding{fault: NotAuth, message: "it answers " + quoted(fields[0])}, nil
		case temporary || values["code"] == "temp_fail":
			return finding{fault: Unavailable, message: "the password could not be checked; Postfix makes a refusal of it",
				advice: []string{"the log of Caddy says why; with on_unavailable disconnect mail programs are told to try again later"}}, nil
		default:
			return finding{fault: Denied, message: "refused, though the backend has let the user in: code " + strconv.Quote(foreign(values["code"])),
				advice: []string{"the log of Caddy says why; it may hold an account back after wrong passwords: see GET /imap/guard"}}, nil
		}
	}
}

// line reads a line.
func (c *postfix) line() (string, error) {
	line, err := c.br.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		return "", errNotAuth
	}
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(strings.TrimSuffix(string(line), "\n"), "\r"), nil
}

// authFault tells why the handshake failed.
func authFault(err error) finding {
	var timeout net.Error
	f := finding{fault: NotAuth, message: "what answers here does not speak the protocol of Dovecot's auth listener",
		advice: []string{"check the address, and that the route has the handler dovecot_auth"}}
	switch {
	case errors.Is(err, errNotAuth):
	case errors.As(err, &timeout) && timeout.Timeout():
		f.fault, f.message = Silent, "connected, but no greeting came; Postfix's smtpd would end"
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		f.fault, f.message = NotAllowed, "the connection was ended at once"
		f.advice = []string{"this address may not connect: name it with the option allow of dovecot_auth; the log of Caddy has an error that says so"}
	}
	return f
}
