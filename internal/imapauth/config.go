// Package imapauth is the client's side of a login at a backend: greeting,
// STARTTLS, capabilities, authentication and probe, up to the one verdict.
//
// It works in two phases, so that several upstreams can be tried at once while
// credentials go to one of them only: Prepare brings a connection to where a
// user could log in, Open or Check logs one in.
//
// In mode StartTLS and ImplicitTLS no credentials leave before TLS stands, and
// nothing that was said before it has any influence on what follows.
package imapauth

import (
	"crypto/tls"
	"fmt"
	"time"
)

// TLSMode says when TLS begins. Its zero value is not a mode.
type TLSMode string

const (
	// StartTLS begins in clear text and demands STARTTLS (RFC 3501 section
	// 6.2.1). A backend that does not offer it is not logged in at.
	StartTLS TLSMode = "starttls"
	// ImplicitTLS begins with the handshake (RFC 8314), usually on port 993.
	ImplicitTLS TLSMode = "implicit"
	// NoTLS sends credentials in clear text.
	NoTLS TLSMode = "off"
)

// AuthCommand says how credentials are sent.
type AuthCommand string

const (
	// Keep sends credentials in the form in which they came.
	Keep AuthCommand = "keep"
	// Login prefers the LOGIN command.
	Login AuthCommand = "login"
	// Plain prefers AUTHENTICATE PLAIN.
	Plain AuthCommand = "plain"
)

// ProbeMode says whether a granted login is checked by another command.
type ProbeMode string

const (
	// ProbeAuto checks where the backend looks like Exchange. It is what an
	// empty ProbeMode means.
	ProbeAuto ProbeMode = "auto"
	// ProbeOn checks always.
	ProbeOn ProbeMode = "on"
	// ProbeOff believes every OK.
	ProbeOff ProbeMode = "off"
)

// Config describes one upstream. It is shared by all connections to it and not
// changed once in use.
type Config struct {
	// Address names the upstream in verdicts, and is what Dial dials unless
	// DialAddress is set, as for one of the addresses of a name.
	Address, DialAddress string
	// Network is what Dial dials on. Default: "tcp".
	Network string
	// DialTimeout bounds the connecting of Dial, and nothing after it. 0 means
	// no bound but that of the context.
	DialTimeout time.Duration
	// Mode says when TLS begins.
	Mode TLSMode
	// TLS is used by StartTLS and ImplicitTLS, which need it. It has its
	// ServerName set, and a ClientSessionCache if sessions should be resumed.
	TLS *tls.Config
	// Shares, if it is set, spares upstreams a costly offer that they do not take.
	Shares *Shares
	// AuthCommand says how credentials are sent. If it is empty, the caller of
	// Open or Check decides.
	AuthCommand AuthCommand
	// Relayed are the mechanisms of clients that are passed on. A backend that takes
	// no passwords can be used if it offers one of them. Offered, if it is set, is
	// told which of them it does, whenever a connection is prepared.
	Relayed []string
	Offered func(mechanisms []string)
	// Token, if it is set, is the mechanism by which the backend is shown a token in
	// place of a password. It must offer that, and no password is sent there.
	Token string
	// Probe says whether a granted login is checked by another command.
	Probe ProbeMode
	// Forward says how the backend is told where the client is.
	Forward Forward
	// NoID, if it is set, is called if ForwardID is wanted and the backend does not
	// offer ID.
	NoID func()
	// Trace, if it is set, is told of each step of a conversation when it is over, in
	// the goroutine that talks. It is for programs that look for faults.
	Trace func(Event)
}

// dialAddress is what Dial dials.
func (cfg *Config) dialAddress() string {
	if cfg.DialAddress != "" {
		return cfg.DialAddress
	}
	return cfg.Address
}

// Validate reports what keeps a Config from being used, as ErrConfig. Prepare
// asks as well.
func (cfg *Config) Validate() error {
	switch cfg.Mode {
	case NoTLS:
	case StartTLS, ImplicitTLS:
		if cfg.TLS == nil {
			return fmt.Errorf("%w: TLS is demanded without settings for it", ErrConfig)
		}
	default:
		return fmt.Errorf("%w: unknown TLS mode %q", ErrConfig, cfg.Mode)
	}
	switch cfg.AuthCommand {
	case "", Keep, Login, Plain:
	default:
		return fmt.Errorf("%w: unknown command %q to log in with", ErrConfig, cfg.AuthCommand)
	}
	switch cfg.Probe {
	case "", ProbeAuto, ProbeOn, ProbeOff:
	default:
		return fmt.Errorf("%w: unknown probe mode %q", ErrConfig, cfg.Probe)
	}
	switch cfg.Forward {
	case "", ForwardOff, ForwardID, ForwardProxyV1, ForwardProxyV2:
	default:
		return fmt.Errorf("%w: unknown way %q to tell where the client is", ErrConfig, cfg.Forward)
	}
	return nil
}
