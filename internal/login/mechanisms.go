package login

import (
	"fmt"
	"slices"
	"strings"
)

// ParseMechanisms reads the names of SASL mechanisms, in any case, and returns
// them in upper case and in their order. None means all of Mechanisms. A name that
// is not in Mechanisms or relayed, and one that is there twice, is an error.
func ParseMechanisms(names, relayed []string) ([]string, error) {
	if len(names) == 0 {
		return slices.Clone(Mechanisms), nil
	}
	known := slices.Concat(Mechanisms, relayed)
	mechanisms := make([]string, 0, len(names))
	for _, name := range names {
		m := strings.ToUpper(name)
		switch {
		case !slices.Contains(known, m):
			return nil, fmt.Errorf("%q: %w; known are %s", name, ErrMechanism, enumerate(known))
		case slices.Contains(mechanisms, m):
			return nil, fmt.Errorf("%q: named twice", name)
		}
		mechanisms = append(mechanisms, m)
	}
	return mechanisms, nil
}

// enumerate lists words, of which there is more than one.
func enumerate(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " and " + words[last]
}
