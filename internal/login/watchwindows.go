package login

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"unicode/utf16"
)

// ntlmWatcher reads NTLM ([MS-NLMP] section 2.2.1): NEGOTIATE, then AUTHENTICATE,
// which has the name and the proof. Before the first there may be an empty message.
type ntlmWatcher struct {
	attempt    *Attempt
	negotiated bool
}

// Parts of an NTLM message: where its type is, and in AUTHENTICATE the descriptors of
// the domain and of the user name, and the flags.
const (
	ntlmType    = 8
	ntlmDomain  = 28
	ntlmUser    = 36
	ntlmFlags   = 60
	ntlmLeast   = 64
	ntlmUnicode = 1

	ntlmNegotiate    = 1
	ntlmAuthenticate = 3
)

var ntlmSignature = []byte("NTLMSSP\x00")

// Next implements Watcher.
func (w *ntlmWatcher) Next(message []byte) (proof bool, err error) {
	if len(message) == 0 && !w.negotiated {
		return false, nil
	}
	if len(message) < ntlmType+4 || !bytes.HasPrefix(message, ntlmSignature) {
		return false, fmt.Errorf("%w: not NTLM", ErrMessage)
	}
	switch kind := binary.LittleEndian.Uint32(message[ntlmType:]); {
	case kind == ntlmNegotiate && !w.negotiated:
		w.negotiated = true
		return false, nil
	case kind != ntlmAuthenticate || !w.negotiated || len(message) < ntlmLeast:
		return false, fmt.Errorf("%w: no NTLM message that is due", ErrMessage)
	}
	wide := binary.LittleEndian.Uint32(message[ntlmFlags:])&ntlmUnicode != 0
	domain, ok1 := ntlmText(message, ntlmDomain, wide)
	user, ok2 := ntlmText(message, ntlmUser, wide)
	if !ok1 || !ok2 || user == "" {
		return false, fmt.Errorf("%w: it names no user", ErrMessage)
	}
	if domain != "" {
		user = domain + `\` + user
	}
	w.attempt.User = user
	w.attempt.oneTime()
	return true, nil
}

// ntlmText returns the text that a descriptor points to.
func ntlmText(message []byte, at int, wide bool) (string, bool) {
	length := int(binary.LittleEndian.Uint16(message[at:]))
	start := uint64(binary.LittleEndian.Uint32(message[at+4:]))
	if start+uint64(length) > uint64(len(message)) {
		return "", false
	}
	text := message[start : start+uint64(length)]
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
// that is only the backend knows. So the name is one for the address.
type gssapiWatcher struct {
	attempt *Attempt
	done    bool
}

// Parts of a wrapped message (RFC 4121 section 4.2.6.2).
const (
	wrapHeader = 16
	wrapFlags  = 2
	wrapExtra  = 4
	wrapRotate = 6
	wrapSealed = 2
	// layerBytes are those before the name: a security layer and its size.
	layerBytes = 4
)

// Next implements Watcher.
func (w *gssapiWatcher) Next(message []byte) (proof bool, err error) {
	if w.done {
		return false, ErrMessage
	}
	if len(message) < wrapHeader || message[0] != 5 || message[1] != 4 {
		return false, nil
	}
	w.done = true
	user := unwrappedName(message)
	if user == "" {
		user = w.attempt.nameless()
	}
	w.attempt.User = user
	w.attempt.oneTime()
	return true, nil
}

// unwrappedName returns the name in a wrapped message that is not encrypted.
func unwrappedName(message []byte) string {
	extra := int(binary.BigEndian.Uint16(message[wrapExtra:]))
	body := message[wrapHeader:]
	if message[wrapFlags]&wrapSealed != 0 || len(body) < layerBytes+extra {
		return ""
	}
	rotated := int(binary.BigEndian.Uint16(message[wrapRotate:])) % len(body)
	plain := append(bytes.Clone(body[rotated:]), body[:rotated]...)
	return string(plain[layerBytes : len(plain)-extra])
}
