package imapfront

import (
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Config is what all connections of one listener share. It is not changed once
// in use.
type Config struct {
	// Banner is the name in the greeting: printable ASCII, and no line end.
	Banner string
	// Mechanisms returns the SASL mechanisms for AUTHENTICATE that are offered at the
	// moment, in this order, out of login.Mechanisms and login.RelayedForIMAP. It is
	// called for each greeting, and what it returns is not changed. Default: PLAIN and
	// LOGIN.
	Mechanisms func() []string
	// External offers EXTERNAL, besides, to clients with a verified certificate. Open
	// fills in the name that the certificate stands for.
	External bool
	// AddCaps and RemoveCaps amend each capability list that we write, before
	// and after login. They are compared without regard to case.
	AddCaps, RemoveCaps []string
	// LoginTimeout is how long a client may take from the greeting to a login.
	// Required.
	LoginTimeout time.Duration
	// MaxAuthFailures is the number of refused logins after which we hang up.
	// Less than 1 counts as 1.
	MaxAuthFailures int
	// TLS is used for STARTTLS, and at once if ImplicitTLS is set. Its
	// NextProtos should name "imap", so that clients of other protocols are
	// refused by the handshake already.
	TLS *tls.Config
	// ImplicitTLS makes the handshake the first thing on the connection.
	ImplicitTLS bool
	// InsecureAuth takes passwords without TLS.
	InsecureAuth bool
	// Banned, if it is set, says whether an address is not even to be greeted.
	Banned func(netip.Addr) bool
	// Trusted, if it is set, says whether the client at an address is believed
	// when it names the address of its own client with ID, as x-originating-ip
	// and x-originating-port.
	// It is greeted even if it is banned.
	Trusted func(netip.Addr) bool
	// Open logs a user in at the backend. It is asked only where a password may
	// be sent. It refuses credentials that login.Attempt.Check does not accept,
	// without asking the backend: so that whoever counts and logs refusals hears
	// of these as well. Required.
	Open login.Opener
}

// Client is one connection to serve.
type Client struct {
	Conn net.Conn
	// ID names the connection in logs.
	ID string
	// Remote is the address of the client, RemotePort its port, and Local what it
	// connected to, as in login.Attempt.
	Remote     netip.Addr
	RemotePort uint16
	Local      netip.AddrPort
	// TLS is the state of the TLS that stands already, terminated by somebody
	// before us; nil if there is none.
	TLS *tls.ConnectionState
}

// Session is a client that has logged in.
type Session struct {
	// Conn is the client's connection, inside TLS.
	Conn net.Conn
	// Pending is what the client sent behind its login.
	Pending []byte
	// User is the name that the client logged in with, as typed.
	User string
	// Remote is the address of who logged in, as in the attempt.
	Remote netip.Addr
	// TLS is the state of the client's TLS; nil if there is none.
	TLS *tls.ConnectionState
	// Backend is the other side. Whoever receives the Session closes it.
	Backend *login.Session
}
