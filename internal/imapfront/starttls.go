package imapfront

import (
	"context"
	"fmt"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/tlsio"
)

// prefetched is implemented by connections that may hold bytes which arrived
// before we were asked to serve them, and which a read has not yet reached.
type prefetched interface{ MatchingBytes() []byte }

// startTLS answers STARTTLS (RFC 3501 section 6.2.1). Anything that lies behind
// the command in clear text is an injection: it would be taken for something
// that was said inside TLS. It ends the connection.
func (f *front) startTLS(ctx context.Context, cmd *command) error {
	if f.tls != nil || f.cfg.TLS == nil {
		return f.bad(cmd, "STARTTLS is not offered.")
	}
	p, ok := f.conn.(prefetched)
	if f.r.Buffered() > 0 || ok && len(p.MatchingBytes()) > 0 {
		f.printf("%s BAD Nothing may follow STARTTLS before TLS has started.", cmd.tag)
		return ErrInjection
	}
	f.printf("%s OK Begin TLS negotiation now.", cmd.tag)
	if err := f.flush(); err != nil {
		return err
	}
	// The old reader held nothing and is dropped: what it could still receive
	// belongs to the handshake.
	f.r.Release()
	f.remote = f.peer
	err := f.handshake(ctx)
	f.r = imapwire.NewReader(f.conn)
	return err
}

// handshake puts TLS on the connection.
func (f *front) handshake(ctx context.Context) error {
	deadline := time.Now().Add(handshakeTimeout)
	if f.deadline.Before(deadline) {
		deadline = f.deadline
	}
	if err := f.conn.SetDeadline(deadline); err != nil {
		return err
	}
	conn := tlsio.Server(f.conn, f.cfg.TLS)
	if err := conn.HandshakeContext(ctx); err != nil {
		return fmt.Errorf("starting TLS: %w", err)
	}
	state := conn.ConnectionState()
	f.conn, f.tls = conn, &state
	return f.checkProtocol()
}

// checkProtocol refuses a client that has agreed on another protocol by ALPN,
// which takes a server configured for it: a browser lured here would be
// understood otherwise (RFC 7301, RFC 9325 section 3.7).
func (f *front) checkProtocol() error {
	if p := f.tls.NegotiatedProtocol; p != "" && p != protocol {
		return fmt.Errorf("%w but, by ALPN, %q", ErrNotIMAP, p)
	}
	return nil
}
