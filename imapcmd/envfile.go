package imapcmd

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/certmagic"
)

// loadEnvFiles sets variables of the environment as the flag --envfile of caddy run
// does: those that are set already stay what they are. Caddy does not let others use
// what it reads such files with.
func loadEnvFiles(files []string) error {
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("--envfile: %w", err)
		}
		variables, err := parseEnv(string(text))
		if err != nil {
			return fmt.Errorf("--envfile %s: %w", file, err)
		}
		for name, value := range variables {
			if _, exists := os.LookupEnv(name); exists {
				continue
			}
			if err := os.Setenv(name, value); err != nil {
				return fmt.Errorf("--envfile %s: setting %s: %w", file, name, err)
			}
		}
	}
	if len(files) > 0 {
		// Where it is may be told by the variables.
		caddy.DefaultStorage = &certmagic.FileStorage{Path: caddy.AppDataDir()}
	}
	return nil
}

// parseEnv reads lines of the form NAME=value. Errors do not quote them, since values
// are secrets.
func parseEnv(text string) (map[string]string, error) {
	variables := make(map[string]string)
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	for i := 0; i < len(lines); i++ {
		number, line := i+1, strings.TrimSpace(lines[i])
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, found := strings.Cut(line, "=")
		name = strings.TrimPrefix(name, "export ")
		if !found || name == "" || strings.Contains(name, " ") || strings.HasPrefix(value, " ") || strings.HasPrefix(value, "\t") {
			return nil, fmt.Errorf("line %d: must be NAME=value", number)
		}
		value, _, commented := strings.Cut(value, "#")
		if commented {
			value = strings.TrimRight(value, " \t")
		}
		if value != "" && strings.Contains(`"'`, value[:1]) {
			quote := value[:1]
			for value = value[1:]; !endsQuoted(value, quote); value += "\n" + lines[i] {
				if i++; i == len(lines) {
					return nil, fmt.Errorf("line %d: %w", number, errQuote)
				}
			}
			value = value[:len(value)-1]
			if i >= number { // Caddy leaves what is escaped as it is in a single line
				value = strings.ReplaceAll(value, `\`+quote, quote)
			}
		}
		variables[name] = value
	}
	return variables, nil
}

var errQuote = errors.New("the quote has no end")

// endsQuoted says whether a text ends with the quote, and not with one that is escaped.
func endsQuoted(text, quote string) bool {
	return strings.HasSuffix(text, quote) && !strings.HasSuffix(text, `\`+quote)
}
