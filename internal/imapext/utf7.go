package imapext

import (
	"encoding/base64"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// mailboxBase64 is base64 as in names of mailboxes (RFC 3501 section 5.1.3).
var mailboxBase64 = base64.NewEncoding("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+,").WithPadding(base64.NoPadding)

// decodeName turns the name of a mailbox from modified UTF-7 to UTF-8. A name that is
// not in modified UTF-7 is returned as it is, with false. More than one spelling of the
// same name is understood, so that names can be compared.
func decodeName(name string) (string, bool) {
	if strings.IndexByte(name, '&') < 0 {
		return name, true
	}
	var out strings.Builder
	for rest := name; ; {
		text, shifted, found := strings.Cut(rest, "&")
		out.WriteString(text)
		if !found {
			return out.String(), true
		}
		code, after, closed := strings.Cut(shifted, "-")
		if !closed {
			return name, false
		}
		if rest = after; code == "" {
			out.WriteByte('&')
			continue
		}
		raw, err := mailboxBase64.DecodeString(code)
		if err != nil || len(raw) < 2 || len(raw)%2 != 0 {
			return name, false
		}
		if !appendUTF16(&out, raw) {
			return name, false
		}
	}
}

// appendUTF16 appends big-endian UTF-16, and returns false if it is none.
func appendUTF16(out *strings.Builder, raw []byte) bool {
	for i := 0; i < len(raw); i += 2 {
		r := rune(raw[i])<<8 | rune(raw[i+1])
		if utf16.IsSurrogate(r) {
			if i += 2; i >= len(raw) {
				return false
			}
			r = utf16.DecodeRune(r, rune(raw[i])<<8|rune(raw[i+1]))
			if r == utf8.RuneError {
				return false
			}
		}
		out.WriteRune(r)
	}
	return true
}

// nameKey is the same for all spellings of a mailbox's name: INBOX, and it as the root of
// a hierarchy, in any case (RFC 3501 section 5.1), and modified UTF-7 as it may be.
func nameKey(name, delim string) string {
	key, _ := decodeName(name)
	if isInbox(key, delim) {
		return inbox + key[len(inbox):]
	}
	return key
}

// sameMailbox compares names of mailboxes.
func sameMailbox(a, b string) bool { return nameKey(a, "") == nameKey(b, "") }

const inbox = "INBOX"

// isInbox says whether a name is INBOX or is below it.
func isInbox(name, delim string) bool {
	if len(name) < len(inbox) || !strings.EqualFold(name[:len(inbox)], inbox) {
		return false
	}
	return len(name) == len(inbox) || delim != "" && strings.HasPrefix(name[len(inbox):], delim)
}
