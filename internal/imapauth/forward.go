package imapauth

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"syscall"

	"github.com/emersion/go-imap/v2"
	"github.com/pires/go-proxyproto"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Forward says how a backend is told where the client is, so that its log and what
// it counts by address are about the client and not about us.
type Forward string

const (
	// ForwardOff tells nothing. It is what an empty Forward means.
	ForwardOff Forward = "off"
	// ForwardID tells with the command ID (RFC 2971) before the login, in fields
	// that Dovecot reads from those in its login_trusted_networks.
	ForwardID Forward = "id"
	// ForwardProxyV1 and ForwardProxyV2 begin each connection, before TLS, with a
	// PROXY header of that version.
	ForwardProxyV1 Forward = "proxy_v1"
	ForwardProxyV2 Forward = "proxy_v2"
)

// proxyVersion is that of the PROXY header to send; 0 for none.
func (f Forward) proxyVersion() byte {
	switch f {
	case ForwardProxyV1:
		return 1
	case ForwardProxyV2:
		return 2
	}
	return 0
}

// sendHeader begins the connection with a PROXY header, if that is wanted.
func (c *Client) sendHeader(ctx context.Context) error {
	version := c.cfg.Forward.proxyVersion()
	if version == 0 {
		return nil
	}
	header, err := proxyHeader(version, c.ends)
	if err != nil {
		return fmt.Errorf("making a PROXY header: %w", err)
	}
	if _, err := c.raw.Write(header); err != nil {
		return fmt.Errorf("sending a PROXY header: %w", ioError(ctx, err))
	}
	return nil
}

// proxyHeader returns the header for a client. If it is not known, that is UNKNOWN
// in version 1, and LOCAL in version 2.
//
// Both addresses of a header are of one family. What the client connected to
// matters less, so it is left unspecified rather than that an IPv4 client is made
// one of IPv6: Dovecot punishes IPv6 clients by their /48, and all of IPv4 is in one.
// It also refuses a header of version 1 with the port 0, so one that is not known
// is 1.
func proxyHeader(version byte, ends login.Ends) ([]byte, error) {
	client, server := ends.Client, ends.Server
	if !client.IsValid() {
		return proxyproto.HeaderProxyFromAddrs(version, nil, nil).Format()
	}
	if server.Addr().BitLen() != client.Addr().BitLen() {
		unspecified := netip.IPv6Unspecified()
		if client.Addr().Is4() {
			unspecified = netip.IPv4Unspecified()
		}
		server = netip.AddrPortFrom(unspecified, server.Port())
	}
	return proxyproto.HeaderProxyFromAddrs(version, tcpAddr(client), tcpAddr(server)).Format()
}

func tcpAddr(end netip.AddrPort) *net.TCPAddr {
	return net.TCPAddrFromAddrPort(netip.AddrPortFrom(end.Addr(), max(end.Port(), 1)))
}

// suspectHeader adds to an error of Prepare that our PROXY header may be its reason,
// if that is how a server ends which does not know what to make of one.
func (c *Client) suspectHeader(err error) error {
	if c.cfg.Forward.proxyVersion() == 0 {
		return err
	}
	var record tls.RecordHeaderError
	suspect := errors.As(err, &record) || c.cfg.Mode == ImplicitTLS && isAlert(err)
	for _, sign := range []error{ErrProtocol, ErrRefused, ErrBye, ErrClosed, syscall.ECONNRESET, syscall.EPIPE} {
		suspect = suspect || errors.Is(err, sign)
	}
	if !suspect {
		return err
	}
	return fmt.Errorf("%w (forward_client %s sends a PROXY header: does this port expect one, and take it from this address?)", err, c.cfg.Forward)
}

// isAlert says whether the other side has ended TLS with an alert. crypto/tls makes that
// an AlertError over QUIC only.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// missesHeader reports whether that we sent no PROXY header may be the reason of an
// error: the backend ends the connection before it has said anything.
func (c *Client) missesHeader(err error) bool {
	silent := c.conn == c.raw && c.caps == nil
	return c.cfg.Forward.proxyVersion() == 0 && silent && (errors.Is(err, ErrClosed) || errors.Is(err, syscall.ECONNRESET))
}

// introduce tells the backend with ID where the client is, if that is wanted.
// Whether it says OK, NO or BAD to that does not matter for the login.
//
// The answer is waited for before the login is sent: that costs a moment, and a
// server that stumbles over ID is not sent a password.
func (c *Client) introduce(ctx context.Context, a *login.Attempt) login.Verdict {
	granted := login.Verdict{Result: login.Granted}
	if c.cfg.Forward != ForwardID {
		return granted
	}
	if !c.caps.has(imap.CapID) {
		if c.cfg.NoID != nil {
			c.cfg.NoID()
		}
		return granted
	}
	fields := idFields(a)
	if len(fields) == 0 {
		return granted
	}
	r, err := c.ask(ctx, "ID ("+string(fields)+")", maxLine)
	v := login.UnavailableFor(err)
	if err == nil {
		switch r.Status {
		case imap.StatusResponseTypeOK, imap.StatusResponseTypeNo, imap.StatusResponseTypeBad:
			return granted
		}
		v = classifyEarly(&r)
	}
	v.Err = fmt.Errorf("naming the client with ID: %w", v.Err)
	return v
}

// idFields returns what is known of the client, in the fields that Dovecot has for
// it.
func idFields(a *login.Attempt) []byte {
	var out []byte
	add := func(name, value string) {
		if len(out) > 0 {
			out = append(out, ' ')
		}
		out, _ = imapwire.AppendQuoted(out, name)
		out, _ = imapwire.AppendQuoted(append(out, ' '), value)
	}
	end := func(name string, end netip.AddrPort) {
		if !end.IsValid() {
			return
		}
		add("x-"+name+"-ip", end.Addr().String())
		if end.Port() != 0 {
			add("x-"+name+"-port", strconv.Itoa(int(end.Port())))
		}
	}
	ends := a.Ends()
	end("originating", ends.Client)
	end("connected", ends.Server)
	if a.ID != "" && imapwire.CanQuote(a.ID) {
		add("x-session-id", a.ID)
	}
	return out
}
