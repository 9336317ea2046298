package guard

import (
	"context"
	"time"
)

// Store counts for several instances at once. Its methods are called with a
// context that is over soon, and from several goroutines. They return when the
// context is over, or else they would hold up a login. Some may still be called
// for a moment after the store was detached.
type Store interface {
	// Admit decides about an attempt, and reserves a part of the account's
	// budget and of the source's if it is allowed, in one step. A reservation for
	// which Settle is never called has to end by itself.
	Admit(ctx context.Context, a Admission) (Admitted, error)
	// Settle says what has come of an attempt. The store may not know it, if it
	// was away or not asked. Before a store is used, it is told that nothing has
	// come of an attempt that it does not know, to see how soon it answers.
	Settle(ctx context.Context, s Settlement) error
	// Merge adds what an instance has counted on its own. What the store knows
	// already does not count twice, and what it was told to forget since does not
	// come back.
	Merge(ctx context.Context, s *Snapshot) error
	// LiftAccount and LiftSource forget what counts against an account or a
	// source.
	LiftAccount(ctx context.Context, account ID) error
	LiftSource(ctx context.Context, source [8]byte) error
}

// Admission is the question whether an attempt may reach the backend.
type Admission struct {
	// Ticket names the attempt.
	Ticket uint64
	// Account and Source are who wants in, and from where. Source is all zero
	// if that is not known.
	Account ID
	Source  [8]byte
	// Backend is the one that is asked.
	Backend [8]byte
	// Home is the source as the account knows it; the like from the same source
	// for another user who shares the account is different. It is all zero if the
	// source is not known.
	Home [8]byte
	// Known says that the attempt may use what is kept for known sources.
	// Again says that it may not, even if the store knows the source: the very
	// attempt was refused before.
	Known, Again bool
	// Now is the time; Window for how long failures count.
	Now    time.Time
	Window time.Duration
	// AccountFailures is the budget, and KnownReserve what is kept of it for
	// known sources.
	AccountFailures, KnownReserve int
	// SourceFailures ban the source, unless it is exempt.
	SourceFailures int
	Exempt         bool
}

// Admitted is the answer.
type Admitted struct {
	// Allowed says that the backend may be asked, as far as the budget goes.
	Allowed bool
	// Crowded says that it may not be yet, since as many logins of the source are
	// under way as could be wrong before it is banned. One always may be.
	Crowded bool
	// Banned is until when the source is banned; zero if it is not.
	Banned time.Time
	// HeldOff is until when this backend wants to be left alone with the user;
	// zero if it does not.
	HeldOff time.Time
}

// Settlement is what the backend said about an attempt.
type Settlement struct {
	// Ticket is that of the Admission. There may have been none. If a ticket has
	// failed before, its failure counts once, from Now on: a password that was
	// right before has the same ticket every time.
	Ticket  uint64
	Account ID
	Source  [8]byte
	// Backend is the one that was asked.
	Backend [8]byte
	// Home is as in the Admission.
	Home [8]byte
	// Pair is the account with the password, as it counts against the source. Its
	// first four bytes are the account's; the others mean nothing to other instances.
	// What is Granted takes back what counts of the same account.
	Pair [8]byte
	// Granted and Failed say how it counts; neither is for an attempt that
	// counts not at all.
	Granted, Failed bool
	// Stale says of a failure that the password was tried, or was right, before.
	// It is not forgiven, for it was not just mistyped.
	Stale bool
	// Exempt says that the source is never banned, and that nothing is forgiven.
	Exempt bool
	// Forgive is how many failures may be forgotten because the same source has
	// logged in, until a window has passed without. Those beyond become stale.
	Forgive int
	// HeldOff is until when the backend wants to be left alone with the user;
	// zero if it does not.
	HeldOff time.Time
	// Now is the time; Window for how long failures count.
	Now    time.Time
	Window time.Duration
	// SourceFailures ban a source, for SourceBan.
	SourceFailures int
	SourceBan      time.Duration
}
