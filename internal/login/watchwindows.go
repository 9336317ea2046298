package login

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// ntlmWatcher reads NTLM ([MS-NLMP] section 2.2.1): NEGOTIATE, then AUTHENTICATE,
// which has the name and the proof. Before the first there may be an empty message.
type ntlmWatcher struct {
	attempt           *Attempt
	began, negotiated bool
	// wide says that texts are in UTF-16, by NEGOTIATE. What AUTHENTICATE says has to
	// agree, or the backend could read another name than we do.
	wide bool
}

var ntlmSignature = []byte("NTLMSSP\x00")

// Next implements Watcher.
func (w *ntlmWatcher) Next(message []byte) (proof bool, err error) {
	const typeAt, flagsAt, least = 8, 12, 16
	const negotiate, authenticate = 1, 3
	began := w.began
	w.began = true
	if len(message) == 0 && !began {
		return false, nil
	}
	if len(message) < least || !bytes.HasPrefix(message, ntlmSignature) {
		return false, fmt.Errorf("%w: not NTLM", ErrMessage)
	}
	switch kind := binary.LittleEndian.Uint32(message[typeAt:]); {
	case kind == negotiate && !w.negotiated:
		w.negotiated = true
		w.wide = isUnicode(binary.LittleEndian.Uint32(message[flagsAt:]))
		return false, nil
	case kind == authenticate && w.negotiated:
		if err := w.authenticate(message); err != nil {
			return false, err
		}
		return true, nil
	}
	return false, fmt.Errorf("%w: no NTLM message that is due", ErrMessage)
}

// authenticate reads the name in AUTHENTICATE.
func (w *ntlmWatcher) authenticate(message []byte) error {
	const domainAt, userAt, flagsAt, least = 28, 36, 60, 64
	const anonymous = 0x800
	if len(message) < least {
		return fmt.Errorf("%w: too short for NTLM", ErrMessage)
	}
	flags := binary.LittleEndian.Uint32(message[flagsAt:])
	if flags&anonymous != 0 || isUnicode(flags) != w.wide {
		return fmt.Errorf("%w: it is for nobody, or in another script than was said", ErrMessage)
	}
	domain, ok1 := ntlmText(message, domainAt, w.wide)
	user, ok2 := ntlmText(message, userAt, w.wide)
	if !ok1 || !ok2 || user == "" {
		return fmt.Errorf("%w: it names no user", ErrMessage)
	}
	if domain != "" {
		// Put together, other parts could be read in them.
		if strings.ContainsAny(domain, `/\@`) || strings.ContainsAny(user, `/\`) {
			return fmt.Errorf("%w: a separator in a part of the name", ErrMessage)
		}
		user = domain + `\` + user
	}
	return w.attempt.names(user, "")
}

func isUnicode(flags uint32) bool { return flags&1 != 0 }

// ntlmText returns the text that a descriptor points to.
func ntlmText(message []byte, at int, wide bool) (string, bool) {
	length := uint64(binary.LittleEndian.Uint16(message[at:]))
	start := uint64(binary.LittleEndian.Uint32(message[at+4:]))
	if start+length > uint64(len(message)) {
		return "", false
	}
	text := message[start : start+length]
	if !wide {
		return string(text), true
	}
	if length%2 != 0 {
		return "", false
	}
	units := make([]uint16, length/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(text[2*i:])
	}
	return string(utf16.Decode(units)), true
}

// gssapiWatcher reads Kerberos in GSSAPI (RFC 4752). The last message is wrapped, and
// has whom the client wants to be, if that is somebody else than the ticket says. Who
// that is only the backend knows.
type gssapiWatcher struct{ attempt *Attempt }

// Next implements Watcher. What is not wrapped belongs to the making of a context.
func (w *gssapiWatcher) Next(message []byte) (proof bool, err error) {
	if !bytes.HasPrefix(message, []byte{5, 4}) {
		return false, nil
	}
	plain, ok := unwrapped(message)
	// Before the name are a layer and its size. Within a layer, nobody could tell any
	// more what client and backend say to each other.
	const noLayer, nameAt = 1, 4
	if !ok || len(plain) < nameAt || plain[0] != noLayer {
		return false, fmt.Errorf("%w: it is encrypted, or asks for a security layer", ErrMessage)
	}
	name := string(plain[nameAt:])
	if name == "" {
		w.attempt.nameless()
		return true, nil
	}
	if err := w.attempt.names(name, ""); err != nil {
		return false, err
	}
	return true, nil
}

// unwrapped returns what is in a wrapped message (RFC 4121 section 4.2.6.2) that a
// client has not encrypted, as RFC 4752 section 3.1 wants it.
func unwrapped(message []byte) (plain []byte, ok bool) {
	const flagsAt, fillerAt, extraAt, rotateAt, header = 2, 3, 4, 6, 16
	const fromAcceptor, sealed = 1, 2
	if len(message) <= header || message[flagsAt]&(fromAcceptor|sealed) != 0 || message[fillerAt] != 0xff {
		return nil, false
	}
	body := message[header:]
	end := len(body) - int(binary.BigEndian.Uint16(message[extraAt:]))
	if end < 0 {
		return nil, false
	}
	rotated := int(binary.BigEndian.Uint16(message[rotateAt:])) % len(body)
	return append(bytes.Clone(body[rotated:]), body[:rotated]...)[:end], true
}
