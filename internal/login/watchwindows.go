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

// Parts of an NTLM message: where its type is, in NEGOTIATE the flags, and in
// AUTHENTICATE the descriptors of the domain and of the user name, and the flags.
const (
	ntlmType        = 8
	ntlmFirstFlags  = 12
	ntlmLeastFirst  = 16
	ntlmDomain      = 28
	ntlmUser        = 36
	ntlmSecondFlags = 60
	ntlmLeastSecond = 64

	ntlmNegotiate    = 1
	ntlmAuthenticate = 3

	ntlmUnicode   = 0x1
	ntlmAnonymous = 0x800
)

var ntlmSignature = []byte("NTLMSSP\x00")

// Next implements Watcher.
func (w *ntlmWatcher) Next(message []byte) (proof bool, err error) {
	began := w.began
	w.began = true
	if len(message) == 0 && !began {
		return false, nil
	}
	if len(message) < ntlmLeastFirst || !bytes.HasPrefix(message, ntlmSignature) {
		return false, fmt.Errorf("%w: not NTLM", ErrMessage)
	}
	switch kind := binary.LittleEndian.Uint32(message[ntlmType:]); {
	case kind == ntlmNegotiate && !w.negotiated:
		w.negotiated = true
		w.wide = binary.LittleEndian.Uint32(message[ntlmFirstFlags:])&ntlmUnicode != 0
		return false, nil
	case kind == ntlmAuthenticate && w.negotiated && len(message) >= ntlmLeastSecond:
		w.negotiated = false
		if err := w.authenticate(message); err != nil {
			return false, err
		}
		return true, nil
	}
	return false, fmt.Errorf("%w: no NTLM message that is due", ErrMessage)
}

// authenticate reads the name in AUTHENTICATE.
func (w *ntlmWatcher) authenticate(message []byte) error {
	flags := binary.LittleEndian.Uint32(message[ntlmSecondFlags:])
	if flags&ntlmAnonymous != 0 || flags&ntlmUnicode != 0 != w.wide {
		return fmt.Errorf("%w: it is for nobody, or in another script than was said", ErrMessage)
	}
	domain, ok1 := ntlmText(message, ntlmDomain, w.wide)
	user, ok2 := ntlmText(message, ntlmUser, w.wide)
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
// that is only the backend knows. So the name is one for the address.
type gssapiWatcher struct {
	attempt *Attempt
	done    bool
}

// Parts of a wrapped message (RFC 4121 section 4.2.6.2).
const (
	wrapHeader = 16
	wrapFlags  = 2
	wrapFiller = 3
	wrapExtra  = 4
	wrapRotate = 6

	fromAcceptor = 0x1
	wrapSealed   = 0x2

	// layerBytes are those before the name: a security layer and its size.
	layerBytes = 4
	// noLayer is the only one that there can be: within another, nobody could tell
	// any more what client and backend say to each other.
	noLayer = 0x1
)

// Next implements Watcher. What is not wrapped belongs to the making of a context.
func (w *gssapiWatcher) Next(message []byte) (proof bool, err error) {
	if w.done {
		return false, ErrMessage
	}
	if !bytes.HasPrefix(message, []byte{5, 4}) {
		return false, nil
	}
	w.done = true
	plain, ok := unwrapped(message)
	if !ok || plain[0] != noLayer {
		return false, fmt.Errorf("%w: it is encrypted, or asks for a security layer", ErrMessage)
	}
	name := string(plain[layerBytes:])
	if name == "" {
		name = w.attempt.nameless()
	}
	if err := w.attempt.names(name, ""); err != nil {
		return false, err
	}
	return true, nil
}

// unwrapped returns what is in a wrapped message that is not encrypted, as RFC 4752
// section 3.1 wants it, and that is no shorter than it must be.
func unwrapped(message []byte) (plain []byte, ok bool) {
	if len(message) < wrapHeader+layerBytes || message[wrapFlags]&(wrapSealed|fromAcceptor) != 0 || message[wrapFiller] != 0xff {
		return nil, false
	}
	body := message[wrapHeader:]
	end := len(body) - int(binary.BigEndian.Uint16(message[wrapExtra:]))
	if end < layerBytes {
		return nil, false
	}
	rotated := int(binary.BigEndian.Uint16(message[wrapRotate:])) % len(body)
	return append(bytes.Clone(body[rotated:]), body[:rotated]...)[:end], true
}
