package imapfront

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
)

// Limits of what a client may send before it has logged in.
const (
	// maxLine bounds a line of a command.
	maxLine = 8 << 10
	// maxCommand bounds a command with all its lines and literals, and a line
	// of AUTHENTICATE, which may carry a long initial response.
	maxCommand = 64 << 10
)

// errCommandTooLong ends the connection: what follows cannot be told from data.
var errCommandTooLong = errors.New("command too long")

// command is one command of a client: the text of its lines, and the literals
// between them. There is always one line more than there are literals.
type command struct {
	tag, name string
	lines     [][]byte
	literals  [][]byte
	// fault, if not empty, is what BAD says about the command.
	fault string
	// uninvited says that the client waits for an invitation to send a literal,
	// and was not given one: the command ends here.
	uninvited bool
}

// readCommand reads one command with its literals. A synchronising literal is
// only invited if invite says so for this command. An error means that the
// connection cannot go on; a command that is merely wrong has a fault.
func readCommand(r *imapwire.Reader, invite func(name string) (bool, error)) (*command, error) {
	line, err := r.ReadLineFunc(lineLimit)
	if err != nil && !errors.Is(err, imapwire.ErrBadLine) {
		return nil, err
	}
	cmd := parseHead(line)
	if err != nil {
		cmd.fault = "Invalid characters in command"
	}
	for total := len(line); ; {
		lit, ok := imapwire.TrailingLiteral(line)
		if !ok {
			return cmd, nil
		}
		if lit.Size > int64(maxCommand-total) {
			if lit.NonSync {
				return nil, errCommandTooLong
			}
			cmd.fault, cmd.uninvited = "Literal too big", true
			return cmd, nil
		}
		if !lit.NonSync {
			invited, err := invite(cmd.name)
			if err != nil {
				return nil, err
			}
			if cmd.fault != "" || !invited {
				cmd.uninvited = true
				return cmd, nil
			}
		}
		last := len(cmd.lines) - 1
		cmd.lines[last] = bytes.TrimSuffix(cmd.lines[last], line[lit.Start:])
		data, err := r.ReadLiteral(int(lit.Size))
		if err != nil {
			return nil, fmt.Errorf("reading a literal: %w", err)
		}
		line, err = r.ReadLine(min(maxLine, maxCommand))
		if errors.Is(err, imapwire.ErrBadLine) {
			cmd.fault = "Invalid characters in command"
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
	if _, rest, ok := bytes.Cut(head, []byte(" ")); ok && len(rest) >= len("AUTHENTICATE ") &&
		strings.EqualFold(string(rest[:len("AUTHENTICATE ")]), "AUTHENTICATE ") {
		return maxCommand
	}
	return maxLine
}

// parseHead splits off the tag and the name of a command.
func parseHead(line []byte) *command {
	cmd := &command{}
	tag, rest, ok := bytes.Cut(line, []byte(" "))
	if !ok || !isTag(tag) {
		cmd.fault = "Error in IMAP command: no valid tag"
		cmd.lines = [][]byte{bytes.Clone(line)}
		return cmd
	}
	name, _, _ := bytes.Cut(rest, []byte(" "))
	cmd.tag, cmd.name = string(tag), strings.ToUpper(string(name))
	cmd.lines = [][]byte{bytes.Clone(rest[len(name):])}
	return cmd
}

// maxTag bounds the tag that we would have to repeat.
const maxTag = 256

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
