package caddyimap

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapext"
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
		if b.IdleInterval != 0 {
			return errors.New("idle_interval: without extensions it means nothing; remove it, or set extensions")
		}
		return nil
	}
	if err := imapext.Check(b.Extensions); err != nil {
		return fmt.Errorf("extensions: %w", err)
	}
	if b.IdleInterval == 0 {
		b.IdleInterval = caddy.Duration(defaultIdleInterval)
	}
	if d := time.Duration(b.IdleInterval); d < minTimeout {
		return fmt.Errorf("idle_interval %s: must be at least %s; a number without a unit counts nanoseconds", d, minTimeout)
	}
	b.extensions = &imapext.Config{Names: b.Extensions, IdleInterval: time.Duration(b.IdleInterval)}
	return nil
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
func relayOptions(idle time.Duration, s *login.Session) relay.Options {
	o := relay.Options{
		Idle:           idle,
		Unauthenticate: hasCapability(s.Caps, imap.CapUnauthenticate),
		LiteralPlus:    hasCapability(s.Caps, imap.CapLiteralPlus),
	}
	if offer, ok := s.Extender.(*imapext.Offer); ok {
		o.Extension = imapext.NewSession(offer)
	}
	return o
}

func hasCapability(caps []string, name imap.Cap) bool {
	return slices.ContainsFunc(caps, func(c string) bool { return strings.EqualFold(c, string(name)) })
}
