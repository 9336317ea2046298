package glue

import (
	"fmt"

	"github.com/caddyserver/caddy/v2"
)

// Secret replaces the placeholders in the value of an option that nobody is to see,
// such as {env.NAME} and {file./path}. Errors show nothing of the text, nor of the
// replacer's idea of what a placeholder in it is.
func Secret(option, text string) (string, error) {
	replaced, err := caddy.NewReplacer().ReplaceOrErr(text, true, true)
	if err != nil {
		return "", fmt.Errorf("%s: a placeholder in it is unknown or empty; a brace that begins none is written \\{", option)
	}
	return replaced, nil
}
