package login

import (
	"fmt"
	"slices"
	"strings"
)

// ParseMechanisms reads the names of SASL mechanisms, in any case, and returns
// them in upper case and in their order. None means all of Mechanisms. An unknown
// name, and one that is there twice, is an error.
func ParseMechanisms(names []string) ([]string, error) {
	if len(names) == 0 {
		return slices.Clone(Mechanisms), nil
	}
	mechanisms := make([]string, 0, len(names))
	for _, name := range names {
		m := strings.ToUpper(name)
		switch {
		case !slices.Contains(Mechanisms, m):
			return nil, fmt.Errorf("%q: %w; known are %s", name, ErrMechanism, strings.Join(Mechanisms, " and "))
		case slices.Contains(mechanisms, m):
			return nil, fmt.Errorf("%q: named twice", name)
		}
		mechanisms = append(mechanisms, m)
	}
	return mechanisms, nil
}
