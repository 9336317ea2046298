package dovecotauth

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// UserDB serves connections of the master protocol, version 1.1, as far as a
// client of an auth-userdb socket speaks it. It knows no users, and never says
// that one does not exist, since mail for him would bounce: it answers as a
// Dovecot does whose only user database is "prefetch". It is safe for concurrent
// use.
type UserDB struct {
	// Logger gets what the operator should know. Default: none.
	Logger *zap.Logger
}

// Serve talks to one client until it closes the connection, breaks the rules, or
// ctx is done. It closes nc, as Conn.Serve does.
//
// The error says why the conversation ended, and is nil if the client ended it.
func (u *UserDB) Serve(ctx context.Context, nc net.Conn) error {
	m := &master{nc: nc, lines: newLineReader(nc, maxMasterLine)}
	guard := recoverer{orNop(u.Logger)}
	stop := guard.whenDone(ctx, func() { reset(nc) })
	defer stop()
	err := m.serve()
	if ended(err) {
		_ = nc.Close()
		return nil
	}
	reset(nc)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// master is one connection of the master protocol. Everything is answered at
// once, in order, by one goroutine.
type master struct {
	nc    net.Conn
	lines *lineReader
}

func (m *master) serve() error {
	if err := m.write([]byte("VERSION\t1\t1\nSPID\t" + strconv.Itoa(os.Getpid()) + "\n")); err != nil {
		return err
	}
	if err := m.nc.SetReadDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return fmt.Errorf("setting a deadline: %w", err)
	}
	for {
		line, err := m.lines.next()
		if err != nil {
			return fmt.Errorf("reading a line: %w", err)
		}
		if !m.lines.patient {
			if err := m.hello(line); err != nil {
				return err
			}
			continue
		}
		answer, err := answerMaster(line)
		if err != nil {
			return err
		}
		if err := m.write(answer); err != nil {
			return err
		}
	}
}

// hello handles the first line. After it, the client may be silent for as long
// as it likes.
func (m *master) hello(line string) error {
	word, args, _ := strings.Cut(line, "\t")
	if word != "VERSION" {
		return violation("no VERSION first")
	}
	if _, err := parseVersion(args); err != nil {
		return err
	}
	m.lines.patient = true
	if err := m.nc.SetReadDeadline(time.Time{}); err != nil {
		return fmt.Errorf("setting a deadline: %w", err)
	}
	return nil
}

func (m *master) write(b []byte) error {
	if err := m.nc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return fmt.Errorf("setting a deadline: %w", err)
	}
	if _, err := m.nc.Write(b); err != nil {
		return fmt.Errorf("writing an answer: %w", err)
	}
	return nil
}

// answerMaster returns the answer to one request.
func answerMaster(line string) ([]byte, error) {
	word, args, _ := strings.Cut(line, "\t")
	switch word {
	case "USER", "PASS", "LIST":
	default:
		return nil, violation("unknown command")
	}
	idText, rest, _ := strings.Cut(args, "\t")
	id, err := strconv.ParseUint(idText, 10, 32)
	if err != nil {
		return nil, violation("id out of range, or no number")
	}
	if word == "LIST" {
		return appendReply(nil, "DONE", uint32(id), "\tfail"), nil
	}
	if user, params, _ := strings.Cut(rest, "\t"); user == "" || !hasService(params) {
		return nil, violation(word + " without a user or a service")
	}
	if word == "PASS" {
		return appendReply(nil, "FAIL", uint32(id), "\treason=Configured passdbs don't support credentials lookups"), nil
	}
	return appendReply(nil, "FAIL", uint32(id), ""), nil
}

// hasService says whether there is a service= among parameters.
func hasService(params string) bool {
	for param := range strings.SplitSeq(params, "\t") {
		name, _, _ := strings.Cut(param, "=")
		if name == "service" || name == "protocol" {
			return true
		}
	}
	return false
}
