package dovecotauth

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"go.uber.org/zap"
)

var (
	errPanic = errors.New("stopped by a panic")
	errReset = errors.New("connection was reset, since a password could not be checked")
)

// recoverer keeps a panic from ending the whole process.
type recoverer struct {
	log *zap.Logger
}

// whenDone calls f, on a goroutine of its own, when ctx is done. The returned
// function ends that, and returns when f does not run and will not.
func (r recoverer) whenDone(ctx context.Context, f func()) (stop func()) {
	ran := make(chan struct{})
	stopped := context.AfterFunc(ctx, func() {
		defer close(ran)
		defer r.recovered("ending a request")
		f()
	})
	return func() {
		if !stopped() {
			<-ran
		}
	}
}

// recovered is to be deferred. It logs a panic and ends it.
func (r recoverer) recovered(doing string) {
	if p := recover(); p != nil {
		r.logPanic(doing, p)
	}
}

// logPanic leaves out what the panic said, unless the runtime said it: it might
// quote a password.
func (r recoverer) logPanic(doing string, p any) {
	what := fmt.Sprintf("%T", p)
	if err, ok := p.(interface {
		error
		RuntimeError()
	}); ok {
		what = err.Error()
	}
	r.log.Error("panic while "+doing, zap.String("panic", what), zap.ByteString("stack", debug.Stack()))
}
