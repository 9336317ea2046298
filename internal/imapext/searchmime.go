package imapext

import (
	"bytes"
	"io"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/transform"
)

func formatOffset(n int64) string { return strconv.FormatInt(n, 10) }

const (
	// maxPartHeader is how much of a header is looked at, in bytes, and maxLine how long
	// a line may be that ends a part.
	maxPartHeader = 256 << 10
	maxLine       = 4 << 10
	// maxParts is how deep parts may be in parts.
	maxParts = 50
)

// searchedText is a message with what was found in its text: in all parts that are text,
// decoded (RFC 2045).
type searchedText struct {
	found  map[*matcher]bool
	header *searchedHeader

	// inHeader says that lines belong to a header, which is collected in head.
	inHeader bool
	head     []byte
	// boundaries are those of the parts that we are in.
	boundaries []string
	// part takes the text of a part; nil for one that is none.
	part io.WriteCloser
	sink textSink
}

// newSearchedText looks through a message for all that a program has for texts. more
// returns the next piece of the message, and nothing at its end.
func newSearchedText(more func() []byte, key *searchKey) *searchedText {
	t := &searchedText{found: make(map[*matcher]bool), inHeader: true}
	key.each(func(k *searchKey) {
		if k.exact != nil && k.exact.needs == needsTexts {
			t.sink.matchers = append(t.sink.matchers, k.exact)
			t.sink.longest = max(t.sink.longest, len(k.exact.needle))
		}
	})
	t.sink.found = t.found
	var rest []byte
	for {
		piece := more()
		if len(piece) == 0 {
			break
		}
		rest = t.lines(append(rest, piece...), false)
		if len(t.found) == len(t.sink.matchers) && t.header != nil {
			return t
		}
	}
	t.lines(rest, true)
	if t.inHeader {
		t.endHeader()
	}
	t.endPart()
	return t
}

// lines takes whole lines, and parts of such as are too long. It returns what is left.
func (t *searchedText) lines(p []byte, all bool) (rest []byte) {
	for len(p) > 0 {
		n := bytes.IndexByte(p, '\n') + 1
		if n == 0 {
			if !all && len(p) < maxLine {
				break
			}
			n = len(p)
		}
		t.line(p[:n])
		p = p[n:]
	}
	return p
}

func (t *searchedText) line(line []byte) {
	bare := bytes.TrimRight(line, "\r\n")
	switch {
	case bytes.HasPrefix(bare, []byte("--")) && t.boundary(string(bytes.TrimRight(bare[2:], " \t"))):
	case t.inHeader && len(bare) == 0:
		t.endHeader()
	case t.inHeader:
		if len(t.head)+len(line) <= maxPartHeader {
			t.head = append(t.head, line...)
		}
	case t.part != nil:
		_, _ = t.part.Write(line)
	}
}

// boundary is at a line that may end a part, and says whether it does.
func (t *searchedText) boundary(line string) bool {
	for i := len(t.boundaries) - 1; i >= 0; i-- {
		rest, found := strings.CutPrefix(line, t.boundaries[i])
		if !found || rest != "" && rest != "--" {
			continue
		}
		if t.inHeader {
			t.endHeader()
		}
		t.endPart()
		t.boundaries, t.inHeader = t.boundaries[:i+1], true
		if rest != "" {
			t.boundaries, t.inHeader = t.boundaries[:i], false
		}
		return true
	}
	return false
}

// endHeader begins the part that the header is of.
func (t *searchedText) endHeader() {
	header := parseSearchedHeader(t.head)
	t.inHeader, t.head = false, nil
	if t.header == nil {
		t.header = header
	}
	t.sink.headers = true
	for _, f := range header.fields {
		_, _ = t.sink.Write([]byte(f.name + ": "))
		_, _ = t.sink.Write(appendDecoded(nil, f.value))
		_ = t.sink.Close()
	}
	t.sink.headers = false
	kind, params := mimeType(header.first("CONTENT-TYPE"))
	encoding := strings.ToUpper(strings.TrimSpace(header.first("CONTENT-TRANSFER-ENCODING")))
	switch {
	case strings.HasPrefix(kind, "MULTIPART/"):
		if b := params["BOUNDARY"]; b != "" && len(t.boundaries) < maxParts {
			t.boundaries = append(t.boundaries, b)
		}
	case kind == "MESSAGE/RFC822" && encoding != "BASE64" && encoding != "QUOTED-PRINTABLE":
		t.inHeader = true
	case kind == "" || strings.HasPrefix(kind, "TEXT/") || strings.HasPrefix(kind, "MESSAGE/"):
		t.part = decodingPart(encoding, params["CHARSET"], &t.sink)
	}
}

func (t *searchedText) endPart() {
	if t.part != nil {
		_ = t.part.Close()
		t.part = nil
	}
}

// mimeType reads a Content-Type (RFC 2045 section 5.1), tolerantly. Type and names of
// parameters are in upper case.
func mimeType(value string) (kind string, params map[string]string) {
	kind, rest, _ := strings.Cut(value, ";")
	params = make(map[string]string)
	for rest != "" {
		var name, text string
		name, rest, _ = strings.Cut(rest, "=")
		if rest = strings.TrimLeft(rest, " \t"); strings.HasPrefix(rest, `"`) {
			s := scanner{rest: []byte(rest)}
			quoted, err := s.quoted()
			if err != nil {
				break
			}
			_, after, _ := strings.Cut(string(s.rest), ";")
			text, rest = quoted, after
		} else {
			text, rest, _ = strings.Cut(rest, ";")
		}
		if name = strings.ToUpper(strings.TrimSpace(name)); params[name] == "" {
			params[name] = strings.TrimSpace(text)
		}
	}
	return strings.ToUpper(strings.TrimSpace(kind)), params
}

// decodingPart returns what decodes a part's text.
func decodingPart(encoding, charset string, sink io.WriteCloser) io.WriteCloser {
	if e := charsetNamed(charset); charset != "" && e != nil {
		sink = &closers{transform.NewWriter(sink, e.NewDecoder()), sink}
	}
	switch encoding {
	case "BASE64":
		return &base64Part{WriteCloser: sink}
	case "QUOTED-PRINTABLE":
		return &quotedPart{WriteCloser: sink}
	}
	return sink
}

// closers closes what is behind a writer, too.
type closers struct {
	io.WriteCloser
	behind io.Closer
}

// Close ends the text.
func (c *closers) Close() error {
	_ = c.WriteCloser.Close()
	return c.behind.Close()
}

// base64Part decodes base64, and skips what is none.
type base64Part struct {
	io.WriteCloser
	bits, n uint
}

func (p *base64Part) Write(text []byte) (int, error) {
	out := make([]byte, 0, len(text)*3/4+3)
	for _, b := range text {
		switch value := unbase64[b]; {
		case b == '=':
			p.bits, p.n = 0, 0
		case value >= 0:
			if p.bits, p.n = p.bits<<6|uint(value), p.n+6; p.n >= 8 {
				p.n -= 8
				out = append(out, byte(p.bits>>p.n))
				p.bits &= 1<<p.n - 1
			}
		}
	}
	_, err := p.WriteCloser.Write(out)
	return len(text), err
}

// quotedPart decodes quoted-printable. What is broken stays as it is.
type quotedPart struct {
	io.WriteCloser
	// held begins with = if there is something.
	held []byte
}

func (p *quotedPart) Write(text []byte) (int, error) {
	out := make([]byte, 0, len(text)+len(p.held))
	for _, b := range text {
		switch {
		case len(p.held) == 0 && b == '=':
			p.held = append(p.held, b)
		case len(p.held) == 0:
			out = append(out, b)
		case b == '\n' && len(bytes.TrimRight(p.held[1:], " \t\r")) == 0:
			p.held = p.held[:0] // the line goes on
		case b == '\r' || b == ' ' || b == '\t':
			if p.held = append(p.held, b); len(p.held) > maxLine {
				out, p.held = append(out, p.held...), p.held[:0]
			}
		case len(p.held) == 1 && unhex[b] >= 0:
			p.held = append(p.held, b)
		case len(p.held) == 2 && unhex[p.held[1]] >= 0 && unhex[b] >= 0:
			out, p.held = append(out, byte(unhex[p.held[1]]<<4|unhex[b])), p.held[:0]
		default:
			out, p.held = append(append(out, p.held...), b), p.held[:0]
		}
	}
	_, err := p.WriteCloser.Write(out)
	return len(text), err
}

// textSink looks for strings in a text that comes in pieces, in UTF-8.
type textSink struct {
	matchers []*matcher
	found    map[*matcher]bool
	longest  int
	// headers says that it is a header, which not all look at.
	headers bool
	// mapped is what was written last, as it is compared; part, the beginning of a
	// character.
	mapped, part []byte
}

func (s *textSink) Write(text []byte) (int, error) {
	p := text
	if len(s.part) > 0 {
		p = append(s.part, text...)
	}
	whole := len(p)
	for i := 1; i <= min(utf8.UTFMax-1, len(p)); i++ {
		if b := p[len(p)-i]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf && !utf8.FullRune(p[len(p)-i:]) {
				whole -= i
			}
			break
		}
	}
	s.look(p[:whole])
	s.part = append([]byte(nil), p[whole:]...)
	return len(text), nil
}

// look looks for the strings in what was there before and in text.
func (s *textSink) look(text []byte) {
	s.mapped = appendCasemap(s.mapped, text)
	for _, m := range s.matchers {
		if (m.headers || !s.headers) && !s.found[m] && bytes.Contains(s.mapped, m.needle) {
			s.found[m] = true
		}
	}
	// A string may go on in the next piece.
	keep := min(len(s.mapped), s.longest)
	s.mapped = append(s.mapped[:0], s.mapped[len(s.mapped)-keep:]...)
}

// Close ends the text.
func (s *textSink) Close() error {
	s.look(s.part)
	s.mapped, s.part = s.mapped[:0], nil
	return nil
}
