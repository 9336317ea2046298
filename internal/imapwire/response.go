package imapwire

import (
	"bytes"

	"github.com/emersion/go-imap/v2"
)

// Kind tells the lines that a server sends apart (RFC 3501 section 7).
type Kind uint8

const (
	// KindOther is a line that follows no grammar, such as an empty one.
	KindOther Kind = iota
	// KindTagged completes a command.
	KindTagged
	// KindUntagged begins with "* ".
	KindUntagged
	// KindContinuation asks for more: "+ text", or a bare "+".
	KindContinuation
)

// Response is one line of a server. Its slices point into the line that it was
// parsed from.
type Response struct {
	Kind Kind
	// Tag is the tag of a tagged response.
	Tag []byte
	// Status is set for a tagged response, and for an untagged one that is a
	// status: OK, NO, BAD, PREAUTH or BYE. It is empty for untagged data.
	Status imap.StatusResponseType
	// Code is the response code of a status in upper case, Arg what follows the
	// code within the brackets. Both are empty if there is none.
	Code imap.ResponseCode
	Arg  []byte
	// Text is what a status or a continuation says for people, or the challenge
	// of a SASL exchange.
	Text []byte
	// Name is the first word of untagged data, such as "CAPABILITY", as it was
	// sent. Rest is what follows.
	Name, Rest []byte
}

// Codes that go-imap has no name for and that matter before and at login.
const (
	// CodeCapability carries a list of capabilities (RFC 3501 section 7.1).
	CodeCapability imap.ResponseCode = "CAPABILITY"
	// CodeReferral names another server (RFC 2221).
	CodeReferral imap.ResponseCode = "REFERRAL"
)

// codes are the response codes that are known by name, so that none of them has
// to be allocated.
var codes = func() map[string]imap.ResponseCode {
	m := make(map[string]imap.ResponseCode)
	for _, c := range []imap.ResponseCode{
		CodeCapability,
		CodeReferral,
		imap.ResponseCodeAlert,
		imap.ResponseCodeAlreadyExists,
		imap.ResponseCodeAuthenticationFailed,
		imap.ResponseCodeAuthorizationFailed,
		imap.ResponseCodeBadCharset,
		imap.ResponseCodeCannot,
		imap.ResponseCodeClientBug,
		imap.ResponseCodeContactAdmin,
		imap.ResponseCodeCorruption,
		imap.ResponseCodeExpired,
		imap.ResponseCodeInUse,
		imap.ResponseCodeLimit,
		imap.ResponseCodeNonExistent,
		imap.ResponseCodeNoPerm,
		imap.ResponseCodeOverQuota,
		imap.ResponseCodeParse,
		imap.ResponseCodePrivacyRequired,
		imap.ResponseCodeServerBug,
		imap.ResponseCodeTryCreate,
		imap.ResponseCodeUnavailable,
	} {
		m[string(c)] = c
	}
	return m
}()

// KnownCode reports whether a response code is one with a name of its own. An
// unknown one is whatever a server has put between two brackets, and does not
// belong into a log.
func KnownCode(code imap.ResponseCode) bool {
	_, ok := codes[string(code)]
	return ok
}

// ParseResponse takes a line of a server apart. It accepts what servers really
// send (a bare "+", a status without text) and calls everything else KindOther.
// It allocates only for a response code that is not known.
func ParseResponse(line []byte) Response {
	if len(line) == 0 {
		return Response{}
	}
	switch line[0] {
	case '+':
		if len(line) > 1 && line[1] != ' ' {
			return Response{}
		}
		return Response{Kind: KindContinuation, Text: line[min(2, len(line)):]}
	case '*':
		return parseUntagged(line)
	default:
		return parseTagged(line)
	}
}

func parseUntagged(line []byte) Response {
	if len(line) < 3 || line[1] != ' ' || line[2] == ' ' {
		return Response{}
	}
	name, rest, _ := bytes.Cut(line[2:], []byte{' '})
	r := Response{Kind: KindUntagged, Status: status(name)}
	if r.Status == "" {
		r.Name, r.Rest = name, rest
		return r
	}
	r.parseText(rest)
	return r
}

func parseTagged(line []byte) Response {
	tag, rest, found := bytes.Cut(line, []byte{' '})
	if !found || !isTag(tag) {
		return Response{}
	}
	word, rest, _ := bytes.Cut(rest, []byte{' '})
	r := Response{Kind: KindTagged, Tag: tag, Status: status(word)}
	switch r.Status {
	case imap.StatusResponseTypeOK, imap.StatusResponseTypeNo, imap.StatusResponseTypeBad:
		r.parseText(rest)
		return r
	default:
		return Response{}
	}
}

// parseText parses resp-text (RFC 3501 section 9). Brackets that do not close,
// or that hold no code, are text.
func (r *Response) parseText(rest []byte) {
	r.Text = rest
	if len(rest) == 0 || rest[0] != '[' {
		return
	}
	end := bytes.IndexByte(rest, ']')
	if end < 0 {
		return
	}
	name, arg, _ := bytes.Cut(rest[1:end], []byte{' '})
	if len(name) == 0 {
		return
	}
	r.Code, r.Arg = code(name), arg
	r.Text = bytes.TrimPrefix(rest[end+1:], []byte{' '})
}

// status returns the status that a word names, in whatever case.
func status(word []byte) imap.StatusResponseType {
	for _, s := range [...]imap.StatusResponseType{
		imap.StatusResponseTypeOK,
		imap.StatusResponseTypeNo,
		imap.StatusResponseTypeBad,
		imap.StatusResponseTypeBye,
		imap.StatusResponseTypePreAuth,
	} {
		if EqualFold(word, string(s)) {
			return s
		}
	}
	return ""
}

// code returns the response code of a name in whatever case.
func code(name []byte) imap.ResponseCode {
	var buf [32]byte
	upper := append(buf[:0], name...)
	for i, c := range upper {
		if 'a' <= c && c <= 'z' {
			upper[i] = c - ('a' - 'A')
		}
	}
	if known, ok := codes[string(upper)]; ok {
		return known
	}
	return imap.ResponseCode(upper)
}

// isTag reports whether b is a tag (RFC 3501 section 9): letters, digits and
// signs, without those that have a meaning elsewhere.
func isTag(b []byte) bool {
	for _, c := range b {
		if c <= ' ' || c >= 0x7f {
			return false
		}
		switch c {
		case '(', ')', '{', '%', '*', '"', '\\', '+':
			return false
		}
	}
	return len(b) > 0
}

// EqualFold compares a word of the protocol with an upper-case one. Letters
// outside ASCII have no case here, unlike in bytes.EqualFold, which takes the
// Kelvin sign for a K.
func EqualFold(word []byte, upper string) bool {
	if len(word) != len(upper) {
		return false
	}
	for i, c := range word {
		if 'a' <= c && c <= 'z' {
			c -= 'a' - 'A'
		}
		if c != upper[i] {
			return false
		}
	}
	return true
}
