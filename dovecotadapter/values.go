package dovecotadapter

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// parseTime reads a time as Dovecot does: a number and a unit, of which the beginning
// is enough, and seconds without one.
func parseTime(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	i := strings.IndexFunc(text, func(r rune) bool { return !unicode.IsDigit(r) })
	if i < 0 {
		i = len(text)
	}
	unit := strings.ToLower(strings.TrimSpace(text[i:]))
	n, err := strconv.ParseInt(text[:i], 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is no time, such as 2 secs", text)
	}
	if unit == "" {
		return time.Duration(n) * time.Second, nil
	}
	for _, u := range []struct {
		names string
		is    time.Duration
	}{
		{"milliseconds msecs ms", time.Millisecond},
		{"seconds secs", time.Second},
		{"minutes mins", time.Minute},
		{"hours", time.Hour},
		{"days", 24 * time.Hour},
		{"weeks", 7 * 24 * time.Hour},
	} {
		for name := range strings.FieldsSeq(u.names) {
			if strings.HasPrefix(name, unit) && (unit != "m" || u.is == time.Minute) {
				if n > int64(math.MaxInt64/u.is) {
					return 0, fmt.Errorf("%q is too long", text)
				}
				return time.Duration(n) * u.is, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no time, such as 2 secs", text)
}

// parseNetworks reads networks and addresses. What is neither is in bad. IPv4 is so called,
// also where it is written as IPv6.
func parseNetworks(words []string) (networks []netip.Prefix, bad []string) {
	for _, word := range words {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(word); err == nil {
				p, err = a.WithZone("").Prefix(a.BitLen())
			}
		}
		switch {
		case err != nil:
			bad = append(bad, word)
			continue
		case p.Addr().Is4In6() && p.Bits() >= 96:
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		networks = append(networks, p.Masked())
	}
	return networks, bad
}

// texts returns networks as they are written.
func texts(networks []netip.Prefix) (list []string) {
	for _, p := range networks {
		list = append(list, p.String())
	}
	return list
}

// everybody reports whether networks are so much of the internet that nobody means it: a
// quarter of IPv4, or half of those addresses of IPv6 that are given out, which are an
// eighth of all.
func everybody(networks []netip.Prefix) bool {
	var four, six float64
	for i, p := range networks {
		inside := slices.ContainsFunc(networks, func(o netip.Prefix) bool { return o.Bits() < p.Bits() && o.Overlaps(p) })
		switch part := math.Ldexp(1, -p.Bits()); {
		case inside || slices.Contains(networks[:i], p):
		case p.Addr().Is4():
			four += part
		default:
			six += part
		}
	}
	return four >= 1./4 || six >= 1./16
}

// isThisMachine reports whether a host is this machine, by the names that people write.
func isThisMachine(host string) bool {
	return host == "localhost" || host == "127.0.0.1" || host == "::1"
}

// isPort reports whether text is the number of a port.
func isPort(text string) bool {
	n, err := strconv.ParseUint(text, 10, 16)
	return err == nil && n > 0
}

// isWord reports whether text can stand in a configuration as it is: it has nothing
// that Caddy would take for a placeholder.
func isWord(text string) bool {
	return text != "" && !strings.ContainsFunc(text, func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || r == '{' || r == '}'
	})
}
