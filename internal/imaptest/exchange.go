package imaptest

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// The ways of Exchange. Where several versions differ, these are the words of 2016
// and 2019.
const (
	// exchangeSessions and exchangeCommand are Exchange's defaults for
	// MaxConnectionsPerUser and MaxCommandSize.
	exchangeSessions = 16
	exchangeCommand  = 10240

	exchangeGreeting = "* OK The Microsoft Exchange IMAP4 service is ready."
	exchangeExtras   = "UIDPLUS MOVE ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+"
)

// Exchange is the profile of an Exchange 2016 or 2019 with STARTTLS and the
// given certificate. Everybody may log in. Set Login, Unconnected and Namespace to
// make it fail in its ways.
//
// It has no capabilities in its greeting and none behind a login, asks for a SASL
// response with a bare "+", takes no password in clear text, has 16 sessions a user
// at most, for which it answers as to a wrong password, and takes no command of
// more than 10240 bytes.
func Exchange(cfg *tls.Config) Profile {
	return Profile{
		Greeting:    exchangeGreeting,
		Before:      "IMAP4 IMAP4rev1 LOGINDISABLED STARTTLS SASL-IR " + exchangeExtras,
		Inside:      "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI SASL-IR " + exchangeExtras,
		After:       "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI SASL-IR UIDPLUS MOVE ID UNSELECT CLIENTNETWORKPRESENCELOCATION CHILDREN IDLE NAMESPACE LITERAL+",
		TLS:         cfg,
		MaxSessions: exchangeSessions,
		MaxCommand:  exchangeCommand,
		ID:          `("name" "Microsoft.Exchange.Imap4.Imap4Server" "version" "15.1")`,
		Bye:         "Microsoft Exchange Server 2016 IMAP4 server signing off.",
	}
}

// Exchange2013 is the profile of an Exchange 2013, which has no SASL-IR.
func Exchange2013(cfg *tls.Config) Profile {
	p := Exchange(cfg)
	p.Before = "IMAP4 IMAP4rev1 LOGINDISABLED STARTTLS UIDPLUS MOVE ID CHILDREN IDLE NAMESPACE LITERAL+"
	p.Inside = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI UIDPLUS MOVE ID CHILDREN IDLE NAMESPACE LITERAL+"
	p.After = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI UIDPLUS MOVE ID XPROXY3 CHILDREN IDLE NAMESPACE LITERAL+"
	p.ID = `("name" "Microsoft.Exchange.Imap4.Imap4Server" "version" "15.0")`
	p.Bye = "Microsoft Exchange Server 2013 IMAP4 server signing off."
	return p
}

// ExchangeOnline is the profile of Exchange Online: TLS comes first, and the greeting
// has the name of the machine in it.
func ExchangeOnline(cfg *tls.Config) Profile {
	p := Exchange(cfg)
	p.Implicit = true
	p.Greeting = exchangeGreeting + " [" + base64UTF16("AM0PR05CA0001.eurprd05.prod.example.test") + "]"
	p.Inside = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS ID UNSELECT CHILDREN IDLE NAMESPACE LITERAL+"
	p.After = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=XOAUTH2 SASL-IR UIDPLUS MOVE ID UNSELECT CLIENTACCESSRULES CLIENTNETWORKPRESENCELOCATION BACKENDAUTHENTICATE CHILDREN IDLE NAMESPACE LITERAL+"
	p.Bye = "Microsoft Exchange Server IMAP4 server signing off."
	return p
}

// base64UTF16 is how a name stands in the greeting.
func base64UTF16(name string) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(name)) {
		b = binary.LittleEndian.AppendUint16(b, unit)
	}
	return base64.StdEncoding.EncodeToString(b)
}

// ExchangeFailed is how Exchange refuses a login, whatever the reason is.
func ExchangeFailed(l Login) string { return "NO " + strings.ToUpper(l.Command) + " failed." }

// What Exchange says besides.
const (
	// ExchangeNotConnected answers every command of a user whose login it has
	// confirmed but not carried out.
	ExchangeNotConnected = "BAD User is authenticated but not connected."
	// ExchangeThrottled is the tagged answer of one that wants to be left alone
	// for a minute and a half; ExchangeClosed follows.
	ExchangeThrottled = "BAD Request is throttled. Suggested Backoff Time: 90000 milliseconds"
	// ExchangeUnavailable is the tagged answer of a front end whose back end is
	// away.
	ExchangeUnavailable = "NO Server Unavailable. 15"
	// ExchangeInvalidState is the tagged answer to LOGIN where it may not be.
	ExchangeInvalidState = "BAD Command received in Invalid state."
	// ExchangeClosed and ExchangeExpired are untagged, and the last line.
	ExchangeClosed  = "* BYE Connection closed. 14"
	ExchangeExpired = "* BYE Session invalidated - AccessTokenExpired"
)
