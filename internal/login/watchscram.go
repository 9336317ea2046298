package login

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// scramWatcher reads SCRAM (RFC 5802): the first message has the name, and the second
// the proof.
type scramWatcher struct {
	attempt *Attempt
	named   bool
}

// Next implements Watcher.
func (w *scramWatcher) Next(message []byte) (proof bool, err error) {
	if !w.named {
		w.named = true
		return false, w.first(string(message))
	}
	if err := isScramProof(string(message)); err != nil {
		return false, err
	}
	return true, nil
}

// first reads the client's first message. There are no extensions of it yet, and in
// one a backend could read another name.
func (w *scramWatcher) first(message string) error {
	authzID, bare, err := cutGS2(message)
	if err != nil {
		return err
	}
	name, nonce, _ := strings.Cut(bare, ",")
	name, named := strings.CutPrefix(name, "n=")
	nonce, found := strings.CutPrefix(nonce, "r=")
	if !named || !found || nonce == "" || strings.ContainsAny(nonce, ",\x00") {
		return fmt.Errorf("%w: it is not a name and a nonce", ErrMessage)
	}
	user, err := saslName(name)
	if err != nil {
		return err
	}
	return w.attempt.names(user, authzID)
}

// isScramProof looks for what the client's final message must have: the GS2 header
// once more, the nonces, and at its end the proof.
func isScramProof(message string) error {
	header, rest, _ := strings.Cut(message, ",")
	nonces, _, _ := strings.Cut(rest, ",")
	proof := message[strings.LastIndexByte(message, ',')+1:]
	digest, found := strings.CutPrefix(proof, "p=")
	if !strings.HasPrefix(header, "c=") || !strings.HasPrefix(nonces, "r=") || !found {
		return fmt.Errorf("%w: it has no proof", ErrMessage)
	}
	if b, err := base64.StdEncoding.Strict().DecodeString(digest); err != nil || len(b) == 0 {
		return fmt.Errorf("%w: its proof is not base64", ErrMessage)
	}
	return nil
}

// cramWatcher reads CRAM-MD5 (RFC 2195): the one message is the name and a digest of
// the backend's challenge. The name may have spaces in it.
type cramWatcher struct{ attempt *Attempt }

// Next implements Watcher.
func (w *cramWatcher) Next(message []byte) (proof bool, err error) {
	space := bytes.LastIndexByte(message, ' ')
	if space < 0 {
		return false, fmt.Errorf("%w: it is not a name and a digest", ErrMessage)
	}
	if digest, err := hex.DecodeString(string(message[space+1:])); err != nil || len(digest) != 16 {
		return false, fmt.Errorf("%w: it has no digest", ErrMessage)
	}
	if err := w.attempt.names(string(message[:space]), ""); err != nil {
		return false, err
	}
	return true, nil
}
