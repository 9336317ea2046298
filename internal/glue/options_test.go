package glue

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// settings has a field for each kind of option.
type settings struct {
	text, word string
	list       []string
	pair       []string
	flag       bool
	duration   caddy.Duration
	number     int
	noted      bool
	// inner are the tokens that an option with a grammar of its own was given.
	inner []string
}

func (s *settings) options() Options {
	return Options{
		"text": Text(&s.text),
		"word": Text(&s.word).Noted(func() { s.noted = true }),
		"list": List(&s.list),
		"more": List(&s.list).Repeated(),
		"pair": Values(1, 2, func(values []string) error {
			if slices.Contains(values, "bad") {
				return errors.New("values are bad")
			}
			s.pair = values
			return nil
		}),
		"flag":     Flag(&s.flag),
		"duration": Duration(&s.duration),
		"number":   Number(&s.number),
		"own": Segment(func(d *caddyfile.Dispenser) error {
			for d.Next() {
				s.inner = append(s.inner, d.Val())
			}
			if slices.Contains(s.inner, "bad") {
				return d.Errf("option 'own': that is bad")
			}
			return nil
		}),
	}
}

func read(input string) (*settings, error) {
	s := new(settings)
	d := caddyfile.NewTestDispenser(input)
	d.Next()
	return s, s.options().Block(d)
}

func TestOptions(t *testing.T) {
	s, err := read(`name {
	text "two words"
	word x
	list a b
	more c
	more d
	pair a b
	flag
	duration 1m30s
	number 7
	own x {
		y {
			z
		}
	}
}`)
	if err != nil {
		t.Fatal(err)
	}
	if s.text != "two words" || s.word != "x" || !s.noted || !s.flag || s.number != 7 || time.Duration(s.duration) != 90*time.Second {
		t.Errorf("read %+v", s)
	}
	if !slices.Equal(s.list, []string{"a", "b", "c", "d"}) || !slices.Equal(s.pair, []string{"a", "b"}) {
		t.Errorf("read %+v", s)
	}
	if got := strings.Join(s.inner, " "); got != "own x { y { z } }" {
		t.Errorf("the option with a grammar of its own was given %q", got)
	}
	for _, empty := range []string{"name", "name {\n}"} {
		if s, err := read(empty); err != nil || s.noted {
			t.Errorf("%q: %v", empty, err)
		}
	}
}

// TestOptionsErrors pins that each error names the option and the line.
func TestOptionsErrors(t *testing.T) {
	const known = "; known are duration, flag, list, more, number, own, pair, text, word"
	for _, tc := range []struct {
		input, want string
	}{
		{"name x", "unexpected argument 'x'; options go into a block, one a line, at Testfile:1"},
		{"name x {\n}", "unexpected argument 'x'; options go into a block, one a line, at Testfile:1"},
		{"name {\nTEXT x\n}", "unknown option 'TEXT'" + known + ", at Testfile:2"},
		{"name {\ntext x\nlist a\ntext y\n}", "duplicate option 'text', at Testfile:4"},
		{"name {\nown x\nown y\n}", "duplicate option 'own', at Testfile:3"},
		{"name {\ntext\n}", "option 'text': value is missing, at Testfile:2"},
		{"name {\ntext \"\"\n}", "option 'text': value is empty, at Testfile:2"},
		{"name {\ntext x y\n}", "option 'text': takes one value, but has also 'y', at Testfile:2"},
		{"name {\ntext x {\ny\n}\n}", "option 'text': takes no block, at Testfile:3"},
		{"name {\ntext x {\n}\n}", "option 'text': takes no block, at Testfile:3"},
		{"name {\nlist\n}", "option 'list': value is missing, at Testfile:2"},
		{"name {\nlist a \"\"\n}", "option 'list': value is empty, at Testfile:2"},
		{"name {\npair a b c\n}", "option 'pair': takes at most 2 values, but has also 'c', at Testfile:2"},
		{"name {\npair bad\n}", "option 'pair': values are bad, at Testfile:2"},
		{"name {\nflag on\n}", "option 'flag': takes no value, but has 'on', at Testfile:2"},
		{"name {\nflag {\nx\n}\n}", "option 'flag': takes no block, at Testfile:3"},
		{"name {\nduration 5\n}", "option 'duration': not a duration such as 5s or 1m30s: time: missing unit in duration \"5\", at Testfile:2"},
		{"name {\nduration 0s\n}", "option 'duration': 0s: must be more than 0, at Testfile:2"},
		{"name {\nduration -1d\n}", "option 'duration': -1d: must be more than 0, at Testfile:2"},
		{"name {\nnumber 1.5\n}", "option 'number': 1.5: not a whole number, at Testfile:2"},
		{"name {\nnumber 99999999999999999999\n}", "option 'number': 99999999999999999999: not a whole number, at Testfile:2"},
		{"name {\nnumber 0\n}", "option 'number': 0: must be more than 0, at Testfile:2"},
		{"name {\nown bad\n}", "option 'own': that is bad, at Testfile:2"},
	} {
		_, err := read(tc.input)
		if err == nil || err.Error() != tc.want {
			t.Errorf("%q:\ngot  %v\nwant %s", tc.input, err, tc.want)
		}
	}
}
