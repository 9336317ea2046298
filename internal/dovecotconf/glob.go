package dovecotconf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// glob returns the files of a pattern, in the order of their names, as glob(3) does
// for Dovecot: with braces, and without files whose names begin with a dot.
func glob(pattern string) (files []string, err error) {
	patterns, err := expandBraces(pattern)
	if err != nil {
		return nil, err
	}
	for _, one := range patterns {
		if !strings.ContainsAny(one, `*?[\`) {
			// One whose name is there, even if nobody may look at it.
			if _, err := os.Lstat(one); !errors.Is(err, fs.ErrNotExist) {
				files = append(files, one)
			}
			continue
		}
		found, err := filepath.Glob(strings.ReplaceAll(one, "[!", "[^"))
		if err != nil {
			return nil, fmt.Errorf("pattern %s: %w", pattern, err)
		}
		found = slices.DeleteFunc(found, func(path string) bool { return isHidden(one, path) })
		slices.Sort(found)
		files = append(files, found...)
	}
	return files, nil
}

// isHidden says whether a part of the path begins with a dot that the pattern does
// not have.
func isHidden(pattern, path string) bool {
	want := strings.Split(filepath.ToSlash(filepath.Clean(pattern)), "/")
	got := strings.Split(filepath.ToSlash(filepath.Clean(path)), "/")
	if len(want) != len(got) {
		return false
	}
	for i, part := range got {
		if strings.HasPrefix(part, ".") && !strings.HasPrefix(want[i], ".") {
			return true
		}
	}
	return false
}

// expandBraces makes a.conf and b.conf of {a,b}.conf.
func expandBraces(pattern string) ([]string, error) {
	done, todo := []string(nil), []string{pattern}
	for len(todo) > 0 {
		if len(done)+len(todo) > maxBraces {
			return nil, fmt.Errorf("pattern %s: the braces stand for more than %d files", pattern, maxBraces)
		}
		one := todo[0]
		todo = todo[1:]
		open, shut, parts := braces(one)
		if parts == nil {
			done = append(done, one)
			continue
		}
		expanded := make([]string, 0, len(parts)+len(todo))
		for _, part := range parts {
			expanded = append(expanded, one[:open]+part+one[shut+1:])
		}
		todo = append(expanded, todo...)
	}
	return done, nil
}

// braces finds the first braces that are closed, and what commas separate in them.
// {} stands for itself.
func braces(text string) (open, shut int, parts []string) {
	for open = range len(text) {
		if text[open] != '{' || strings.HasPrefix(text[open:], "{}") {
			continue
		}
		depth, start := 0, open+1
		parts = nil
		for shut = open; shut < len(text); shut++ {
			switch c := text[shut]; {
			case c == '{':
				depth++
			case c == ',' && depth == 1:
				parts = append(parts, text[start:shut])
				start = shut + 1
			case c == '}':
				if depth--; depth == 0 {
					return open, shut, append(parts, text[start:shut])
				}
			}
		}
	}
	return 0, 0, nil
}
