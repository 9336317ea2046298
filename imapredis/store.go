// Package imapredis has several instances count wrong passwords together, in a
// Redis or Valkey server.
package imapredis

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/caddyimap"
	"github.com/caddy-imap/caddy-imap/internal/glue"
)

func init() {
	caddy.RegisterModule(new(Store))
}

// Store counts in a Redis server, version 6 or later, or a Valkey server, so that
// several instances keep to one number together. The instances also have to share
// Caddy's storage, where the secret is that the keys are made with: the server sees
// hashes only, and no names, addresses or passwords. Keys expire by themselves.
//
// A login asks the server twice, which takes well below a millisecond in a local
// network. Where the server gives no answer within 50ms, the instance counts alone,
// and what it has counted is merged when the server is back. No login fails for it.
//
// Instances whose clock is wrong by more than a minute are counted by the clock of
// the server.
type Store struct {
	// The server, as `host:port` or in Caddy's form for unix sockets, such as
	// `unix//run/redis/redis.sock`. Several are nodes of a Redis Cluster, of which
	// one that answers is enough. A host without a port is asked at port 6379.
	// Placeholders are replaced. Default: `localhost:6379`.
	Addresses []string `json:"addresses,omitempty"`

	// The user to log in as, if the server has several. Placeholders are replaced.
	// Default: none.
	Username string `json:"username,omitempty"`

	// The password to log in with. Placeholders are replaced, so that it can be in
	// the environment, `{env.REDIS_PASSWORD}`, or in a file,
	// `{file./run/secrets/redis}`. Default: none.
	Password string `json:"password,omitempty"`

	// The number of the database. A Redis Cluster has number 0 only. Default: `0`.
	DB int `json:"db,omitempty"`

	// How the connection is protected, and what certificate the server is shown.
	// Of its fields, `except_ports` and `handshake_timeout` cannot be used.
	// Default: no TLS.
	TLS *reverseproxy.TLSConfig `json:"tls,omitempty"`

	// What all keys begin with, in braces. Instances with different prefixes do
	// not count together. Placeholders are replaced. Default: `caddy-imap`.
	KeyPrefix string `json:"key_prefix,omitempty"`

	addresses []caddy.NetworkAddress
	prefix    string
	options   redis.UniversalOptions
	client    redis.UniversalClient
}

const (
	defaultAddress   = "localhost:6379"
	defaultPort      = 6379
	defaultKeyPrefix = "caddy-imap"
)

// CaddyModule returns the Caddy module information.
func (*Store) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "imap.guard.stores.redis",
		New: func() caddy.Module { return new(Store) },
	}
}

// Provision checks the options. It does not connect.
func (s *Store) Provision(ctx caddy.Context) error {
	addresses := s.Addresses
	if len(addresses) == 0 {
		addresses = []string{defaultAddress}
	}
	for _, text := range addresses {
		addr, err := parseAddress(text)
		if err != nil {
			return err
		}
		s.addresses = append(s.addresses, addr)
	}
	if len(s.addresses) > 1 {
		for _, addr := range s.addresses {
			if addr.IsUnixNetwork() {
				return fmt.Errorf("address %s: the nodes of a Redis Cluster have no unix sockets; name one server, or nodes as host:port", addr)
			}
		}
	}
	tlsConfig, err := s.tlsConfig(ctx)
	if err != nil {
		return err
	}
	username, err := glue.Secret("username", s.Username)
	if err != nil {
		return err
	}
	password, err := glue.Secret("password", s.Password)
	if err != nil {
		return err
	}
	if s.prefix = defaultKeyPrefix; s.KeyPrefix != "" {
		if s.prefix, err = caddy.NewReplacer().ReplaceOrErr(s.KeyPrefix, true, true); err != nil {
			return fmt.Errorf("key_prefix %q: %w", s.KeyPrefix, err)
		}
	}
	switch {
	case username != "" && password == "":
		return errors.New("username: it is of no use without a password; add the option password")
	case s.DB < 0:
		return fmt.Errorf("db %d: must be at least 0", s.DB)
	case s.DB > 0 && len(s.addresses) > 1:
		return fmt.Errorf("db %d: a Redis Cluster has number 0 only; remove db, or all addresses but one", s.DB)
	case strings.ContainsAny(s.prefix, "{}"):
		return fmt.Errorf("key_prefix %q: it must have no braces; the keys begin with it in braces", s.prefix)
	}
	s.options = options(s.addresses, tlsConfig)
	s.options.Username, s.options.Password, s.options.DB = username, password, s.DB
	for _, addr := range s.addresses {
		if password != "" && tlsConfig == nil && !isLocal(addr) {
			ctx.Logger().Warn("the password goes to this server in clear text; set tls to on",
				zap.String("address", addr.JoinHostPort(0)))
		}
	}
	return nil
}

// parseAddress reads the address of a server. Somebody may have put a password
// into it, so errors show it only if there is none.
func parseAddress(text string) (caddy.NetworkAddress, error) {
	shown := fmt.Sprintf("address %q", text)
	if strings.Contains(text, "@") {
		shown = "address"
	}
	if strings.Contains(text, "://") {
		return caddy.NetworkAddress{}, fmt.Errorf("%s: it has no scheme; write host:port, and use the options username, password, db and tls", shown)
	}
	replaced, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return caddy.NetworkAddress{}, fmt.Errorf("%s: %w", shown, err)
	}
	addr, err := caddy.ParseNetworkAddressWithDefaults(replaced, "tcp", defaultPort)
	switch {
	case err != nil || strings.Contains(replaced, "@"):
		return addr, fmt.Errorf("%s: not an address such as host:port", shown)
	case addr.PortRangeSize() != 1 && !addr.IsUnixNetwork():
		return addr, fmt.Errorf("%s: a range of ports cannot be dialled; name one port", shown)
	case addr.Host == "":
		return addr, fmt.Errorf("%s: it names no host; write host:port", shown)
	case addr.StartPort == 0 && !addr.IsUnixNetwork():
		return addr, fmt.Errorf("%s: port 0 cannot be dialled", shown)
	}
	switch addr.Network {
	case "tcp", "tcp4", "tcp6", "unix":
		return addr, nil
	default:
		return addr, fmt.Errorf("%s: Redis is not spoken on the network %s; use tcp or unix", shown, addr.Network)
	}
}

// tlsConfig returns nil for no TLS.
func (s *Store) tlsConfig(ctx caddy.Context) (*tls.Config, error) {
	if s.TLS == nil {
		return nil, nil
	}
	switch {
	case s.TLS.HandshakeTimeout != 0:
		return nil, errors.New("tls: handshake_timeout cannot be used")
	case len(s.TLS.ExceptPorts) != 0:
		return nil, errors.New("tls: except_ports cannot be used")
	}
	for _, addr := range s.addresses {
		if addr.IsUnixNetwork() && s.TLS.ServerName == "" {
			return nil, fmt.Errorf("address %s: the certificate of a unix socket's server has no name to be valid for; set tls_server_name, or tls off",
				addr.JoinHostPort(0))
		}
	}
	cfg, err := s.TLS.MakeTLSClientConfig(ctx)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if cfg == nil { // the settings change nothing
		cfg = new(tls.Config)
	}
	if cfg.MinVersion == 0 {
		cfg.MinVersion = tls.VersionTLS12
	}
	cfg.ClientSessionCache = tls.NewLRUClientSessionCache(poolSize)
	return cfg, nil
}

// isLocal reports whether what is sent to the address stays on this machine.
func isLocal(addr caddy.NetworkAddress) bool {
	if addr.IsUnixNetwork() || addr.Host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(addr.Host)
	return err == nil && ip.Unmap().IsLoopback()
}

// Open implements caddyimap.GuardStore. The first connection is made when the
// server is asked for the first time.
func (s *Store) Open() (caddyimap.SharedCounts, error) {
	if len(s.addresses) > 1 {
		s.client = redis.NewClusterClient(s.options.Cluster())
	} else {
		s.client = redis.NewClient(s.options.Simple())
	}
	return newCounts(s.client, s.prefix), nil
}

// Close implements caddyimap.GuardStore.
func (s *Store) Close() error {
	if s.client == nil {
		return nil
	}
	if err := s.client.Close(); err != nil {
		return fmt.Errorf("closing the connections to the server: %w", err)
	}
	return nil
}

// Interface guards.
var (
	_ caddy.Provisioner    = (*Store)(nil)
	_ caddyimap.GuardStore = (*Store)(nil)
)
