//go:build linux

package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
)

const capabilities = "IMAP4rev1 SASL-IR LITERAL+ ID ENABLE IDLE NAMESPACE UIDPLUS UNSELECT CHILDREN"

// session is one connection to the backend. It knows what proxies and the load
// generator say, not more.
type session struct {
	backend *backend
	conn    net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	user    string
	exists  atomic.Int32
}

var errLogout = errors.New("logout")

func (b *backend) serve(conn net.Conn) {
	s := &session{backend: b}
	s.exists.Store(int32(len(messageSizes)))
	s.use(conn)
	defer func() { _ = s.conn.Close() }()
	s.reply("* OK [CAPABILITY %s] ready", s.capabilities())
	for {
		// Answers wait for the last of the commands that came together.
		if s.r.Buffered() == 0 && s.w.Flush() != nil {
			return
		}
		line, err := s.command()
		if err != nil {
			return
		}
		tag, rest, _ := strings.Cut(line, " ")
		name, rest, _ := strings.Cut(rest, " ")
		uid := strings.EqualFold(name, "UID")
		if uid {
			name, rest, _ = strings.Cut(rest, " ")
		}
		name = strings.ToUpper(name)
		if name == "APPEND" {
			err = s.append(tag, rest)
		} else {
			err = s.execute(tag, name, rest)
		}
		if err != nil {
			_ = s.w.Flush()
			return
		}
	}
}

func (s *session) use(conn net.Conn) {
	s.conn = conn
	s.r = bufio.NewReaderSize(conn, 4096)
	s.w = bufio.NewWriterSize(conn, 4096)
}

func (s *session) reply(format string, args ...any) {
	fmt.Fprintf(s.w, format+"\r\n", args...)
}

func (s *session) capabilities() string {
	if s.user != "" {
		return capabilities
	}
	if _, ok := s.conn.(*tls.Conn); ok {
		return capabilities + " AUTH=PLAIN"
	}
	return capabilities + " AUTH=PLAIN STARTTLS"
}

// command reads a command, with its literals as quoted strings; but an APPEND
// only up to the message.
func (s *session) command() (string, error) {
	var text strings.Builder
	for {
		line, err := s.r.ReadString('\n')
		if err != nil {
			return "", err
		}
		size, plus, ok := literal([]byte(line))
		if _, name, _ := strings.Cut(line, " "); text.Len() == 0 && strings.HasPrefix(strings.ToUpper(name), "APPEND ") || !ok {
			text.WriteString(strings.TrimRight(line, "\r\n"))
			return text.String(), nil
		}
		text.WriteString(line[:strings.LastIndexByte(line, '{')])
		if size > 4096 {
			return "", errors.New("a literal is too long")
		}
		if err := s.invite(plus); err != nil {
			return "", err
		}
		value := make([]byte, size)
		if _, err := io.ReadFull(s.r, value); err != nil {
			return "", err
		}
		text.WriteString(`"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(string(value)) + `"`)
	}
}

func (s *session) invite(plus bool) error {
	if !plus {
		s.reply("+ go on")
	}
	return s.w.Flush()
}

// append throws the message away.
func (s *session) append(tag, rest string) error {
	size, plus, ok := literal([]byte(rest))
	if !ok {
		s.reply("%s BAD no message", tag)
		return nil
	}
	if err := s.invite(plus); err != nil {
		return err
	}
	buffered, err := s.r.Discard(int(min(size, int64(s.r.Buffered()))))
	if err != nil {
		return err
	}
	// In bigger pieces than the reader has room for.
	pieces := struct{ io.Writer }{io.Discard}
	if _, err := io.CopyBuffer(pieces, io.LimitReader(s.conn, size-int64(buffered)), make([]byte, 256<<10)); err != nil {
		return err
	}
	if _, err := s.r.ReadString('\n'); err != nil {
		return err
	}
	s.reply("%s OK [APPENDUID 1 5] stored", tag)
	return nil
}

func (s *session) execute(tag, name, rest string) error {
	args, err := arguments(rest)
	if err != nil {
		return err
	}
	switch name {
	case "NOOP", "CHECK", "CLOSE", "ENABLE", "EXPUNGE", "SEARCH", "STORE", "UNSELECT":
	case "CAPABILITY":
		s.reply("* CAPABILITY %s", s.capabilities())
	case "ID":
		s.reply("* ID NIL")
	case "NAMESPACE":
		s.reply(`* NAMESPACE (("" "/")) NIL NIL`)
	case "LIST", "LSUB":
		if len(args) == 2 && args[1] == "" {
			s.reply(`* %s (\Noselect) "/" ""`, name)
		} else {
			s.reply(`* %s (\HasNoChildren) "/" INBOX`, name)
		}
	case "STATUS":
		n := s.exists.Load()
		s.reply("* STATUS INBOX (MESSAGES %d RECENT 0 UIDNEXT %d UIDVALIDITY 1 UNSEEN 0)", n, n+1)
	case "SELECT", "EXAMINE":
		n := s.exists.Load()
		s.reply(`* FLAGS (\Answered \Flagged \Deleted \Seen \Draft)`)
		s.reply("* %d EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1] valid\r\n* OK [UIDNEXT %d] next", n, n+1)
		s.reply("%s OK [READ-WRITE] selected", tag)
		return nil
	case "STARTTLS":
		return s.startTLS(tag)
	case "LOGIN", "AUTHENTICATE":
		return s.login(tag, name, args)
	case "FETCH":
		if err := s.fetch(args); err != nil {
			return err
		}
	case "IDLE":
		if err := s.idle(); err != nil {
			return err
		}
	case "LOGOUT":
		s.reply("* BYE\r\n%s OK bye", tag)
		return errLogout
	default:
		s.reply("%s BAD unknown command", tag)
		return nil
	}
	s.reply("%s OK done", tag)
	return nil
}

func (s *session) startTLS(tag string) error {
	s.reply("%s OK begin", tag)
	if err := s.w.Flush(); err != nil {
		return err
	}
	conn := tls.Server(s.conn, s.backend.tls)
	s.use(conn)
	return conn.Handshake()
}

func (s *session) login(tag, name string, args []string) error {
	if name == "AUTHENTICATE" {
		if len(args) == 1 {
			if err := s.invite(false); err != nil {
				return err
			}
			line, err := s.r.ReadString('\n')
			if err != nil {
				return err
			}
			args = append(args, strings.TrimSpace(line))
		}
		plain, err := base64.StdEncoding.DecodeString(args[len(args)-1])
		if err != nil {
			return err
		}
		args = strings.Split(string(plain), "\x00")[1:]
	}
	if len(args) != 2 || args[1] != password {
		s.reply("%s NO [AUTHENTICATIONFAILED] wrong", tag)
		return nil
	}
	s.user = args[0]
	s.reply("%s OK [CAPABILITY %s] logged in", tag, s.capabilities())
	return nil
}

func (s *session) idle() error {
	// Who has read the answer is told of news.
	s.backend.setIdle(s, true)
	defer s.backend.setIdle(s, false)
	s.reply("+ idling")
	if err := s.w.Flush(); err != nil {
		return err
	}
	_, err := s.r.ReadString('\n')
	return err
}

// fetch answers with all that anybody asks for beside the body, asked or not.
func (s *session) fetch(args []string) error {
	if len(args) < 2 {
		return errors.New("FETCH of nothing")
	}
	items := strings.ToUpper(strings.Join(args[1:], " "))
	body := strings.Contains(items, "BODY[]") || strings.Contains(items, "BODY.PEEK[]")
	for part := range strings.SplitSeq(args[0], ",") {
		first, last, isRange := strings.Cut(part, ":")
		if !isRange {
			last = first
		}
		from, to := s.number(first), s.number(last)
		for n := max(1, min(from, to)); n <= min(max(from, to), int(s.exists.Load())); n++ {
			size := messageSize(n)
			fmt.Fprintf(s.w, `* %d FETCH (UID %d FLAGS (\Seen) INTERNALDATE "23-Nov-2026 00:00:00 +0000" RFC822.SIZE %d`, n, n, size)
			if body {
				s.reply(" BODY[] {%d}", size)
				if err := writeMessage(s.w, size); err != nil {
					return err
				}
			}
			s.reply(")")
		}
	}
	return nil
}

func (s *session) number(text string) int {
	n, err := strconv.Atoi(text)
	if err != nil { // *
		return int(s.exists.Load())
	}
	return n
}
