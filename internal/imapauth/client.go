package imapauth

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/tlsio"
)

const (
	// phaseTimeout bounds a phase whose context has no earlier deadline.
	phaseTimeout = 30 * time.Second
	// prefixLength is that of the random part of tags.
	prefixLength = 6
)

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// Client is a connection to a backend on which nobody has logged in yet. It is
// used up by Open, Check, Leave or Close, one of which has to be called. It is not safe
// for concurrent use.
type Client struct {
	cfg *Config
	// ends are those of the client that is to log in, if it is known.
	ends login.Ends
	// raw is the socket; conn is what to talk on, the same or TLS on top of it.
	raw, conn net.Conn
	r         *imapwire.Reader

	// Tags begin with letters that nobody can guess, so that an answer cannot
	// be there before its question.
	prefix string
	seq    int
	tag    []byte
	out    []byte

	lineLimit, linesLeft, bytesLeft int

	// since is when the step that goes on has begun, if there is a Trace.
	since time.Time

	// caps is the latest list; nil if none was seen since it was last dropped.
	caps capabilities
	// exchange says that something looked like Exchange.
	exchange bool
	// dovecot says that the greeting did like Dovecot's. It is for an error's text alone.
	dovecot bool
	// begun says that a relayed exchange has been, named that the backend may have
	// been told a user's name, sent that complete credentials are on their way;
	// alerts are what the backend wanted the user to be told since then, as untagged
	// responses.
	begun, named, sent bool
	alerts             []byte
}

// Dial connects to the upstream and prepares the connection for a client, which the
// backend is told of if the Config says so; the zero Ends are nobody in particular.
func Dial(ctx context.Context, cfg *Config, ends login.Ends) (*Client, error) {
	network := cfg.Network
	if network == "" {
		network = "tcp"
	}
	d := net.Dialer{Timeout: cfg.DialTimeout}
	conn, err := d.DialContext(ctx, network, cfg.dialAddress())
	if err != nil {
		return nil, fmt.Errorf("connecting: %w", err)
	}
	return Prepare(ctx, conn, cfg, ends)
}

// Ping reports what keeps users from logging in at the upstream, as far as that
// shows without one: it does what Dial does, and hangs up in order.
func Ping(ctx context.Context, cfg *Config) error {
	c, err := Dial(ctx, cfg, login.Ends{})
	if err != nil {
		return err
	}
	c.Leave(ctx)
	return nil
}

// Leave hangs up in order, without a login.
func (c *Client) Leave(ctx context.Context) {
	c.logout(ctx)
	c.Close()
}

// Prepare brings a fresh connection to where a user can log in: greeting, TLS as
// the mode demands, capabilities. The ends are as in Dial. It ends when ctx does.
// It owns conn and closes it if it fails.
func Prepare(ctx context.Context, conn net.Conn, cfg *Config, ends login.Ends) (*Client, error) {
	c := newClient(conn, cfg, rand.Text()[:prefixLength])
	c.ends = ends
	prepared := false
	defer func() {
		if !prepared { // even after a panic
			c.Close()
		}
	}()
	if err := c.within(ctx, c.prepare); err != nil {
		return nil, c.suspectHeader(err)
	}
	prepared = true
	return c, nil
}

func newClient(conn net.Conn, cfg *Config, prefix string) *Client {
	c := &Client{cfg: cfg, raw: conn, conn: conn, prefix: prefix}
	c.mark()
	return c
}

// Close ends the connection at once. Closing twice does no harm.
func (c *Client) Close() {
	_ = c.raw.Close()
	c.release()
}

// release gives back the reader and returns what was received beyond the last
// answer.
func (c *Client) release() []byte {
	if c.r == nil {
		return nil
	}
	rest := c.r.Release()
	c.r = nil
	return rest
}

// within runs one phase of the conversation. When ctx is done, whatever read or
// write is going on fails. No deadline is left on the connection if within
// returns nil.
func (c *Client) within(ctx context.Context, phase func(context.Context) error) error {
	if ctx.Err() != nil {
		return ioError(ctx, nil)
	}
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, phaseTimeout)
		defer cancel()
	}
	stop := context.AfterFunc(ctx, c.interrupt)
	err := phase(ctx)
	if !stop() && err == nil {
		err = ioError(ctx, nil)
	}
	return err
}

func (c *Client) interrupt() { _ = c.raw.SetDeadline(past) }

func (c *Client) prepare(ctx context.Context) error {
	if err := c.cfg.Validate(); err != nil {
		return err
	}
	if err := c.sendHeader(ctx); err != nil {
		return err
	}
	if c.cfg.Mode == ImplicitTLS {
		if err := c.handshake(ctx); err != nil {
			return err
		}
	}
	c.r = imapwire.NewReader(c.conn)
	if err := c.greeting(ctx); err != nil {
		err = fmt.Errorf("reading the greeting%s: %w", c.hint(err), err)
		c.trace(Event{Step: StepGreeting, Err: err})
		return err
	}
	if c.cfg.Mode == StartTLS {
		if err := c.startTLS(ctx); err != nil {
			return fmt.Errorf("starting TLS: %w", err)
		}
	}
	if c.caps == nil {
		if err := c.capability(ctx); err != nil {
			return err
		}
	}
	relays := len(c.cfg.Relayed) > 0 && c.noteOffers()
	switch {
	case relays, c.takesWhatWeHave():
		return nil
	case c.cfg.Mode == NoTLS:
		return ErrPrivacy
	case c.cfg.Token != "":
		return fmt.Errorf("%w: AUTH=%s", ErrNoTokens, c.cfg.Token)
	default:
		return ErrNoMechanism
	}
}

// greeting reads the first line. It alone decides; what follows it is read
// together with the answer to the first command.
func (c *Client) greeting(ctx context.Context) error {
	c.budget(maxLine)
	r, err := c.read(ctx)
	if err != nil {
		return err
	}
	if r.Kind != imapwire.KindUntagged || r.Status != imap.StatusResponseTypeOK {
		return refusal(&r)
	}
	c.noteCode(&r)
	c.exchange = exchangeGreeting(r.Text)
	c.dovecot = bytes.Contains(r.Text, []byte("Dovecot"))
	if c.cfg.Trace != nil {
		c.trace(Event{Step: StepGreeting, Greeting: string(r.Text), Caps: c.caps})
	}
	return nil
}

// startTLS asks for TLS and begins it. Whatever came before is forgotten. A greeting
// that offers it is taken at its word: if it is wrong, there is no TLS and no login.
func (c *Client) startTLS(ctx context.Context) error {
	if !c.caps.has(imap.CapStartTLS) {
		if err := c.capability(ctx); err != nil {
			return err
		}
	}
	err := c.askStartTLS(ctx)
	c.trace(Event{Step: StepStartTLS, Err: err})
	if err != nil {
		return err
	}
	c.release()
	if err := c.handshake(ctx); err != nil {
		return err
	}
	c.caps, c.exchange = nil, false
	c.r = imapwire.NewReader(c.conn)
	return nil
}

// askStartTLS asks for TLS, up to where the handshake is to begin.
func (c *Client) askStartTLS(ctx context.Context) error {
	if !c.caps.has(imap.CapStartTLS) {
		return ErrNoStartTLS
	}
	r, err := c.ask(ctx, "STARTTLS", maxLine)
	if err == nil && r.Status != imap.StatusResponseTypeOK {
		err = refusal(&r)
	}
	if err != nil {
		return fmt.Errorf("asking for STARTTLS: %w", err)
	}
	if c.r.Buffered() > 0 {
		return ErrInjection
	}
	return nil
}

func (c *Client) handshake(ctx context.Context) error {
	address := c.cfg.dialAddress()
	cfg := c.cfg.Shares.offer(c.cfg.TLS, address, time.Now())
	conn := tlsio.Client(c.raw, cfg)
	err := conn.HandshakeContext(ctx)
	if err != nil {
		if cfg != c.cfg.TLS && ctx.Err() == nil {
			c.cfg.Shares.forget(address)
		}
		err = ioError(ctx, err)
		err = fmt.Errorf("in the TLS handshake%s: %w", c.hint(err), err)
	} else {
		c.conn = conn
		if cfg == c.cfg.TLS {
			state := conn.ConnectionState()
			c.cfg.Shares.note(&state, address, time.Now())
		}
	}
	c.traceHandshake(err, conn.ConnectionState)
	return err
}

// hint names the most frequent reasons why a conversation does not even begin: the
// port is one for the other mode, or waits for a PROXY header.
func (c *Client) hint(err error) string {
	var header tls.RecordHeaderError
	switch {
	case c.cfg.Mode == ImplicitTLS && errors.As(err, &header):
		return " (does this port begin in clear text? then TLS is starttls)"
	case c.cfg.Mode != ImplicitTLS && errors.Is(err, ErrTimeout):
		return " (does this port begin with TLS? then TLS is implicit)"
	case c.missesHeader(err):
		return " (does this port expect a PROXY header? then forward_client is proxy_v2)"
	}
	return ""
}

// capability asks for the capabilities before login.
func (c *Client) capability(ctx context.Context) error {
	r, err := c.askCaps(ctx, maxLine)
	if err == nil && r.Status != imap.StatusResponseTypeOK {
		err = refusal(&r)
	}
	if err != nil {
		err = fmt.Errorf("asking for capabilities: %w", err)
	}
	c.trace(Event{Step: StepCapability, Err: err, Caps: c.caps})
	return err
}
