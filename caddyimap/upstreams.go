package caddyimap

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
)

// Upstream is one server of a backend.
type Upstream struct {
	// The address to connect to, as `host:port` or in Caddy's form for other
	// networks, such as `unix//run/imap.sock`. Placeholders are replaced when
	// the configuration is loaded.
	//
	// Of a name that has several addresses, each is chosen and watched by itself.
	// The certificate must be valid for the name. Default port: 143, or 993 with
	// the TLS mode `implicit`.
	Dial string `json:"dial,omitempty"`

	// Whether new logins are kept away, as before the server is repaired. Sessions
	// stay. Default: `false`.
	Drain bool `json:"drain,omitempty"`

	// How long sessions may stay once it drains. Then their clients are told BYE,
	// and find another upstream when they connect again. Default: until they end by
	// themselves.
	DrainTimeout caddy.Duration `json:"drain_timeout,omitempty"`
}

const (
	// resumable is for how many connections to each upstream a TLS session is
	// kept, so that the next begins with less work.
	resumable = 16

	imapPort, imapsPort = 143, 993
)

// provisionUpstreams reads the upstreams' addresses, and what there is to know about each.
func (b *Backend) provisionUpstreams(ctx caddy.Context, logger *zap.Logger) error {
	tlsConfig, err := b.tlsConfig(ctx)
	if err != nil {
		return err
	}
	if tlsConfig.InsecureSkipVerify {
		logger.Warn("anybody can pretend to be this backend and collect passwords; "+
			"use tls_trust_pool and tls_server_name instead of tls_insecure_skip_verify", zap.String("backend", b.name))
	}
	b.configs = make(map[string]*imapauth.Config, len(b.Upstreams))
	b.offers = make(map[string]*offers, len(b.Upstreams))
	for i, u := range b.Upstreams {
		if u == nil || u.Dial == "" {
			return fmt.Errorf("upstream %d: it has no address; set dial", i)
		}
		if u.DrainTimeout < 0 {
			return fmt.Errorf("upstream %s: drain_timeout %s: must be more than 0", u.Dial, time.Duration(u.DrainTimeout))
		}
		addr, err := b.parseAddress(u.Dial)
		if err != nil {
			return fmt.Errorf("upstream %s: %w", u.Dial, err)
		}
		cfg := b.upstreamConfig(addr, tlsConfig)
		b.forward(cfg, logger)
		if err := cfg.Validate(); err != nil {
			return err
		}
		if b.configs[cfg.Address] != nil {
			return fmt.Errorf("upstream %s: it is there twice; remove one", cfg.Address)
		}
		if cfg.Mode == imapauth.NoTLS && !isLocal(addr) {
			logger.Warn("passwords and mail go to this upstream in clear text; set tls to starttls or implicit",
				zap.String("backend", b.name), zap.String("upstream", cfg.Address))
		}
		b.addresses = append(b.addresses, cfg.Address)
		b.configs[cfg.Address] = cfg
		b.offers[cfg.Address] = new(offers)
	}
	return nil
}

// tlsConfig returns what the upstreams' TLS settings have in common.
func (b *Backend) tlsConfig(ctx caddy.Context) (*tls.Config, error) {
	cfg := new(tls.Config)
	if b.TLS != nil {
		switch {
		case imapauth.TLSMode(b.TLSMode) == imapauth.NoTLS:
			return nil, errors.New("tls off: without TLS, tls_server_name, tls_trust_pool, tls_client_auth and tls_insecure_skip_verify " +
				"cannot be used; remove them, or set tls to starttls or implicit")
		case b.TLS.HandshakeTimeout != 0:
			return nil, errors.New("tls: handshake_timeout cannot be used; auth_timeout bounds the handshake, too")
		case len(b.TLS.ExceptPorts) != 0:
			return nil, errors.New("tls: except_ports cannot be used; set tls_mode")
		}
		made, err := b.TLS.MakeTLSClientConfig(ctx)
		if err != nil {
			return nil, fmt.Errorf("tls: %w", err)
		}
		if made != nil { // nil is for settings that change nothing
			cfg = made
		}
	}
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS12
	}
	return cfg, nil
}

// parseAddress reads the address of an upstream.
func (b *Backend) parseAddress(text string) (caddy.NetworkAddress, error) {
	var port uint = imapPort
	if imapauth.TLSMode(b.TLSMode) == imapauth.ImplicitTLS {
		port = imapsPort
	}
	text, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return caddy.NetworkAddress{}, err
	}
	if strings.Contains(text, "://") {
		return caddy.NetworkAddress{}, errors.New("an address has no scheme; write host:port, and choose with the option tls how it is protected")
	}
	addr, err := caddy.ParseNetworkAddressWithDefaults(text, "tcp", port)
	switch {
	case err != nil:
		return addr, fmt.Errorf("not an address such as host:port: %w", err)
	case addr.PortRangeSize() != 1 && !addr.IsUnixNetwork():
		return addr, errors.New("a range of ports cannot be dialled; name one port")
	case addr.Host == "":
		return addr, errors.New("it names no host; write host:port")
	case addr.StartPort == 0 && !addr.IsUnixNetwork():
		return addr, errors.New("port 0 cannot be dialled")
	case addr.IsUnixNetwork() && b.TLSMode != string(imapauth.NoTLS) && (b.TLS == nil || b.TLS.ServerName == ""):
		return addr, errors.New("the certificate of a unix socket's server has no name to be valid for; set tls_server_name, or tls off")
	}
	switch addr.Network {
	case "unix":
		return addr, nil
	case "tcp", "tcp4", "tcp6":
		if !isUpstreamHost(addr.Host) {
			return addr, fmt.Errorf("%q is neither the name of a host nor an IP address; write host:port, without a user, "+
				"each upstream by itself, and letters beyond ASCII in their xn-- form", addr.Host)
		}
		return addr, nil
	default:
		return addr, fmt.Errorf("IMAP is not spoken on the network %s; use tcp or unix", addr.Network)
	}
}

// isUpstreamHost reports whether there could be such a host. Unlike the names that
// clients know a server by, names in the networks of containers have underscores, and
// some end with the dot of the root.
func isUpstreamHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return !strings.HasPrefix(host, "*") && isHostname(strings.ReplaceAll(strings.TrimSuffix(host, "."), "_", "x"))
}

func (b *Backend) upstreamConfig(addr caddy.NetworkAddress, tlsConfig *tls.Config) *imapauth.Config {
	cfg := &imapauth.Config{
		Network:     addr.Network,
		Address:     addr.JoinHostPort(0),
		DialTimeout: time.Duration(b.DialTimeout),
		Mode:        imapauth.TLSMode(b.TLSMode),
		AuthCommand: imapauth.AuthCommand(b.AuthCommand),
		Probe:       imapauth.ProbeMode(b.Probe),
	}
	if cfg.Mode != imapauth.NoTLS {
		cfg.TLS = tlsConfig.Clone()
		cfg.TLS.ClientSessionCache = tls.NewLRUClientSessionCache(resumable)
		cfg.TLS.DynamicRecordSizingDisabled = true
		if cfg.TLS.ServerName == "" {
			cfg.TLS.ServerName = addr.Host
		}
		cfg.Shares = imapauth.NewShares(cfg.TLS)
	}
	return cfg
}

// isLocal reports whether what is sent to the address stays on this machine.
func isLocal(addr caddy.NetworkAddress) bool {
	if addr.IsUnixNetwork() || addr.Host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(addr.Host)
	return err == nil && ip.Unmap().IsLoopback()
}
