package dovecotauth

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"
)

// ErrProtocol says that a client broke the rules of the protocol in a way that
// ends the connection.
var ErrProtocol = errors.New("protocol violation")

func violation(what string) error { return fmt.Errorf("%w: %s", ErrProtocol, what) }

const (
	// maxAuthLine and maxMasterLine are Dovecot's limits of a line, its end
	// included.
	maxAuthLine   = 16384
	maxMasterLine = 1024

	// readBuffer is what an idle connection holds. A mail server keeps hundreds
	// of them, and nearly all lines fit.
	readBuffer = 2048
)

// lineReader reads lines within a limit.
type lineReader struct {
	nc  net.Conn
	br  *bufio.Reader
	max int

	// patient lets the client be silent between lines for as long as it likes;
	// a line that it has begun is due within lineTimeout. Until it is set, the
	// deadline of the connection is somebody else's.
	patient bool
}

func newLineReader(nc net.Conn, limit int) *lineReader {
	return &lineReader{nc: nc, br: bufio.NewReaderSize(nc, min(readBuffer, limit)), max: limit}
}

// next returns the next line without its LF or CRLF.
func (l *lineReader) next() (string, error) {
	if l.patient {
		if _, err := l.br.Peek(1); err != nil {
			return "", err
		}
		if !l.complete() {
			if err := l.nc.SetReadDeadline(time.Now().Add(lineTimeout)); err != nil {
				return "", err
			}
			defer func() { _ = l.nc.SetReadDeadline(time.Time{}) }()
		}
	}
	var long []byte
	for {
		part, err := l.br.ReadSlice('\n')
		full := errors.Is(err, bufio.ErrBufferFull) // no LF yet
		if n := len(long) + len(part); n > l.max || full && n == l.max {
			return "", violation("line of more than " + strconv.Itoa(l.max) + " bytes")
		}
		switch {
		case full:
			long = append(long, part...)
			continue
		case err != nil:
			return "", err
		case long != nil:
			part = append(long, part...)
		}
		part = part[:len(part)-1]
		return string(bytes.TrimSuffix(part, []byte{'\r'})), nil
	}
}

// complete says whether the rest of the line was received already.
func (l *lineReader) complete() bool {
	b, _ := l.br.Peek(l.br.Buffered())
	return bytes.IndexByte(b, '\n') >= 0
}

// unescape undoes the escaping of a field: \x01 and a digit or letter stand for
// a byte that would end the field or the line. Unknown pairs lose their \x01, as
// they do in Dovecot.
func unescape(s string) string {
	at := strings.IndexByte(s, escapeByte)
	if at < 0 {
		return s
	}
	out := append(make([]byte, 0, len(s)), s[:at]...)
	for i := at; i < len(s); i++ {
		b := s[i]
		if b == escapeByte {
			if i++; i == len(s) {
				break
			}
			switch b = s[i]; b {
			case '0':
				b = 0
			case '1':
				b = escapeByte
			case 't':
				b = '\t'
			case 'r':
				b = '\r'
			case 'n':
				b = '\n'
			}
		}
		out = append(out, b)
	}
	return string(out)
}

const escapeByte = '\x01'

// parseVersion reads what follows VERSION, and returns the minor version. The
// major one must be 1.
func parseVersion(args string) (minor uint64, err error) {
	major, rest, _ := strings.Cut(args, "\t")
	if major != "1" {
		return 0, violation("major version other than 1")
	}
	text, _, _ := strings.Cut(rest, "\t")
	minor, err = strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, violation("minor version is no number")
	}
	return minor, nil
}

// decode reads the base64 of a SASL message. What it returns is never nil, since
// SASL tells an empty message from none.
func decode(text string) ([]byte, bool) {
	// The decoder of the standard library skips line ends.
	if strings.ContainsAny(text, "\r\n") {
		return nil, false
	}
	msg := make([]byte, base64.StdEncoding.DecodedLen(len(text)))
	n, err := base64.StdEncoding.Decode(msg, []byte(text))
	return msg[:n], err == nil
}

// appendReply adds a line to dst: the word, the id, and what follows it, which
// holds its own TABs.
func appendReply(dst []byte, word string, id uint32, fields string) []byte {
	dst = append(dst, word...)
	dst = append(dst, '\t')
	dst = strconv.AppendUint(dst, uint64(id), 10)
	dst = append(dst, fields...)
	return append(dst, '\n')
}
