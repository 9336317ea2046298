package relay

import "bytes"

// Watcher is an Extension that wants to know what became of commands that it has looked
// at and that were passed on.
type Watcher interface {
	// Watch is called where Plan has returned nothing. What it returns, if anything, is
	// called when the backend has completed the command with OK, by another goroutine than
	// that of the Extension's methods, and must not block for long. answered says whether
	// data about a message has come since the command before was completed.
	Watch(command []byte) func(answered bool)
}

// watch has a command watched that is about to be passed on.
func (l *ledger) watch(command []byte, f func(answered bool)) {
	tag, _, _ := bytes.Cut(command, []byte{' '})
	hash := hashStart
	for _, b := range tag {
		hash = hashByte(hash, b)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.watched) >= maxOpen {
		return
	}
	if l.watched == nil {
		l.watched = make(map[uint32]func(bool))
	}
	l.watched[hash] = f
	l.watching.Store(true)
}

// watcher returns who watches the command with the tag, which is completed.
func (l *ledger) watcher(tag uint32) func(answered bool) {
	if !l.watching.Load() {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	f := l.watched[tag]
	delete(l.watched, tag)
	if len(l.watched) == 0 {
		l.watched = nil
		l.watching.Store(false)
	}
	return f
}
