package dovecotconf

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// glob returns the files of a pattern, in the order of their names, as glob(3) does
// for Dovecot: with braces, and without files whose names begin with a dot. A directory
// that cannot be read is an error: nobody knows which of its files Dovecot reads.
func glob(pattern string) (files []string, err error) {
	patterns, err := expandBraces(pattern)
	if err != nil {
		return nil, err
	}
	for _, one := range patterns {
		found, err := globOne(one)
		if err != nil {
			return nil, fmt.Errorf("pattern %s: %w", pattern, err)
		}
		files = append(files, found...)
	}
	return files, nil
}

// globOne does so for a pattern without braces, part by part of the path. That of
// package filepath passes over what it cannot read.
func globOne(pattern string) ([]string, error) {
	base := filepath.VolumeName(pattern)
	rest := filepath.ToSlash(pattern[len(base):])
	if strings.HasPrefix(rest, "/") {
		base += "/"
	}
	found := []string{base}
	for part := range strings.SplitSeq(rest, "/") {
		if part == "" {
			continue
		}
		var next []string
		for _, dir := range found {
			names, err := matching(dir, part)
			if err != nil {
				return nil, err
			}
			for _, name := range names {
				next = append(next, filepath.Join(dir, name))
			}
		}
		found = next
	}
	// One whose name is there, even if nobody may look at it.
	found = slices.DeleteFunc(found, func(path string) bool {
		_, err := os.Lstat(path)
		return isAbsent(err)
	})
	slices.Sort(found)
	return found, nil
}

// matching returns the names in a directory that one part of a pattern matches. One
// that is no pattern is returned without a look.
func matching(dir, part string) (names []string, err error) {
	if !strings.ContainsAny(part, `*?[\`) {
		return []string{part}, nil
	}
	part = strings.ReplaceAll(part, "[!", "[^")
	if _, err := filepath.Match(part, ""); err != nil {
		return nil, err
	}
	if dir == "" {
		dir = "."
	}
	if info, err := os.Stat(dir); isAbsent(err) || err == nil && !info.IsDir() {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") && !strings.HasPrefix(part, ".") {
			continue
		}
		if ok, _ := filepath.Match(part, entry.Name()); ok {
			names = append(names, entry.Name())
		}
	}
	return names, nil
}

// isAbsent says that there is no such file, and not that nobody may look for it.
func isAbsent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
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
