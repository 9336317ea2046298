package imapcmd

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/term"

	"github.com/caddy-imap/caddy-imap/internal/login"
)

// console is where a command reads and writes.
type console struct {
	in       io.Reader
	out, err io.Writer
}

// terminal returns the terminal that is read from, or nil.
func (c console) terminal() *os.File {
	if f, ok := c.in.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

func (c console) isTerminal() bool { return c.terminal() != nil }

// maxPassword is more than any backend takes.
const maxPassword = 8 << 10

// password reads the password, from the first line of what is read from, or from the
// terminal, which does not show it.
func (c console) password(user string, line bool) (login.Secret, error) {
	var secret login.Secret
	if line {
		text, err := bufio.NewReader(io.LimitReader(c.in, maxPassword)).ReadString('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return "", fmt.Errorf("reading the password: %w", err)
		}
		secret = login.Secret(strings.TrimRight(text, "\r\n"))
	} else {
		var err error
		if secret, err = c.ask(user); err != nil {
			return "", fmt.Errorf("asking for the password: %w", err)
		}
	}
	if secret == "" {
		return "", errors.New("the password is empty, and no backend is asked about such")
	}
	return secret, nil
}

// ask asks on the terminal. If the operator ends the command meanwhile, the terminal
// shows again what is typed.
func (c console) ask(user string) (login.Secret, error) {
	fd := int(c.terminal().Fd())
	before, err := term.GetState(fd)
	if err != nil {
		return "", err
	}
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	defer func() {
		signal.Stop(interrupted)
		close(done)
	}()
	go restore(fd, before, interrupted, done, c.err)
	fmt.Fprintf(c.err, "Password of %s: ", user)
	text, err := term.ReadPassword(fd)
	fmt.Fprintln(c.err)
	return login.Secret(text), err
}

// restore waits for the operator to end the command, and ends it. It gives up when
// the password has been read.
func restore(fd int, before *term.State, interrupted <-chan os.Signal, done <-chan struct{}, w io.Writer) {
	select {
	case <-done:
	case <-interrupted:
		_ = term.Restore(fd, before)
		fmt.Fprintln(w)
		os.Exit(exitFault)
	}
}

// confirm asks a question that is answered with no, unless somebody says yes.
func (c console) confirm(question string) bool {
	fmt.Fprint(c.err, question)
	answer, _ := bufio.NewReader(c.in).ReadString('\n')
	switch strings.ToLower(strings.TrimSpace(answer)) {
	case "y", "yes":
		return true
	}
	return false
}
