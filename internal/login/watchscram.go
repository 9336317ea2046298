package login

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
)

// scramWatcher reads SCRAM (RFC 5802): the first message has the name, and the second
// the proof.
type scramWatcher struct {
	attempt  *Attempt
	messages int
}

// Next implements Watcher.
func (w *scramWatcher) Next(message []byte) (proof bool, err error) {
	w.messages++
	switch w.messages {
	case 1:
		return false, w.first(string(message))
	case 2:
		if !bytes.HasPrefix(message, []byte("c=")) || !bytes.Contains(message, []byte(",p=")) {
			return false, fmt.Errorf("%w: it has no proof", ErrMessage)
		}
		w.attempt.oneTime()
		return true, nil
	default:
		return false, ErrMessage
	}
}

func (w *scramWatcher) first(message string) error {
	authzID, bare, err := cutGS2(message)
	if err != nil {
		return err
	}
	name, rest, _ := strings.Cut(bare, ",")
	name, found := strings.CutPrefix(name, "n=")
	if !found || !strings.HasPrefix(rest, "r=") {
		return fmt.Errorf("%w: it has no name, or no nonce", ErrMessage)
	}
	user, err := saslName(name)
	if err != nil {
		return err
	}
	w.attempt.User = user
	if authzID != user {
		w.attempt.AuthzID = authzID
	}
	return nil
}

// cramWatcher reads CRAM-MD5 (RFC 2195): the one message is the name and a digest of
// the backend's challenge.
type cramWatcher struct {
	attempt *Attempt
	done    bool
}

// Next implements Watcher.
func (w *cramWatcher) Next(message []byte) (proof bool, err error) {
	space := bytes.LastIndexByte(message, ' ')
	if w.done || space <= 0 {
		return false, ErrMessage
	}
	w.done = true
	if digest, err := hex.DecodeString(string(message[space+1:])); err != nil || len(digest) != 16 {
		return false, fmt.Errorf("%w: it has no digest", ErrMessage)
	}
	w.attempt.User = string(message[:space])
	w.attempt.oneTime()
	return true, nil
}
