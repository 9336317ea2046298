package imapfront

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
	"github.com/caddy-imap/caddy-imap/internal/login"
)

// Limits of what a client may send before it has logged in.
const (
	// maxLine bounds a line of a command.
	maxLine = 8 << 10
	// maxCommand bounds a command with all its lines and literals, and a line
	// of AUTHENTICATE, which may carry a long initial response.
	maxCommand = 64 << 10
	// maxLiterals bounds the literals of a command. ID, which has the most
	// strings, may have 60 (RFC 2971 section 3.3).
	maxLiterals = 60
	// maxTag bounds the tag, which we have to repeat.
	maxTag = 256
)

// commands are those that there are before login.
var commands = []string{"CAPABILITY", "NOOP", "LOGOUT", "STARTTLS", "ID", "LOGIN", "AUTHENTICATE"}

const (
	invalidArguments = "Invalid arguments."
	badCharacters    = "NUL or CR within a line."
)

// errCommandTooLong ends the connection: what follows cannot be told from data.
var errCommandTooLong = errors.New("command too long")

// command is one command of a client: the text of its lines, and the literals
// between them. There is always one line more than there are literals.
type command struct {
	// tag is empty if there is no valid one; name is one of commands, or empty.
	tag, name string
	lines     [][]byte
	literals  [][]byte
	// fault, if not empty, is what BAD says about the command.
	fault string
}

// readCommand reads one command with its literals. A synchronising literal is
// only invited if invite says so for this command, and nothing is wrong with it
// so far; otherwise the command ends there, with a fault. An error means that
// the connection cannot go on.
func readCommand(r *imapwire.Reader, invite func(name string) (bool, error)) (*command, error) {
	line, err := r.ReadLineFunc(lineLimit)
	if err != nil && !errors.Is(err, imapwire.ErrBadLine) {
		return nil, err
	}
	cmd := parseHead(line)
	if err != nil {
		cmd.fault = badCharacters
	}
	for total := len(line); ; {
		lit, ok := imapwire.TrailingLiteral(line)
		if !ok {
			return cmd, nil
		}
		if lit.Size > int64(maxCommand-total) || len(cmd.literals) == maxLiterals {
			if lit.NonSync {
				return nil, errCommandTooLong
			}
			cmd.fault = "Literal too big."
			return cmd, nil
		}
		if !lit.NonSync {
			if cmd.fault != "" {
				return cmd, nil
			}
			invited, err := invite(cmd.name)
			if err != nil {
				return nil, err
			}
			if !invited {
				cmd.fault = invalidArguments
				return cmd, nil
			}
		}
		last := len(cmd.lines) - 1
		cmd.lines[last] = bytes.TrimSuffix(cmd.lines[last], line[lit.Start:])
		data, err := r.ReadLiteral(int(lit.Size))
		if err != nil {
			return nil, fmt.Errorf("reading a literal: %w", err)
		}
		line, err = r.ReadLine(maxLine)
		if errors.Is(err, imapwire.ErrBadLine) {
			cmd.fault = badCharacters
		} else if err != nil {
			return nil, fmt.Errorf("reading on behind a literal: %w", err)
		}
		cmd.literals = append(cmd.literals, data)
		cmd.lines = append(cmd.lines, bytes.Clone(line))
		if total += len(data) + len(line); total > maxCommand {
			return nil, errCommandTooLong
		}
	}
}

// lineLimit allows AUTHENTICATE a longer line, for its initial response.
func lineLimit(head []byte) int {
	if len(head) > maxLine {
		head = head[:maxLine]
	}
	_, rest, _ := bytes.Cut(head, []byte(" "))
	name, rest, found := bytes.Cut(rest, []byte(" "))
	mechanism, _, _ := bytes.Cut(rest, []byte(" "))
	switch {
	case !found || knownName(name) != "AUTHENTICATE":
		return maxLine
	case login.IsRelayed(strings.ToUpper(string(mechanism))):
		return maxLine + maxMessageLine
	default:
		return maxCommand
	}
}

// parseHead splits off the tag and the name of a command.
func parseHead(line []byte) *command {
	cmd := &command{}
	tag, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || !isTag(tag) {
		cmd.fault = "No valid tag."
		cmd.lines = [][]byte{bytes.Clone(line)}
		return cmd
	}
	name, _, _ := bytes.Cut(rest, []byte(" "))
	cmd.tag, cmd.name = string(tag), knownName(name)
	if cmd.name == "" {
		cmd.fault = "Unknown command."
	}
	cmd.lines = [][]byte{bytes.Clone(rest[len(name):])}
	return cmd
}

// knownName returns the command of that name, in whatever case. Comparing the
// lengths keeps out the letters beyond ASCII that fold into it.
func knownName(name []byte) string {
	for _, c := range commands {
		if len(c) == len(name) && strings.EqualFold(c, string(name)) {
			return c
		}
	}
	return ""
}

// isTag reports whether b is a tag: any ASTRING-CHAR except "+" (RFC 3501
// section 9).
func isTag(b []byte) bool {
	if len(b) == 0 || len(b) > maxTag {
		return false
	}
	for _, c := range b {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`(){%*"\+`, c) >= 0 {
			return false
		}
	}
	return true
}
