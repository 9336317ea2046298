package caddyimap

import (
	"context"
	"errors"
	"fmt"

	"github.com/emersion/go-imap/v2"
	"go.uber.org/zap"

	"github.com/caddy-imap/caddy-imap/internal/glue"
	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Why somebody cannot be logged in whom a certificate vouches for.
var (
	errNoMaster = errors.New("the backend has no master user to log in those who have a client certificate; " +
		"set its options master_user and master_password")
	errMasterRefused = errors.New("the backend has refused to let its master user log in as this user")
)

// master is the user of a backend that may log in as anybody.
type master struct {
	user     string
	password login.Secret
	// refused bounds how often the log says that the backend did not let it.
	refused glue.Seldom
	logger  *zap.Logger
}

func (b *Backend) provisionMaster(logger *zap.Logger) error {
	switch {
	case b.MasterUser == "" && b.MasterPassword == "":
		return nil
	case b.MasterUser == "":
		return errors.New("master_password: it is of no use without a name; add the option master_user")
	case b.MasterPassword == "":
		return errors.New("master_user: it cannot log in without a password; add the option master_password")
	}
	user, err := glue.Secret("master_user", b.MasterUser)
	if err != nil {
		return err
	}
	password, err := glue.Secret("master_password", b.MasterPassword)
	if err != nil {
		return err
	}
	b.master = &master{user: user, password: login.Secret(password), logger: logger}
	if err := b.master.become(new(login.Attempt)).Check(); err != nil {
		return fmt.Errorf("master_user and master_password: one of them is %w", err)
	}
	return nil
}

// nameVouched looks whether somebody can be logged in whom a certificate vouches for.
// A name that asks for somebody else's mailbox besides is none that a certificate has.
func (b *Backend) nameVouched(renamed *login.Attempt) (*login.Attempt, login.Verdict) {
	switch {
	case b.master == nil:
		return nil, login.UnavailableFor(errNoMaster)
	case login.IsDelegate(renamed.User):
		return nil, login.UnavailableFor(errRename)
	}
	return renamed, login.Verdict{}
}

// become returns the attempt of the master user to log in as the attempt's user.
func (m *master) become(a *login.Attempt) *login.Attempt {
	asked := *a
	asked.User, asked.AuthzID, asked.Secret = m.user, a.User, m.password
	asked.Certificate, asked.Form = nil, login.FormAuthenticate
	return &asked
}

// logIn logs a renamed attempt in on a connection, by the master user if it is a
// certificate that vouches.
func (b *Backend) logIn(ctx context.Context, c *imapauth.Client, a *login.Attempt, command imapauth.AuthCommand) (*login.Session, login.Verdict) {
	if a.Certificate == nil {
		return c.Open(ctx, b.asDelegate(a), command)
	}
	session, v := c.OpenAs(ctx, b.master.become(a))
	if v.Result == login.Denied {
		b.master.refusedBy(b.name, &v)
	}
	return session, v
}

// refusedBy tells the operator that a user could not be logged in, and makes the
// verdict one about that: the client has not shown a wrong password.
func (m *master) refusedBy(backend string, v *login.Verdict) {
	if v.Code == imap.ResponseCodeAuthenticationFailed {
		v.Code = imap.ResponseCodeAuthorizationFailed
	}
	v.Err = errMasterRefused
	if n, due := m.refused.Due(); due {
		m.logger.Error("the backend does not let its master user log in as users who have a client certificate: see that master_user and "+
			"master_password are right, that the backend takes this user for a master user that may log in as others with AUTHENTICATE PLAIN, "+
			"and that it has the users that client_certificate makes of certificates",
			zap.String("backend", backend), zap.String("upstream", v.Upstream), zap.String("code", string(v.Code)), zap.Int("logins", n))
	}
}
