package glue

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
)

// Replaced replaces the placeholders in the value of an option, such as {env.NAME} and
// {file./path}. One that is unknown or empty is an error, and so is a file that cannot be
// read.
func Replaced(text string) (string, error) {
	if err := readable(text); err != nil {
		return "", err
	}
	return caddy.NewReplacer().ReplaceOrErr(text, true, true)
}

// Secret is Replaced for the value of an option that nobody is to see. Errors show
// nothing of the text, nor of the replacer's idea of what a placeholder in it is.
func Secret(option, text string) (string, error) {
	if err := readable(text); err != nil {
		return "", fmt.Errorf("%s: %w", option, err)
	}
	replaced, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: a placeholder in it is unknown or empty; a brace that begins none is written \\{", option)
	}
	return replaced, nil
}

// readable returns why the file of a placeholder cannot be read. To Caddy's replacer, such a
// file is as good as an empty one. The error does not name it: what begins like a
// placeholder may be a part of a password.
func readable(text string) error {
	for {
		_, rest, found := strings.Cut(text, "{file.")
		name, rest, closed := strings.Cut(rest, "}")
		if !found || !closed {
			return nil
		}
		if err := tryRead(name); err != nil {
			return fmt.Errorf("the file of a placeholder in it cannot be read: %w", err)
		}
		text = rest
	}
}

func tryRead(name string) error {
	f, err := os.Open(name)
	if err == nil {
		defer f.Close()
		if _, err = f.Read(make([]byte, 1)); errors.Is(err, io.EOF) {
			err = nil
		}
	}
	if pathErr := (*fs.PathError)(nil); errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return err
}
