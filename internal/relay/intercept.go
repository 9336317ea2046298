package relay

import "sync/atomic"

// Interceptor answers commands of the client in the backend's place. It is asked
// once for each command, before any byte of it is sent, and must not block. The
// name is in upper case and valid during the call only; a name of more than 16
// bytes is not asked for. A command that it returns nil for is the backend's.
type Interceptor interface {
	Intercept(name []byte) *Answer
}

// Answer is the relay's answer to a command. The command and its literals are
// kept from the backend.
type Answer struct {
	// Text follows the tag, such as "BAD Not here."
	Text string
}

var (
	answerTLS             = &Answer{Text: "BAD TLS is not to be started here."}
	answerUnauthenticate  = &Answer{Text: "BAD UNAUTHENTICATE is not supported."}
	answerAuthenticated   = &Answer{Text: "BAD Already logged in."}
	answerCompressRefused = &Answer{Text: "NO Compression is not available."}
)

// refusals are the commands that no backend gets to see.
type refusals struct {
	// strict is set at a backend that knows UNAUTHENTICATE.
	strict *atomic.Bool
	next   Interceptor
	// compresses says that COMPRESS is an extension's, who sees to it that nothing is
	// hidden from the relay.
	compresses bool
}

// Intercept implements Interceptor.
//
// After UNAUTHENTICATE (RFC 8437) a client could go on guessing passwords where
// nobody counts them, and LOGIN and AUTHENTICATE are what it would do that with.
// What follows AUTHENTICATE would besides not be commands. Compressed bytes
// cannot be looked at, so that COMPRESS would be a way around all this.
func (r *refusals) Intercept(name []byte) *Answer {
	switch string(name) {
	case "STARTTLS":
		return answerTLS
	case "UNAUTHENTICATE":
		return answerUnauthenticate
	case "AUTHENTICATE", "LOGIN":
		return answerAuthenticated
	case "COMPRESS":
		if r.strict.Load() && !r.compresses {
			return answerCompressRefused
		}
	}
	if r.next != nil {
		return r.next.Intercept(name)
	}
	return nil
}
