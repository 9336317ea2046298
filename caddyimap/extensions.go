package caddyimap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/emersion/go-imap/v2"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/imapext"
	"github.com/caddy-imap/caddy-imap/internal/imapfront"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/relay"
)

const defaultIdleInterval = 30 * time.Second

// setExtensions reads which extensions are answered.
func (b *Backend) setExtensions(names []string) error {
	if slices.Contains(names, "off") {
		if len(names) > 1 {
			return errors.New("off is no extension at all; leave out the other names")
		}
		return nil
	}
	b.Extensions = names
	return imapext.Check(names)
}

// provisionExtensions sets up what is answered in the backend's place.
func (b *Backend) provisionExtensions() error {
	if len(b.Extensions) == 0 {
		return b.withoutExtensions()
	}
	if slices.Contains(b.Extensions, "off") {
		return errors.New("extensions: off is a word of the Caddyfile; leave the option out to have none")
	}
	if err := imapext.Check(b.Extensions); err != nil {
		return fmt.Errorf("extensions: %w", err)
	}
	if b.IdleInterval != 0 && !imapext.Includes(b.Extensions, imapext.Idle) {
		return errors.New("idle_interval: without the extension IDLE it means nothing; add it to extensions")
	}
	if b.IdleInterval == 0 {
		b.IdleInterval = caddy.Duration(defaultIdleInterval)
	}
	if d := time.Duration(b.IdleInterval); d < minTimeout {
		return fmt.Errorf("idle_interval %s: must be at least %s; a number without a unit counts nanoseconds", d, minTimeout)
	}
	switch {
	case b.AppendLimit < 0:
		return fmt.Errorf("append_limit %d: must be more than 0", b.AppendLimit)
	case b.AppendLimit == 0 && slices.ContainsFunc(b.Extensions, func(name string) bool { return strings.EqualFold(name, imapext.AppendLimit) }):
		return errors.New("extensions: APPENDLIMIT needs the option append_limit")
	case b.AppendLimit > 0 && !imapext.Includes(b.Extensions, imapext.AppendLimit):
		return errors.New("append_limit: without the extension APPENDLIMIT it means nothing; add it to extensions")
	}
	b.extensions = &imapext.Config{
		Names: b.Extensions, Cache: headerCache, IdleInterval: time.Duration(b.IdleInterval), AppendLimit: int64(b.AppendLimit),
	}
	return b.provisionLists(b.extensions)
}

// headerCache has what is known of messages, for all configurations.
var headerCache = imapext.NewCache(defaultHeaderCache)

const (
	defaultHeaderCache = 64 << 20
	minHeaderCache     = 1 << 20
)

// provisionHeaderCache looks at how large the cache is to be.
func (a *App) provisionHeaderCache() error {
	if a.HeaderCache == 0 {
		a.HeaderCache = defaultHeaderCache
	}
	if a.HeaderCache < minHeaderCache {
		return fmt.Errorf("header_cache %d: must be at least %d; it is a number of bytes", a.HeaderCache, minHeaderCache)
	}
	return nil
}

// owner returns what tells the mailboxes of a renamed attempt's user from all others. Names
// are taken as they are: spellings that the guard counts as one may belong to two.
func (b *Backend) owner(a *login.Attempt) string {
	if a.User == "" && a.AuthzID == "" {
		return "" // as with some exchanges that are the client's and the backend's
	}
	return strings.Join([]string{b.guard.Backend, a.User, a.AuthzID}, "\x00")
}

// extend adds to a session what is answered in the backend's place.
func (b *Backend) extend(s *login.Session) {
	if b.extensions == nil || s == nil {
		return
	}
	if offer := b.extensions.Offer(s.Caps); !offer.IsEmpty() {
		s.Added, s.Extender = offer.Capabilities, offer
	}
}

// relayOptions are those of a session.
func relayOptions(h *Handler, s *imapfront.Session, logger *zap.Logger) relay.Options {
	o := relay.Options{
		Idle:           time.Duration(h.IdleTimeout),
		Logger:         h.logger,
		Unauthenticate: hasCapability(s.Backend.Caps, imap.CapUnauthenticate),
		LiteralPlus:    hasCapability(s.Backend.Caps, imap.CapLiteralPlus),
	}
	if offer, ok := s.Backend.Extender.(*imapext.Offer); ok {
		extension := imapext.NewSession(offer)
		extension.Owner = s.Backend.Owner
		user, backend := h.backend.shownUser(s.User), s.Backend.Backend
		extension.Missing = func(mailbox string, uid uint64) {
			logger.Warn("the backend has not given a message: it cannot be converted, or is gone",
				zap.String("user", user), zap.String("mailbox", mailbox), zap.Uint64("uid", uid),
				zap.String("backend", backend))
		}
		o.Extension = extension
		o.Stray = func() {
			logger.Error("the backend has completed a command twice that was put to it for an extension, so that its answers may be mixed up; "+
				"see what stands between it and us, or set its option extensions to off",
				zap.String("user", user), zap.String("backend", backend))
		}
	}
	return o
}

func hasCapability(caps []string, name imap.Cap) bool {
	return slices.ContainsFunc(caps, func(c string) bool { return strings.EqualFold(c, string(name)) })
}
