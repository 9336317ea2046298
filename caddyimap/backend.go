package caddyimap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/guard"
	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/imapext"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/pool"
)

// Backend is an IMAP service to log users in at: one server, or several that have
// the same mailboxes.
type Backend struct {
	// The servers. If one has not become ready after a second, the next is tried
	// beside it; the password goes to one only.
	Upstreams []*Upstream `json:"upstreams,omitempty"`

	// How logins are spread over the upstreams. Default: they are tried in the order
	// in which they are given.
	LoadBalancing *LoadBalancing `json:"load_balancing,omitempty"`

	// How it is noticed that an upstream is down. Logins try such a one after all
	// others. Default: by the failures that logins meet with.
	HealthChecks *HealthChecks `json:"health_checks,omitempty"`

	// How the connection to the backend is protected: `starttls`, `implicit`
	// (TLS from the first byte), or `off`. There is no fallback from one to
	// another. With `off` passwords and mail are sent in clear text. Default:
	// `starttls`.
	TLSMode string `json:"tls_mode,omitempty"`

	// How the backend is verified, and what certificate it is shown. Of its
	// fields, `except_ports` and `handshake_timeout` cannot be used. Default:
	// the certificate must be valid for the upstream's host name, and be signed
	// by an authority that this machine trusts.
	TLS *reverseproxy.TLSConfig `json:"tls,omitempty"`

	// How long connecting to one upstream may take, TLS not included. Default:
	// `3s`.
	DialTimeout caddy.Duration `json:"dial_timeout,omitempty"`

	// How long a login may take altogether, from dialing the first upstream to
	// the answer. If client and backend carry it out between them, by a relayed
	// mechanism, it is how long each answer of the backend may take. Default: `9s`.
	AuthTimeout caddy.Duration `json:"auth_timeout,omitempty"`

	// The name to log in with, made from the one that the user typed:
	//
	// Placeholder | Description
	// ------------|------------
	// `{imap.user}` | The whole name
	// `{imap.user.local}` | The part before the last `@`, or after the first backslash
	// `{imap.user.domain}` | The other part, which may be empty
	//
	// What the user typed is inserted as it is; placeholders in it mean nothing.
	// Default: `{imap.user}`.
	Username string `json:"username,omitempty"`

	// The name to log in with if the user asks for the mailbox of somebody else, by a
	// SASL authorization identity (PLAIN, RFC 4616), which is not sent apart then. It is
	// used instead of `username`. Beside the placeholders of that there are
	//
	// Placeholder | Description
	// ------------|------------
	// `{imap.authzid}` | The authorization identity
	// `{imap.authzid.local}` | Its part before the last `@`, or after the first backslash
	// `{imap.authzid.domain}` | The other part
	//
	// Users and identities that lack a part that is used, or have a separator of their
	// own in it, are refused. Default: the authorization identity is sent as it is,
	// renamed as `username` says.
	Delegate string `json:"delegate,omitempty"`

	// The user of the backend that may log in as anybody, with AUTHENTICATE PLAIN and
	// an authorization identity. It logs those in whom a client certificate vouches for:
	// see `client_certificate` of the handler `imap`. Placeholders are replaced when the
	// configuration is loaded. Default: none.
	MasterUser string `json:"master_user,omitempty"`

	// The password of the master user. Placeholders are replaced when the configuration
	// is loaded, so that it can be in the environment, `{env.IMAP_MASTER}`, or in a
	// file, `{file./run/secrets/imap-master}`. Default: none.
	MasterPassword string `json:"master_password,omitempty"`

	// How to send the password: `login` (the LOGIN command), `plain`
	// (AUTHENTICATE PLAIN), or `keep`: as the client did. Exchange takes some
	// forms of user names with one and not with the other. Where the backend
	// does not offer the one, the other is used; a refused password is never
	// tried in both. Default: `keep` for the handler `imap`, `plain` for
	// `dovecot_auth`.
	AuthCommand string `json:"auth_command,omitempty"`

	// Whether to check that a login is real by a second command, since Exchange
	// says yes to some users that it cannot connect to their mailbox: `on`,
	// `off`, or `auto` where the server looks like Exchange. Default: `auto`.
	Probe string `json:"probe,omitempty"`

	// How many sessions one user may have at a time, on this instance. Exchange
	// lets users have 16 by default, and takes one more for a wrong password.
	// Default: no limit.
	MaxSessionsPerUser int `json:"max_sessions_per_user,omitempty"`

	// For how long sessions may go on that are open when the configuration does not
	// have a backend of this name any more. Clients that are left then are told to
	// connect again. Default: until they end.
	OnRemovedDrain caddy.Duration `json:"on_removed_drain,omitempty"`

	// How the backend is told where its users come from, so that its log shows
	// their addresses and what it counts by address are not all of them together:
	// `proxy_v1` or `proxy_v2` (a PROXY header at the beginning of each
	// connection, which the backend must expect), `id` (the command ID before the
	// login, as Dovecot reads it from those in its `login_trusted_networks`), or
	// `off`. Default: `off`.
	ForwardClient string `json:"forward_client,omitempty"`

	// Extensions of IMAP to answer in the backend's place where it lacks them, by the
	// names that capability lists have, such as `SORT`; or `auto` for all but those that
	// have to be named. Beside `auto` a name with a minus, such as `-SORT`, leaves that one
	// out. Default: none.
	Extensions []string `json:"extensions,omitempty"`

	// How often a backend that lacks IDLE is asked for news while a client waits for
	// them. Default: `30s`.
	IdleInterval caddy.Duration `json:"idle_interval,omitempty"`

	// How large a message the backend takes, in bytes, to tell clients with the
	// extension `APPENDLIMIT`. Default: they are not told.
	AppendLimit int `json:"append_limit,omitempty"`

	// The mailboxes for a special use, by the extension `SPECIAL-USE`: names as users see
	// them, with the folders above them, for `\All`, `\Archive`, `\Drafts`, `\Flagged`,
	// `\Important`, `\Junk`, `\Sent` or `\Trash`. Default: mailboxes are known by the names
	// that Exchange gives them in its languages, and by a few that are usual elsewhere.
	SpecialUse map[string][]string `json:"special_use,omitempty"`

	// Whether folders that hold no mail, such as calendars, are left out of lists:
	// `auto` (in front of Exchange, if `extensions` is `auto`), `on` or `off`. Default:
	// `auto`.
	HideFolders string `json:"hide_folders,omitempty"`

	// Whether messages are logged that clients ask for and the backend does not give:
	// `auto` (in front of Exchange, if `extensions` is `auto`), `on` or `off`. Default:
	// `auto`.
	ReportMissing string `json:"report_missing,omitempty"`

	// Whether a bare `COPYUID` that the backend answers `MOVE` with is put right, so that
	// mail programs go on: `auto` (in front of Exchange, if `extensions` is `auto`), `on` or
	// `off`. Default: `auto`.
	MendCopyUID string `json:"mend_copyuid,omitempty"`

	// How clients with a password are logged in at a backend that takes only tokens.
	// Default: they are logged in with the password.
	OAuth2 *OAuth2 `json:"oauth2,omitempty"`

	name     string
	guard    guard.Config
	username *login.Template
	// delegate and master are nil if there is none.
	delegate *login.DelegateTemplate
	master   *master
	// addresses are those of the upstreams, and configs what there is to know
	// about each.
	addresses []string
	configs   map[string]*imapauth.Config
	pool      *pool.Pool
	measures  func() *loginMeasures
	// relayed are the mechanisms that handlers of this configuration pass on, and
	// offers what is known of them at the upstreams.
	relayed []string
	offers  map[string]*offers
	// extensions is nil if there are none.
	extensions *imapext.Config
	// takesPasswords says that somebody brings passwords: a handler, or a backend that
	// has this one check them.
	takesPasswords bool
}

const (
	defaultDialTimeout = 3 * time.Second
	defaultAuthTimeout = 9 * time.Second
)

// provision sets up the backend.
func (b *Backend) provision(ctx caddy.Context, app *App, name string) (err error) {
	b.name, b.guard = name, app.Guard.cfg
	// A configuration that never starts leaves nothing that is 0 behind.
	b.measures = sync.OnceValue(func() *loginMeasures { return newLoginMeasures(name) })
	if b.MaxSessionsPerUser < 0 {
		return fmt.Errorf("max_sessions_per_user %d: must be more than 0", b.MaxSessionsPerUser)
	}
	if b.OnRemovedDrain < 0 {
		return fmt.Errorf("on_removed_drain %s: must be more than 0", time.Duration(b.OnRemovedDrain))
	}
	if len(b.Upstreams) == 0 {
		return errors.New("it has no upstream; add one with the option upstream")
	}
	if b.TLSMode == "" {
		b.TLSMode = string(imapauth.StartTLS)
	}
	if err := errors.Join(
		oneOf("tls", b.TLSMode, "starttls", "implicit", "off"),
		oneOf("auth_command", b.AuthCommand, "", "keep", "login", "plain"),
		oneOf("probe", b.Probe, "", "auto", "on", "off"),
		oneOf("forward_client", b.ForwardClient, "", "id", "proxy_v1", "proxy_v2", "off"),
		b.setTimeouts(),
		b.provisionHealth(),
		b.provisionExtensions(),
	); err != nil {
		return err
	}
	if b.Username == "" {
		b.Username = "{imap.user}"
	}
	if b.username, err = glue.Template(caddy.NewReplacer(), b.Username); err != nil {
		return fmt.Errorf("username: %w", err)
	}
	if err := errors.Join(b.provisionDelegate(), b.provisionMaster(app.logger)); err != nil {
		return err
	}
	if err := b.provisionUpstreams(ctx, app.logger); err != nil {
		return err
	}
	if b.OAuth2 != nil {
		if err := b.OAuth2.provision(ctx, b); err != nil {
			return fmt.Errorf("oauth2: %w", err)
		}
	}
	// A refusal is remembered for these servers and this name only.
	b.guard.Backend = strings.Join(slices.Concat([]string{name, b.Username}, b.addresses, b.OAuth2.identity()), "\x00")
	b.guard.Answers = new(guard.Answers)
	return b.provisionPool(app)
}

// oneOf checks a word. Options that are not needed may be empty.
func oneOf(option, value string, words ...string) error {
	if slices.Contains(words, value) {
		return nil
	}
	if words[0] == "" {
		words = words[1:]
	}
	return fmt.Errorf("%s %q: must be one of %s", option, value, strings.Join(words, ", "))
}

func (b *Backend) setTimeouts() error {
	return errors.Join(
		positive("dial_timeout", &b.DialTimeout, defaultDialTimeout),
		positive("auth_timeout", &b.AuthTimeout, defaultAuthTimeout),
	)
}

// errRename says that the backend cannot be asked about what was made of a name.
var errRename = errors.New("the option username makes a name of this one that no backend can be asked about")

// rename returns the attempt with the name that the backend wants, or the verdict
// that there is none. Whom the user wants to be is renamed in the same way.
func (b *Backend) rename(a *login.Attempt) (*login.Attempt, login.Verdict) {
	renamed := *a
	renamed.User = b.username.Expand(a.User)
	if a.AuthzID != "" {
		renamed.AuthzID = b.username.Expand(a.AuthzID)
	}
	switch {
	case a.Check() != nil:
		v := login.DeniedWith("")
		v.Err = login.ErrUnsafe
		return nil, v
	case renamed.Check() != nil:
		// The password may be right, and nobody should be told that it is not.
		return nil, login.UnavailableFor(errRename)
	case a.NoDelegates && login.IsDelegate(renamed.User):
		// As in CORP\alice\bob, made of alice\bob.
		return nil, login.DeniedWith(imap.ResponseCodeAuthorizationFailed)
	case b.OAuth2.opensOthers(&renamed):
		v := login.DeniedWith(imap.ResponseCodeAuthorizationFailed)
		v.Err = errOwnMailbox
		return nil, v
	}
	if a.Certificate != nil {
		return b.nameVouched(&renamed)
	}
	return b.nameDelegate(&renamed, a)
}
