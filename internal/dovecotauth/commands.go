package dovecotauth

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// command handles one line.
func (c *Conn) command(line string) error {
	word, args, _ := strings.Cut(line, "\t")
	switch c.state {
	case wantVersion:
		if word != "VERSION" {
			return violation("no VERSION first")
		}
		minor, err := parseVersion(args)
		if err != nil {
			return err
		}
		c.minor, c.state = minor, wantCPID
		return nil
	case wantCPID:
		if word != "CPID" {
			return violation("no CPID after VERSION")
		}
		pid, err := parseID(args)
		if err != nil {
			return err
		}
		c.pid.Store(pid)
		// From here on the client may be silent as long as it likes.
		c.state, c.lines.patient = ready, true
		if err := c.nc.SetReadDeadline(time.Time{}); err != nil {
			return fmt.Errorf("setting a deadline: %w", err)
		}
		return nil
	}
	switch word {
	case "AUTH":
		return c.auth(args)
	case "CONT":
		return c.cont(args)
	case "CANCEL":
		id, err := parseID(args)
		if err != nil {
			return err
		}
		c.forget(id)
		return nil
	default:
		return violation("unknown command")
	}
}

// parseID reads the number of a request, or of a process.
func parseID(text string) (uint32, error) {
	id, err := strconv.ParseUint(text, 10, 32)
	if err != nil || id == 0 {
		return 0, violation("id out of range, or no number")
	}
	return uint32(id), nil
}

// auth handles AUTH.
func (c *Conn) auth(args string) error {
	idText, rest, _ := strings.Cut(args, "\t")
	id, err := parseID(idText)
	if err != nil {
		return err
	}
	if c.busy(id) {
		return violation("id is in use")
	}
	mechanism, params, _ := strings.Cut(rest, "\t")
	if mechanism == "" {
		return violation("AUTH without a mechanism")
	}
	r := &request{id: id, server: c.server.Load()}
	r.attempt = login.Attempt{ID: c.id}
	response, valid, err := c.params(r, params)
	if err != nil {
		return err
	}
	c.noteRequest(r.attempt.Service)
	mechanism = strings.ToUpper(mechanism)
	if login.IsRelayed(mechanism) {
		err = c.relay(r, mechanism, response)
	} else {
		r.sasl, err = login.NewSASLServer(mechanism, &r.attempt, func() (err error) {
			r.identity, err = r.server.admit(&r.attempt)
			return err
		})
	}
	if errors.Is(err, login.ErrMechanism) || !slices.Contains(r.server.mechanisms(), mechanism) {
		c.fail(id, "\treason=Unsupported authentication mechanism", "mechanism is not offered")
		return nil
	}
	if !valid {
		c.fail(id, "\tcode=invalid_base64\treason=Invalid base64 data in initial response", "invalid base64")
		return nil
	}
	switch {
	case err != nil:
		c.fail(id, "", errMalformed.why)
	case r.relay != nil:
		c.start(r)
	default:
		c.advance(r, response)
	}
	return nil
}

// params reads the parameters of AUTH into the request. It returns the initial
// response, nil if there is none, and whether it was valid base64.
func (c *Conn) params(r *request, params string) (response []byte, valid bool, err error) {
	a := &r.attempt
	service, last := false, false
	for more := params != ""; more; {
		if last {
			return nil, false, violation("parameter after resp")
		}
		var param string
		param, params, more = strings.Cut(params, "\t")
		name, value, _ := strings.Cut(param, "=")
		value = unescape(value)
		switch name {
		case "service", "protocol":
			a.Service, service = serviceName(value), true
		case "rip":
			if addr, err := netipAddr(value); err == nil {
				a.Remote = addr
			}
		case "rport":
			a.RemotePort = port(value)
		case "lip":
			if addr, err := netipAddr(value); err == nil {
				a.Local = netip.AddrPortFrom(addr, a.Local.Port())
			}
		case "lport":
			a.Local = netip.AddrPortFrom(a.Local.Addr(), port(value))
		case "secured":
			a.Secured = true
		case "final-resp-ok":
			r.finalOK = true
		case "resp":
			last, valid = true, true
			switch {
			case value == "=":
				response = []byte{}
			case value != "":
				response, valid = decode(value)
			case c.minor >= 2:
				// Before 1.2, nothing meant that there is no response.
				response = []byte{}
			}
		}
	}
	if !service {
		return nil, false, violation("AUTH without a service")
	}
	return response, valid || !last, nil
}

// maxService is the longest name of a service that goes into the log.
const maxService = 32

// serviceName returns the name of a service, such as smtp, or "?" for what is none.
func serviceName(s string) string {
	odd := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '-' && r != '_'
	}
	if len(s) > maxService || strings.ContainsFunc(s, odd) {
		return "?"
	}
	return s
}

// cont handles CONT.
func (c *Conn) cont(args string) error {
	idText, data, found := strings.Cut(args, "\t")
	id, err := parseID(idText)
	if err != nil {
		return err
	}
	if !found {
		return violation("CONT without data")
	}
	r := c.claim(id)
	if r == nil {
		why, reason := "no such request", "Authentication request timed out"
		if c.forget(id) {
			why, reason = "CONT for a password under check", "Unexpected continuation"
		}
		c.fail(id, "\treason="+reason, why)
		return nil
	}
	response, valid := decode(data)
	if !valid {
		if r.relay != nil {
			r.relay.answers <- answer{err: login.ErrMessage}
		}
		c.fail(id, "\tcode=invalid_base64\treason=Invalid base64 data in continued response", "invalid base64")
		return nil
	}
	if r.relay != nil {
		c.resume(r, response)
		return nil
	}
	c.advance(r, response)
	return nil
}

// advance gives a SASL message to the exchange of a request. It ends in a CONT,
// in a FAIL or in a check.
func (c *Conn) advance(r *request, response []byte) {
	challenge, done, err := r.sasl.Next(response)
	if err == nil && done {
		err = r.complete()
	}
	switch {
	case err != nil: // looked at first: go-sasl's PLAIN is also done then
		if errors.As(err, &r.refused) {
			// It takes as long as a wrong password.
			c.start(r)
		} else {
			c.fail(r.id, "", errMalformed.why)
		}
	case done:
		c.start(r)
	default:
		c.wait(r)
		// The field must be there even if it is empty.
		c.reply("CONT", r.id, "\t"+base64.StdEncoding.EncodeToString(challenge))
	}
}
