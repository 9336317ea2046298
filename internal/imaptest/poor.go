package imaptest

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-imap/caddy-imap/internal/imapwire"
)

// Capabilities of a Poor.
const (
	// BareCapabilities is RFC 3501 and nothing else.
	BareCapabilities = "IMAP4rev1"
	// ExchangeCapabilities is what an Exchange 2016 or 2019 has after login.
	ExchangeCapabilities = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI SASL-IR UIDPLUS MOVE ID UNSELECT CLIENTNETWORKPRESENCELOCATION CHILDREN IDLE NAMESPACE LITERAL+"
)

// Poor is a server after login that hands to a better one what RFC 3501 has, and what its
// own capabilities promise, of UIDPLUS, MOVE, ID, UNSELECT, CHILDREN, IDLE, NAMESPACE and
// LITERAL+. It reads commands strictly, and refuses everything else in Exchange's words.
// SEARCH is in US-ASCII.
type Poor struct {
	// TB is told of what no client may send.
	TB testing.TB
	// Capabilities is the list that it shows. Default: BareCapabilities.
	Capabilities string
	// Odd has it answer as oddly as Exchange does: the COPYUID of a MOVE in a line of nothing
	// else, blanks where none belong, names without quotes, texts without the command's
	// particulars, no long lines.
	Odd bool

	mu      sync.Mutex
	refused []string
}

// maxPoor is the size of the largest command, with its literals.
const maxPoor = 16 << 20

// Refused returns the commands that were refused so far, without their tags.
func (p *Poor) Refused() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.refused)
}

// Session returns what plays a Fake's connection from the OK of the login on: dial
// returns a connection to the better server, which is logged in.
func (p *Poor) Session(dial func(l Login) (net.Conn, error)) func(*Conn, Login) {
	return func(c *Conn, l Login) {
		back, err := dial(l)
		if err != nil {
			c.s.tb.Errorf("a poor server has no better one: %v", err)
			return
		}
		defer back.Close()
		p.serve(c.Conn, c.br, back)
	}
}

// Serve plays a session in which the client is logged in, and so are we on the better
// server, until one of them has gone. It closes both connections.
func (p *Poor) Serve(client, back net.Conn) {
	defer client.Close()
	defer back.Close()
	p.serve(client, bufio.NewReader(client), back)
}

func (p *Poor) serve(client net.Conn, clientReader *bufio.Reader, back net.Conn) {
	s := &poorSession{Poor: p, client: client, fromClient: clientReader, back: back, fromBack: bufio.NewReader(back)}
	for s.command() == nil {
	}
}

// poorSession is one session of a Poor.
type poorSession struct {
	*Poor
	client, back         net.Conn
	fromClient, fromBack *bufio.Reader
}

// has says whether a capability is shown.
func (p *Poor) has(name string) bool {
	list := p.Capabilities
	if list == "" {
		list = BareCapabilities
	}
	return slices.Contains(strings.Fields(list), name)
}

// command reads one command and answers it.
func (s *poorSession) command() error {
	text, err := s.read()
	if err != nil {
		return err
	}
	tag, rest, _ := strings.Cut(strings.TrimSuffix(text, "\r\n"), " ")
	if answer := s.refuses(rest); answer != "" {
		s.mu.Lock()
		s.refused = append(s.refused, rest)
		s.mu.Unlock()
		return s.say("%s %s", tag, answer)
	}
	name, _, _ := strings.Cut(strings.ToUpper(rest), " ")
	switch name {
	case "CAPABILITY":
		list := s.Capabilities
		if list == "" {
			list = BareCapabilities
		}
		if s.Odd {
			list += "  X-ODD"
		}
		return s.say("* CAPABILITY %s\r\n%s OK CAPABILITY completed.", list, tag)
	case "ID":
		return s.say("* ID (\"name\" \"Microsoft.Exchange.Imap4.Imap4Server\" \"version\" \"15.1\")\r\n%s OK ID completed", tag)
	case "IDLE":
		return s.idle(tag, text)
	}
	if err := s.hand(text); err != nil {
		return err
	}
	if err := s.answer(tag, name); err != nil {
		return err
	}
	if name == "LOGOUT" {
		return io.EOF
	}
	return nil
}

func (s *poorSession) say(format string, a ...any) error {
	_ = s.client.SetWriteDeadline(time.Now().Add(patience))
	_, err := fmt.Fprintf(s.client, format+"\r\n", a...)
	return err
}

func (s *poorSession) hand(text string) error {
	_ = s.back.SetWriteDeadline(time.Now().Add(patience))
	_, err := io.WriteString(s.back, text)
	return err
}

// read reads a command whole. Its literals are announced to the better server as ones
// that need no invitation.
func (s *poorSession) read() (string, error) {
	var text bytes.Buffer
	for {
		// A client may be silent for as long as its test runs.
		line, err := s.fromClient.ReadBytes('\n')
		if err != nil {
			return "", err
		}
		bare := bytes.TrimSuffix(line, []byte("\r\n"))
		if len(bare) == len(line) {
			s.TB.Errorf("a line of the client ends in a bare LF: %q", line)
		}
		lit, announced := imapwire.TrailingLiteral(bare)
		if !announced {
			text.Write(line)
			return text.String(), nil
		}
		if lit.NonSync && !s.has("LITERAL+") {
			s.TB.Errorf("a literal without an invitation where LITERAL+ is not offered: %q", line)
		}
		if text.Len()+int(min(lit.Size, maxPoor)) >= maxPoor {
			return "", fmt.Errorf("a literal of %d bytes is too much", lit.Size)
		}
		if !lit.NonSync {
			if err := s.say("+ Ready for additional command text."); err != nil {
				return "", err
			}
		}
		fmt.Fprintf(&text, "%s{%d+}\r\n", bare[:lit.Start], lit.Size)
		if _, err := io.CopyN(&text, s.fromClient, lit.Size); err != nil {
			return "", err
		}
	}
}

// idle hands over what comes until the client is done.
func (s *poorSession) idle(tag, text string) error {
	if err := s.hand(text); err != nil {
		return err
	}
	answered := make(chan error, 1)
	go func() { answered <- s.answer(tag, "IDLE") }()
	done, err := s.fromClient.ReadString('\n')
	if err == nil {
		err = s.hand(done)
	}
	if err != nil {
		_ = s.back.Close()
	}
	if answer := <-answered; err == nil {
		err = answer
	}
	return err
}

// answer hands over what the better server says up to the completion of a command.
func (s *poorSession) answer(tag, name string) error {
	out := bufio.NewWriterSize(s.client, 32<<10)
	begins := true
	for {
		if s.fromBack.Buffered() == 0 {
			_ = s.client.SetWriteDeadline(time.Now().Add(patience))
			if err := out.Flush(); err != nil {
				return err
			}
		}
		line, err := s.fromBack.ReadString('\n')
		if err != nil {
			return err
		}
		done := begins && strings.HasPrefix(line, tag+" ")
		lit, goesOn := imapwire.TrailingLiteral([]byte(strings.TrimRight(line, "\r\n")))
		if begins {
			line = s.poorer(line, tag, name)
		}
		if _, err := out.WriteString(line); err != nil {
			return err
		}
		if begins = !goesOn; goesOn {
			if _, err := io.CopyN(out, s.fromBack, lit.Size); err != nil {
				return err
			}
		}
		if done {
			return out.Flush()
		}
	}
}

var (
	poorList     = regexp.MustCompile(`^(\* (?:LIST|LSUB) )\(([^)]*)\) (\S+) (.*)\r\n$`)
	poorChildren = []string{`\HasChildren`, `\HasNoChildren`}
	poorUses     = []string{`\Sent`, `\Drafts`, `\Trash`, `\Junk`, `\Archive`, `\All`, `\Flagged`, `\Important`}
	poorCode     = regexp.MustCompile(`\[(?:CAPABILITY|HIGHESTMODSEQ|NOMODSEQ|MODIFIED)[^]]*\] ?`)
	poorCopied   = regexp.MustCompile(`\[COPYUID [^]]*\]`)
	poorAppended = regexp.MustCompile(`\[APPENDUID [^]]*\] ?`)
	plainName    = regexp.MustCompile(`^"([A-Za-z0-9&,+./-]+)"$`)
)

// poorer returns the first line of a response as a server says it that has less.
func (s *poorSession) poorer(line, tag, name string) string {
	if m := poorList.FindStringSubmatch(line); m != nil {
		attributes := slices.DeleteFunc(strings.Fields(m[2]), func(a string) bool {
			return slices.Contains(poorUses, a) || slices.Contains(poorChildren, a) && !s.has("CHILDREN")
		})
		mailbox := m[4]
		if s.Odd {
			mailbox = " " + plainName.ReplaceAllString(mailbox, "$1")
		}
		return m[1] + "(" + strings.Join(attributes, " ") + ") " + m[3] + " " + mailbox + "\r\n"
	}
	own := strings.HasPrefix(line, tag+" ")
	if !own && !strings.HasPrefix(line, "* OK ") {
		return line
	}
	line = poorCode.ReplaceAllString(line, "")
	if line == "* OK Highest\r\n" {
		return ""
	}
	uids := poorCopied.FindString(line)
	if uids == "" {
		return s.completed(line, tag, name)
	}
	switch {
	case !s.has("UIDPLUS"):
		return strings.Replace(line, uids+" ", "", 1)
	case !s.Odd || own:
		return line
	}
	return uids + "\r\n"
}

// completed returns a completion, in the words of an odd server if it is one.
func (s *poorSession) completed(line, tag, name string) string {
	if !s.has("UIDPLUS") {
		line = poorAppended.ReplaceAllString(line, "")
	}
	if rest, ok := strings.CutPrefix(line, tag+" OK "); ok && s.Odd && !strings.HasPrefix(rest, "[") {
		return tag + " OK " + name + " completed.\r\n"
	}
	return line
}
