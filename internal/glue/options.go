package glue

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
)

// Options are what a block of a Caddyfile may hold, by name.
type Options map[string]Option

// Option says how one option of a block is read.
type Option struct {
	// min and max are the numbers of values; a negative max is no limit.
	min, max int
	set      func(values []string) error
	// segment reads an option with a grammar of its own, together with its
	// block, from a dispenser that begins with the option's name. It is used
	// instead of set.
	segment func(d *caddyfile.Dispenser) error
	// repeat lets the option be there more than once.
	repeat bool
	// noted is called when the option is there.
	noted func()
}

// Repeated returns the option such that it can be there more than once.
func (o Option) Repeated() Option {
	o.repeat = true
	return o
}

// Noted returns the option such that the function is called when it is there.
func (o Option) Noted(noted func()) Option {
	o.noted = noted
	return o
}

var errEmpty = errors.New("value is empty")

// Text is an option with one value, which is not empty.
func Text(field *string) Option {
	return Option{min: 1, max: 1, set: func(values []string) error {
		if values[0] == "" {
			return errEmpty
		}
		*field = values[0]
		return nil
	}}
}

// List is an option with one or more values, which it adds to the field.
func List(field *[]string) Option {
	return Values(1, -1, func(values []string) error {
		*field = append(*field, values...)
		return nil
	})
}

// Values is an option with min to max values, none of which is empty. A negative
// max is no limit.
func Values(min, max int, set func(values []string) error) Option {
	return Option{min: min, max: max, set: func(values []string) error {
		for _, value := range values {
			if value == "" {
				return errEmpty
			}
		}
		return set(values)
	}}
}

// Flag is an option without a value.
func Flag(field *bool) Option {
	return Option{set: func([]string) error {
		*field = true
		return nil
	}}
}

// Duration is an option with a duration of more than 0.
func Duration(field *caddy.Duration) Option {
	return Option{min: 1, max: 1, set: func(values []string) error {
		d, err := caddy.ParseDuration(values[0])
		if err != nil {
			return fmt.Errorf("not a duration such as 5s or 1m30s: %w", err)
		}
		if d <= 0 {
			return fmt.Errorf("%s: must be more than 0", values[0])
		}
		*field = caddy.Duration(d)
		return nil
	}}
}

// Number is an option with a whole number of more than 0.
func Number(field *int) Option {
	return Option{min: 1, max: 1, set: func(values []string) error {
		n, err := strconv.Atoi(values[0])
		if err != nil {
			return fmt.Errorf("%s: not a whole number", values[0])
		}
		if n <= 0 {
			return fmt.Errorf("%s: must be more than 0", values[0])
		}
		*field = n
		return nil
	}}
}

// Segment is an option with a grammar of its own. The dispenser begins with the
// option's name and ends with its block.
func Segment(read func(d *caddyfile.Dispenser) error) Option {
	return Option{segment: read}
}

// Block reads the rest of a line, which must be empty, and the block behind it.
// Every error names the option that it is about.
func (o Options) Block(d *caddyfile.Dispenser) error {
	if d.NextArg() {
		return d.Errf("unexpected argument '%s'; options go into a block, one a line", d.Val())
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		option, known := o[name]
		if len(o) == 0 {
			return d.Errf("unknown option '%s'; there are none", name)
		}
		if !known {
			return d.Errf("unknown option '%s'; known are %s", name, o.names())
		}
		if seen[name] && !option.repeat {
			return d.Errf("duplicate option '%s'", name)
		}
		seen[name] = true
		if err := option.read(d, name, nesting); err != nil {
			return err
		}
	}
	return nil
}

// names lists the options for an error message.
func (o Options) names() string {
	return strings.Join(slices.Sorted(maps.Keys(o)), ", ")
}

// read reads one option, from its name to the end of its line or block.
func (o Option) read(d *caddyfile.Dispenser, name string, nesting int) error {
	if o.noted != nil {
		o.noted()
	}
	if o.segment != nil {
		return o.segment(d.NewFromNextSegment())
	}
	values := d.RemainingArgs()
	switch n := len(values); {
	case n < o.min:
		return d.Errf("option '%s': value is missing", name)
	case o.max == 0 && n > 0:
		return d.Errf("option '%s': takes no value, but has '%s'", name, values[0])
	case o.max == 1 && n > 1:
		return d.Errf("option '%s': takes one value, but has also '%s'", name, values[1])
	case o.max > 0 && n > o.max:
		return d.Errf("option '%s': takes at most %d values, but has also '%s'", name, o.max, values[o.max])
	}
	if err := o.set(values); err != nil {
		return d.Errf("option '%s': %w", name, err)
	}
	last := d.Val()
	if d.NextBlock(nesting+1) || d.Val() != last { // an empty block is just skipped
		return d.Errf("option '%s': takes no block", name)
	}
	return nil
}
