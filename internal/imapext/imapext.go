// Package imapext answers IMAP extensions that a backend lacks, with what the backend
// does know. There is no mail store: what is needed for an answer is asked for, and
// all that the backend does itself passes untouched.
//
// Each extension is a feature in a file of its own, which names its RFC.
package imapext

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/relay"
)

// feature is one extension.
type feature struct {
	// name is what the capability list has.
	name string
	// needs are capabilities without which it cannot be answered, or means nothing: the
	// backend has them, or they are answered by a feature further up.
	needs []string
	// native are capabilities of the backend that make it unnecessary, besides its name.
	native []string
	// commands are those that it answers, such as "SORT" and "UID SORT".
	commands map[string]handler
	// byName says that it is not one of all, but has to be named; instead is another that
	// it is not offered with.
	byName  bool
	instead string
}

// handler is how a command is answered.
type handler struct {
	interest relay.Interest
	// plan returns how the command is carried out; nil to have it passed on.
	plan func(s *Session, c *command) func(*relay.Turn) error
}

// or returns a handler for a command that several features answer. Those that carry it out
// do so in the same way.
func (h handler) or(other handler) handler {
	if h.plan == nil {
		h.plan = other.plan
	}
	if h.interest == relay.Pass || other.interest == relay.Whole {
		h.interest = other.interest
	}
	return h
}

// features are all extensions, in the order in which they are listed.
var features = []*feature{
	identification, enabling, unselecting, idling, literalPlus, literalMinus, moving, compressing,
	appendingMany, replacing, appendLimit,
	namespaceFeature, childrenFeature, listExtended, listStatus, specialUse, statusSize,
	esearch, searchResult, searchWithin, searchFuzzily, searchUTF8, searchContext,
	sortPlain, sortDisplay, sortExtended, sortContext, threadSubjects, threadReplies, threadRefer,
}

// Config is what the sessions of one backend share. It is not changed once in use.
type Config struct {
	// Names are the extensions to answer if the backend lacks them, as capability lists
	// have them. "auto" is all but those that have to be named, and "-" before a name
	// leaves that one out.
	Names []string
	// Cache is where what was learnt of messages is kept. Without it nothing is kept.
	Cache *Cache
	// IdleInterval is how often a backend is asked for news while a client is in IDLE.
	IdleInterval time.Duration
	// AppendLimit is how large a message the backend takes, in bytes; 0 if that is not
	// known.
	AppendLimit int64
	// SpecialUse has the names of mailboxes, in UTF-8, by what they are for, such as
	// `\Sent`. A use that is in it is not looked for by the names that are known.
	SpecialUse map[string][]string
	// HideFolders says whether folders that hold no mail are left out of lists.
	HideFolders Switch
	// ReportMissing says whether messages are reported that the backend does not give.
	ReportMissing Switch
	// MendCopyUID says whether a bare COPYUID that the backend answers MOVE with is put right.
	MendCopyUID Switch

	mu     sync.Mutex
	offers map[string]*Offer
}

// Switch is an option that can be left to circumstances.
type Switch uint8

const (
	// SwitchAuto is on in front of an Exchange, if Names has "auto".
	SwitchAuto Switch = iota
	// SwitchOn and SwitchOff are the same in front of everything.
	SwitchOn
	SwitchOff
)

// maxOffers is how many different capability lists of a backend are remembered.
const maxOffers = 16

// Offer is what is answered in front of a backend with certain capabilities.
type Offer struct {
	// Capabilities are those to be listed besides the backend's.
	Capabilities []string

	cfg *Config
	// appendLimit is how large a message may be, in bytes, if we are to say so.
	appendLimit int64

	native   map[string]bool
	commands map[string]handler
	// hide says that folders which hold no mail are left out of lists, report that messages
	// are reported which the backend does not give.
	hide, report bool
	// asciiOnly says that the backend has refused to search in UTF-8.
	asciiOnly atomic.Bool
	cache     *Cache
}

// IsEmpty says whether nothing is to be answered.
func (o *Offer) IsEmpty() bool { return len(o.commands) == 0 }

// answers says whether an extension is answered here.
func (o *Offer) answers(name string) bool { return slices.Contains(o.Capabilities, name) }

// Has says whether the backend has a capability by itself.
func (o *Offer) Has(capability string) bool { return o.native[capability] }

// Offer returns what is answered for a backend that has these capabilities after
// login.
func (cfg *Config) Offer(caps []string) *Offer {
	native := make(map[string]bool, len(caps))
	for _, c := range caps {
		native[strings.ToUpper(c)] = true
	}
	names := make([]string, 0, len(native))
	for c := range native {
		names = append(names, c)
	}
	slices.Sort(names)
	key := strings.Join(names, " ")
	cfg.mu.Lock()
	defer cfg.mu.Unlock()
	if o := cfg.offers[key]; o != nil {
		return o
	}
	if cfg.offers == nil || len(cfg.offers) >= maxOffers {
		cfg.offers = make(map[string]*Offer)
	}
	o := cfg.makeOffer(native)
	cfg.offers[key] = o
	return o
}

func (cfg *Config) makeOffer(native map[string]bool) *Offer {
	o := &Offer{cfg: cfg, native: native, commands: make(map[string]handler), cache: cfg.Cache}
	for _, f := range features {
		if !cfg.wants(f) || !f.lacking(native, o.Capabilities) || slices.Contains(o.Capabilities, f.instead) {
			continue
		}
		name := f.name
		if f == appendLimit {
			if !cfg.limited(native) {
				continue
			}
			o.appendLimit = cfg.AppendLimit
			name = fmt.Sprintf("%s=%d", name, cfg.AppendLimit)
		}
		o.Capabilities = append(o.Capabilities, name)
		o.add(f.commands)
	}
	if o.hide = cfg.decides(cfg.HideFolders, native); o.hide {
		o.add(hidingCommands)
	}
	if o.report = cfg.decides(cfg.ReportMissing, native); o.report {
		o.add(reportingCommands)
	}
	if cfg.decides(cfg.MendCopyUID, native) {
		o.add(mendingCommands)
	}
	if len(o.Capabilities) > 0 {
		o.commands["CAPABILITY"] = handler{relay.Whole, capability}
		if native[compressing.name] {
			maps.Copy(o.commands, compressing.commands)
		}
	}
	return o
}

// add has more commands answered.
func (o *Offer) add(commands map[string]handler) {
	for name, h := range commands {
		o.commands[name] = o.commands[name].or(h)
	}
}

// decides returns what a switch means in front of a backend.
func (cfg *Config) decides(s Switch, native map[string]bool) bool {
	if s == SwitchAuto {
		return slices.Contains(cfg.Names, Auto) && looksLikeExchange(native)
	}
	return s == SwitchOn
}

// wants says whether an extension is to be answered if it is lacking.
func (cfg *Config) wants(f *feature) bool {
	return f.isAmong(cfg.Names)
}

// lacking says whether a backend lacks the extension, and whether there is what it needs, at
// the backend or answered here.
func (f *feature) lacking(native map[string]bool, here []string) bool {
	for _, name := range f.native {
		if native[name] {
			return false
		}
	}
	for _, name := range f.needs {
		if !native[name] && !slices.Contains(here, name) {
			return false
		}
	}
	return !native[f.name]
}

// Session is one client's. It is a relay.Extension.
type Session struct {
	// Owner says whose mailboxes these are, by backend and user: what is learnt of
	// messages is kept for all his sessions. If it is empty, nothing is kept.
	Owner string

	offer *Offer
	// mailbox is what is selected; nil if nothing is.
	mailbox *mailbox
	// compressed says that the client and we compress what we say.
	compressed bool

	// Missing, if not nil, is told of messages that the backend was asked for and did not
	// give: by the mailbox's name as the backend has it, and UID. It is set before the
	// session begins, and may be called by any goroutine.
	Missing func(mailbox string, uid uint64)
	// missing is how many there were.
	missing atomic.Int32

	// held is what a backend has said too early, and shifted says that numbers of messages
	// have come behind it.
	held    []byte
	shifted bool
	// clock tells the time; nil is time.Now.
	clock func() time.Time
}

func (s *Session) now() time.Time {
	if s.clock != nil {
		return s.clock()
	}
	return time.Now()
}

// NewSession returns a session to which the offer holds.
func NewSession(o *Offer) *Session { return &Session{offer: o} }

// Wants implements relay.Extension.
func (s *Session) Wants(name []byte) relay.Interest {
	interest := s.offer.commands[string(name)].interest
	switch {
	case interest != relay.Pass || len(s.held) == 0:
		return interest
	case byNumber[string(name)]:
		return relay.Whole
	}
	return relay.Head
}

// Plan implements relay.Extension.
func (s *Session) Plan(text []byte) func(*relay.Turn) error {
	c := parseCommand(text)
	if len(s.held) > 0 {
		return s.planHeld(c)
	}
	return s.planFor(c)
}

// planFor returns how a command is carried out; nil to have it passed on.
func (s *Session) planFor(c *command) func(*relay.Turn) error {
	if s.offer.answers("SEARCHRES") {
		if plan := useSaved(s, c); plan != nil {
			return plan
		}
	}
	h := s.offer.commands[c.name]
	if h.plan == nil {
		return nil
	}
	return h.plan(s, c)
}

// Interface guard.
var _ relay.Extension = (*Session)(nil)
