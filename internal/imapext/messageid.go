package imapext

import "bytes"

// maxBroken is after how many broken Message-IDs with quotes or comments in them the rest
// of a field is not read.
const maxBroken = 100

// messageIDs reads Message-IDs from a value.
type messageIDs struct {
	value  []byte
	broken int
}

// next returns the next valid one, without its angle brackets and in normal form (RFC
// 5256 section 3, on REFERENCES); nil if there is none.
func (m *messageIDs) next() []byte {
	end := -1 // where what ends a plain one is
	for m.broken < maxBroken {
		i := bytes.IndexByte(m.value, '<') + 1
		if i == 0 {
			break
		}
		m.value = m.value[i:]
		if end -= i; end < 0 {
			if end = bytes.IndexAny(m.value, `>"(`); end < 0 {
				break
			}
		}
		if m.value[end] == '>' {
			id := m.value[:end]
			m.value, end = m.value[end+1:], -1
			if bytes.IndexByte(id, '@') >= 0 {
				return withoutSpace(id)
			}
			continue
		}
		if id, rest := quotedMessageID(m.value); id != nil {
			m.value = rest
			return id
		}
		m.broken++
	}
	m.value = nil
	return nil
}

// withoutSpace leaves out space, which folding may have put in.
func withoutSpace(id []byte) []byte {
	if !bytes.ContainsAny(id, " \t\r\n") {
		return id
	}
	return bytes.Join(bytes.Fields(id), nil)
}

// quotedMessageID reads one that may have quotes and comments in it: <"a"@b> is <a@b>.
func quotedMessageID(value []byte) (id, rest []byte) {
	t := tokens{rest: value}
	t.space()
	read := t.dotAtom
	if t.next() == '"' {
		read = t.quoted
	}
	if read() != onward || t.next() != '@' {
		return nil, nil
	}
	t.out = append(t.out, t.take())
	t.space()
	if t.dotAtom() != onward || t.take() != '>' {
		return nil, nil
	}
	return t.out, t.rest
}
