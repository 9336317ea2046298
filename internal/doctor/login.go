package doctor

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"

	"github.com/caddy-imap/caddy-imap/internal/imapauth"
	"github.com/caddy-imap/caddy-imap/internal/login"
	"github.com/caddy-imap/caddy-imap/internal/oauthlogin"
)

// counts is what an operator should know before another try.
const counts = "each try counts at the directory, which may lock the account"

// slow is how long a login may take without a word about it: half of what there is.
func (d *Doctor) slow() time.Duration { return d.timeout() / 2 }

const slowAdvice = "the server takes its time with logins; Dovecot does so on purpose, up to 15s, with an address that wrong passwords have come from: " +
	"have it told where clients come from (forward_client), and set auth_timeout 20s; elsewhere look at its load and at its directory"

// login logs in, if somebody is to, on a connection that is ready for it.
func (t *talk) login(c *imapauth.Client) {
	d := t.d
	switch {
	case d.Login == nil:
		c.Leave(t.parent)
		t.say(StepLogin, left("nobody has logged in; say who with --user"), 0)
		return
	case !t.passwords:
		c.Leave(t.parent)
		t.say(StepLogin, left("this server takes no passwords, and this command has nothing else to log in with"), 0)
		return
	case d.withheld:
		c.Leave(t.parent)
		t.say(StepLogin, left("the password was not accepted elsewhere, and is not sent again"), 0)
		return
	}
	user, others := d.Login.User, d.Login.spellings()
	if product(t.greeting, t.caps) == "Dovecot" && !strings.Contains(user, `\`) {
		// It knows no Windows domains, and each try makes it slower.
		others = slices.DeleteFunc(others, func(form string) bool { return strings.Contains(form, `\`) })
	}
	if d.granted != "" {
		user, others = d.granted, nil
	}
	for {
		v := t.try(c, user, others)
		if v.Result == login.Granted {
			t.after(user)
			if d.granted == "" && user != d.Login.User {
				t.respelled(user)
			}
			d.granted = user
			return
		}
		d.withheld = true
		if v.Result != login.Denied || len(others) == 0 || d.Again == nil {
			return
		}
		if !d.Again(others[0]) {
			t.say(StepLogin, finding{fault: Denied, message: "nobody was let in"}, 0)
			return
		}
		user, others = others[0], others[1:]
		if c = t.again(); c == nil {
			return
		}
		d.withheld = false
	}
}

// again makes another connection for another try, without telling all that is known
// of it already.
func (t *talk) again() *imapauth.Client {
	t.ctx = t.d.stepwise(t.parent)
	defer t.ctx.stop()
	conn, err := t.d.dial(t.ctx, t.network, t.address)
	if err != nil {
		t.say(StepPort, portFault(PartBackend, t.cfg.Address, err), 0)
		return nil
	}
	quiet := t.cfg
	quiet.Trace = func(e imapauth.Event) {
		if e.Step == imapauth.StepLogin || e.Step == imapauth.StepProbe {
			t.traced(e)
		}
	}
	c, err := imapauth.Prepare(t.ctx, conn, &quiet, login.Ends{})
	if err != nil {
		t.say(StepLogin, talkFault(err, t.cfg.Mode), 0)
		return nil
	}
	return c
}

// try logs a user in and out again.
func (t *talk) try(c *imapauth.Client, user string, others []string) login.Verdict {
	t.ctx = t.d.stepwise(t.parent)
	defer t.ctx.stop()
	t.user, t.others, t.told, t.probed = user, others, false, false
	a := &login.Attempt{Service: "imap", User: user, Secret: t.d.Login.Secret, Form: login.FormAuthenticate, Start: time.Now()}
	if t.b.Rename != nil {
		renamed, v := t.b.Rename(a)
		if renamed == nil {
			c.Close()
			t.verdict(imapauth.Event{Step: imapauth.StepLogin, Verdict: v})
			return v
		}
		a = renamed
	}
	t.sent = a.User
	if t.b.Token != nil {
		with, v := t.b.Token(t.ctx, a)
		if v.Result != login.Granted {
			c.Close()
			t.verdict(imapauth.Event{Step: imapauth.StepLogin, Verdict: v})
			return v
		}
		a = with
	}
	v := c.Check(t.ctx, a, imapauth.Plain)
	if !t.told || v.Result != login.Granted && !t.failed {
		t.verdict(imapauth.Event{Step: imapauth.StepLogin, Verdict: v})
	}
	return v
}

// verdict tells what a login or the look behind it came to.
func (t *talk) verdict(e imapauth.Event) {
	step := StepLogin
	if e.Step == imapauth.StepProbe {
		step, t.probed = StepProbe, true
	}
	t.told = true
	how := e.Method + " as " + foreign(t.sent)
	if e.Method == "" {
		how = "the login as " + foreign(t.user)
	}
	v := e.Verdict
	var f finding
	switch {
	case v.Result == login.Granted && step == StepProbe:
		f = fine("the mailbox answers")
	case v.Result == login.Granted:
		f = fine(how + " is let in")
		if e.Took > t.d.slow() {
			f.status = Warning
			f.advice = []string{slowAdvice}
		}
	case errors.Is(v.Err, login.ErrUnsafe):
		f = finding{fault: Denied, message: "the name or the password is empty or too long, or has a control character in it that is not allowed there; no backend is asked about such"}
	case v.Suspect:
		f = finding{fault: FalseOK, message: "the login was answered with OK, and then the mailbox was not opened"}
		f.advice = []string{
			"at Exchange this is a wrong password, a mailbox that is not there or has no IMAP (Get-CASMailbox, Set-CASMailbox -ImapEnabled $true), or too many sessions; " + counts,
			"users are told to try again later meanwhile, and Postfix says 454",
		}
	case v.Result == login.Throttled:
		f = throttledFinding(v.Err, v.Backoff)
	case v.Result == login.Denied:
		f = t.denied(how, v)
		if e.Took > t.d.slow() {
			f.advice = append(f.advice, slowAdvice)
		}
	default:
		f = talkFault(v.Err, t.cfg.Mode)
		if f.fault == Silent || f.fault == HungUp {
			f.fault = Unavailable
		}
		if errors.Is(v.Err, imapauth.ErrTimeout) {
			f.message, f.advice = "the server does not say in time whether the password is right", []string{slowAdvice, "to wait longer here: --timeout 20s"}
		}
		f.message = how + ": " + f.message
	}
	t.say(step, f, e.Took)
}

// denied tells of a refusal, and of other spellings of the name. If one of these may be
// tried next, it is a warning: what is wrong is known after the last.
func (t *talk) denied(how string, v login.Verdict) finding {
	f := finding{fault: Denied, message: how + " is refused"}
	if len(t.others) > 0 && t.d.Again != nil {
		f.status = Warning
		t.failed = true // it has ended the conversation all the same
	}
	if v.Err != nil {
		f.message += ": " + foreign(v.Err.Error())
		if !errors.Is(v.Err, oauthlogin.ErrWrong) {
			return f
		}
	}
	switch v.Code {
	case imap.ResponseCodeExpired:
		f.message += ": the password has expired"
		f.advice = []string{"set a new one"}
	case imap.ResponseCodeContactAdmin, imap.ResponseCodeNoPerm:
		f.message += ": the account is disabled, or may not use IMAP"
		f.advice = []string{"allow it there"}
	case imap.ResponseCodeAuthorizationFailed:
		f.message += ": not allowed for this mailbox"
		f.advice = []string{"give the user full access to that mailbox, or log in without naming it"}
	}
	if t.cfg.AuthCommand != imapauth.Login && product(t.greeting, t.caps) == "Exchange" {
		f.advice = append(f.advice, "Exchange takes some names with the command LOGIN only, as for shared mailboxes: auth_command login (with --to: --auth-command login)")
	}
	if t.sent != t.user {
		f.advice = append(f.advice, "the option username has made "+foreign(t.sent)+" of "+foreign(t.user))
	}
	if len(t.others) == 0 {
		f.advice = append(f.advice, "check the name and the password, and whether the account is locked; "+counts)
		return f
	}
	quotedForms := make([]string, len(t.others))
	for i, form := range t.others {
		quotedForms[i] = "--user '" + foreign(form) + "'"
	}
	f.advice = append(f.advice, "servers differ in the names that they take: if the password is right, try "+strings.Join(quotedForms, ", then ")+"; "+counts)
	return f
}

func throttledFinding(err error, backoff time.Duration) finding {
	f := finding{fault: Throttled, message: "the server holds logins off"}
	if backoff > 0 {
		f.message += fmt.Sprintf(", for %s", backoff)
	}
	if err != nil {
		f.message += ": " + foreign(err.Error())
	}
	f.advice = []string{
		"wait, and try again; at Exchange look at the throttling policy of the user and at MaxConnectionsPerUser, MaxConnectionFromSingleIP and MaxConnections of Get-ImapSettings",
		"all users come from one address now: let the server's limits by address except this machine, or tell it who comes with forward_client",
	}
	return f
}

// after tells of what comes behind a login that was granted.
func (t *talk) after(user string) {
	if !t.probed {
		why := "nothing about this server looks like Exchange (probe auto)"
		if t.cfg.Probe == imapauth.ProbeOff {
			why = "by the option probe off"
		}
		t.say(StepProbe, left("not asked, as in operation: "+why), 0)
	}
	if login.IsDelegate(user) {
		t.say(StepDelegate, finding{status: OK, message: foreign(user) + " asks for the mailbox of somebody else, and gets it; listeners dovecot_auth refuse it, unless they have allow_delegates"}, 0)
	}
}

// respelled tells that another name than the one that was given has been let in.
func (t *talk) respelled(user string) {
	f := finding{status: Warning, message: "the server takes " + foreign(user) + ", and refuses " + foreign(t.d.Login.User),
		advice: []string{"let users type " + foreign(user)}}
	if template := usernameFor(t.d.Login.User, t.sent); template != "" {
		f.advice[0] += "; or let them type what they like, and write into the backend: username " + foreign(template)
	}
	t.say(StepLogin, f, 0)
}
