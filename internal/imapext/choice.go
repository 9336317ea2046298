package imapext

import (
	"fmt"
	"slices"
	"strings"
)

// Auto is the name for all extensions but those that have to be named.
const Auto = "auto"

// Known returns the names of all extensions, in alphabetical order.
func Known() []string {
	names := make([]string, len(features))
	for i, f := range features {
		names[i] = f.name
	}
	slices.Sort(names)
	return names
}

// Automatic returns the names of those that "auto" stands for, in alphabetical order.
func Automatic() []string {
	return slices.DeleteFunc(Known(), func(name string) bool { return featureOf(name).byName })
}

// Check says whether extensions can be chosen by these names.
func Check(names []string) error {
	auto := slices.Contains(names, Auto)
	for i, name := range names {
		chosen, without := strings.CutPrefix(name, "-")
		f := featureOf(chosen)
		switch {
		case slices.ContainsFunc(names[:i], func(n string) bool { return strings.EqualFold(strings.TrimPrefix(n, "-"), chosen) }):
			return fmt.Errorf("%s: named twice", name)
		case name == Auto:
		case f == nil:
			return fmt.Errorf("the extensions are %s; there is no %s", strings.Join(Known(), ", "), chosen)
		case without && !auto:
			return fmt.Errorf("%s: only of auto something can be left out; leave out the name", name)
		case without && f.byName:
			return fmt.Errorf("%s: auto does not have it; leave out the name", name)
		case !without && auto && !f.byName:
			return fmt.Errorf("%s: auto has it already; leave out the name, or auto", name)
		}
	}
	return nil
}

// Includes says whether an extension is among those that are chosen by names.
func Includes(names []string, extension string) bool {
	f := featureOf(extension)
	return f != nil && f.isAmong(names)
}

func (f *feature) isAmong(names []string) bool {
	is := func(prefix string) bool {
		return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, prefix+f.name) })
	}
	return is("") || !f.byName && slices.Contains(names, Auto) && !is("-")
}

// featureOf returns the extension of a name; nil if there is none.
func featureOf(name string) *feature {
	for _, f := range features {
		if strings.EqualFold(f.name, name) {
			return f
		}
	}
	return nil
}
