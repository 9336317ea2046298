//go:build integration

package integration

// diffReasons are the differences between Dovecot's answers and ours that stay. Each takes
// away from both what differs by a rule.
var diffReasons = []struct {
	name, why string
	apply     func(command string, dovecot, ours map[string]string)
}{}
