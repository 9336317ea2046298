package dovecotadapter

import (
	"fmt"
	"net/netip"
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
				return time.Duration(n) * u.is, nil
			}
		}
	}
	return 0, fmt.Errorf("%q is no time, such as 2 secs", text)
}

// parseNetworks reads networks and addresses. What is neither is in bad.
func parseNetworks(words []string) (networks, bad []string) {
	for _, word := range words {
		if p, err := netip.ParsePrefix(word); err == nil {
			networks = append(networks, p.Masked().String())
		} else if a, err := netip.ParseAddr(word); err == nil {
			networks = append(networks, netip.PrefixFrom(a, a.BitLen()).String())
		} else {
			bad = append(bad, word)
		}
	}
	return networks, bad
}

// everybody are the networks that all addresses are in.
func everybody(network string) bool { return strings.HasSuffix(network, "/0") }

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
