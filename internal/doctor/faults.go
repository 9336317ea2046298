package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/oauthlogin"
)

// Fault is one word for what is wrong.
type Fault string

// The faults. docs/check.md has a table of them.
const (
	NameNotFound     Fault = "name_not_found"
	PortClosed       Fault = "port_closed"
	Unreachable      Fault = "unreachable"
	NotIMAP          Fault = "not_imap"
	Silent           Fault = "silent"
	HungUp           Fault = "hung_up"
	TLSFirst         Fault = "tls_first"
	ClearFirst       Fault = "clear_first"
	NoStartTLS       Fault = "no_starttls"
	Injection        Fault = "injection"
	TLSFailed        Fault = "tls_failed"
	CAUnknown        Fault = "ca_unknown"
	CertExpired      Fault = "cert_expired"
	CertName         Fault = "cert_name"
	NoCertificate    Fault = "no_certificate"
	LoginDisabled    Fault = "login_disabled"
	NotOffered       Fault = "not_offered"
	Denied           Fault = "denied"
	FalseOK          Fault = "false_ok"
	Throttled        Fault = "throttled"
	Unavailable      Fault = "unavailable"
	DelegatesRefused Fault = "delegates_refused"
	NotAuth          Fault = "not_auth"
	NotAllowed       Fault = "not_allowed"
	CertExpiresSoon  Fault = "cert_expires_soon"
	ClearText        Fault = "clear_text"
	NotVerified      Fault = "not_verified"
	BadConfig        Fault = "bad_config"
	NoIMAP           Fault = "no_imap"
	NoListener       Fault = "no_listener"
)

// nameFault tells why a name has no addresses.
func nameFault(host string, err error) finding {
	var dns *net.DNSError
	f := finding{fault: NameNotFound}
	switch {
	case err == nil, errors.As(err, &dns) && dns.IsNotFound:
		f.message = host + " has no address"
		f.advice = []string{"check the spelling, and that this machine asks a name server that knows the name:", "$ getent hosts " + host}
	default:
		f.message = fmt.Sprintf("%s cannot be looked up: %s", host, foreign(err.Error()))
		f.advice = []string{"check the name servers of this machine, in /etc/resolv.conf"}
	}
	return f
}

// portFault tells why an address cannot be connected to.
func portFault(part Part, address string, err error) finding {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return finding{fault: PortClosed, message: "nobody listens on " + address, advice: []string{closedAdvice(part)}}
	case errors.Is(err, fs.ErrPermission):
		return finding{fault: NotAllowed, message: "this user may not connect to " + address,
			advice: []string{"run the command as root, or look at the mode of the socket and of the directories above it"}}
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return finding{fault: Unreachable, message: address + " does not answer",
			advice: []string{"a firewall on the way may drop what is sent there, or the machine is down"}}
	default:
		return finding{fault: Unreachable, message: fmt.Sprintf("%s cannot be reached: %s", address, foreign(err.Error())),
			advice: []string{"check the address, and the route to it"}}
	}
}

func closedAdvice(part Part) string {
	switch part {
	case PartFront:
		return "start Caddy with this configuration, or reload it; if it runs, its log says why it does not listen here"
	case PartAuth:
		return "start Caddy with this configuration, before Postfix; if it runs, its log says why it does not listen here"
	default:
		return "check the port (IMAP with STARTTLS has 143, with TLS from the first byte 993), and that the IMAP service runs; " +
			"at Exchange: Get-Service MSExchangeImap4, MSExchangeIMAP4BE"
	}
}

// talkFault tells why a conversation has come to an end.
func talkFault(err error, mode imapauth.TLSMode) finding {
	var record tls.RecordHeaderError
	f := finding{message: foreign(err.Error())}
	switch {
	case errors.Is(err, context.Canceled):
		f.fault, f.message = Unreachable, "interrupted"
	case errors.Is(err, imapauth.ErrNoStartTLS):
		f.fault, f.message = NoStartTLS, "STARTTLS is not offered"
		f.advice = []string{
			"give the IMAP service a certificate; at Exchange: Enable-ExchangeCertificate -Services IMAP, then restart the IMAP services",
			"or use the port with TLS from the first byte, usually 993: tls implicit",
		}
	case errors.Is(err, imapauth.ErrInjection):
		f.fault = Injection
		f.advice = []string{"somebody on the way puts words into the conversation, or the server is broken; no password was sent"}
	case errors.As(err, &record) && mode == imapauth.ImplicitTLS:
		f.fault, f.message = ClearFirst, "this port begins in clear text, and TLS from the first byte was tried"
		f.advice = []string{"set tls starttls, or use the port with TLS from the first byte, usually 993"}
	case alert(err) != "":
		f.fault = TLSFailed
		f.advice = alertAdvice(alert(err))
	case errors.As(err, &record):
		f.fault = TLSFailed
		f.advice = []string{"what answers STARTTLS does not speak TLS; look at the log of the server, and at anything between"}
	case errors.Is(err, imapauth.ErrPrivacy):
		f.fault, f.message = LoginDisabled, "passwords are taken only inside TLS"
		f.advice = []string{"set tls starttls, or tls implicit with the port for that"}
	case errors.Is(err, imapauth.ErrNoMechanism):
		f.fault, f.message = LoginDisabled, "nobody can log in with a password, even inside TLS: LOGINDISABLED, and neither AUTH=PLAIN nor AUTH=LOGIN"
		f.advice = []string{
			"allow passwords; at Exchange: Set-ImapSettings -LoginType SecureLogin, then restart the IMAP services; at Dovecot: auth_mechanisms = plain login",
			"Exchange Online takes no passwords any more, only OAuth tokens: give the backend the option oauth2",
		}
	case errors.Is(err, imapauth.ErrNoTokens):
		f.fault, f.message = LoginDisabled, "tokens are not taken in the way that oauth2 says: "+err.Error()
		f.advice = []string{"set the mechanism of oauth2 to one that is offered, XOAUTH2 or OAUTHBEARER, or switch it on there"}
	case errors.Is(err, oauthlogin.ErrSettings):
		f.fault = Unavailable
		f.advice = []string{"see that client_id, client_secret, client_auth and scope of oauth2 are as the token endpoint has them, that the secret has not expired, and that the client has its permissions there"}
	case errors.Is(err, oauthlogin.ErrNoToken):
		f.fault = Unavailable
		f.advice = []string{"see that token_url and tenant of oauth2 are right, and that the server there can be reached from here, is trusted (tls_trust_pool of oauth2), and is well"}
	case errors.Is(err, imapauth.ErrThrottled):
		f = throttledFinding(err, 0)
	case errors.Is(err, imapauth.ErrTimeout):
		f.fault, f.message = Silent, "connected, but nothing came in time"
		f.advice = []string{"check that this is the port of the IMAP service; if it expects a PROXY header, set forward_client proxy_v2"}
	case errors.Is(err, imapauth.ErrProtocol), errors.Is(err, imapauth.ErrTooMuch):
		f.fault, f.message = NotIMAP, "what answers here does not speak IMAP"
		f.advice = []string{"check the port: IMAP with STARTTLS has 143, with TLS from the first byte 993"}
	case errors.Is(err, imapauth.ErrClosed), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		f.fault, f.message = HungUp, "the connection was closed in the middle"
		f.advice = []string{"look at the log of the server: it may not take connections from this address, or expect a PROXY header (forward_client proxy_v2)"}
	case errors.Is(err, imapauth.ErrBye), errors.Is(err, imapauth.ErrRefused), errors.Is(err, imapauth.ErrPreAuth):
		f.fault = Unavailable
		f.advice = []string{"look at the log of the server; nothing was said about any password"}
	default:
		f.fault = Unavailable
		f.advice = []string{"look at the log of the server"}
	}
	return f
}

// alert is what the other side says of its end of a TLS connection; empty if it is
// not that what went wrong.
func alert(err error) string {
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "remote error" {
		return op.Err.Error()
	}
	return ""
}

// alertAdvice tells what to do about an alert.
func alertAdvice(text string) []string {
	switch {
	case strings.Contains(text, "protocol version"):
		return []string{"the server does not speak TLS 1.2 or newer, which is demanded; switch it on there"}
	case strings.Contains(text, "certificate required"), strings.Contains(text, "bad certificate"):
		return []string{"the server wants a certificate from us, or another one: set tls_client_auth"}
	case strings.Contains(text, "unrecognized name"):
		return []string{"the server does not know itself by this name: set tls_server_name to the name in its certificate"}
	default:
		return []string{"the server and we have no cipher in common, or it has no certificate, or it wants one from us (tls_client_auth); look at its log"}
	}
}
