package dovecotadapter

import (
	"fmt"
	"slices"
	"strings"
)

const (
	wholeUser = "{imap.user}"
	localUser = "{imap.user.local}"
	domain    = "{imap.user.domain}"
)

// template is what becomes of a value with Dovecot's variables in it.
type template struct {
	text string
	// users is how many placeholders there are in it.
	users int
	// cased says that Dovecot changes the case of the name.
	cased bool
}

// parseTemplate reads a value such as %n@example.com, %Lu, %{user} or
// %{user | username | lower}.
func parseTemplate(value string) (t template, err error) {
	var b strings.Builder
	for rest := value; rest != ""; {
		before, after, found := strings.Cut(rest, "%")
		if strings.ContainsAny(before, "{}") {
			return t, fmt.Errorf("a name with braces in it cannot be carried over")
		}
		b.WriteString(before)
		if !found {
			break
		}
		if after, found = strings.CutPrefix(after, "%"); found {
			b.WriteByte('%')
			rest = after
			continue
		}
		var name string
		if name, rest, err = cutVariable(after, &t); err != nil {
			return t, err
		}
		b.WriteString(name)
		t.users++
	}
	t.text = b.String()
	return t, nil
}

// cutVariable reads a variable behind its %, and returns the placeholder for it.
func cutVariable(text string, t *template) (placeholder, rest string, err error) {
	i := strings.IndexFunc(text, func(r rune) bool { return r != 'L' && r != 'U' })
	if i < 0 {
		return "", "", fmt.Errorf("%%%s is no variable", text)
	}
	t.cased = t.cased || i > 0
	modifiers, text := text[:i], text[i:]
	if inside, found := strings.CutPrefix(text, "{"); found {
		inside, rest, found = strings.Cut(inside, "}")
		if !found {
			return "", "", fmt.Errorf("%%%s has no }", text)
		}
		placeholder, err = variable(inside, t)
		return placeholder, rest, err
	}
	switch text[0] {
	case 'u':
		placeholder = wholeUser
	case 'n':
		placeholder = localUser
	case 'd':
		placeholder = domain
	default:
		return "", "", fmt.Errorf("%%%s%c is none of the variables that have an equal: %%u, %%n, %%d", modifiers, text[0])
	}
	return placeholder, text[1:], nil
}

// variable returns the placeholder for a variable in braces, which may have filters
// behind it.
func variable(inside string, t *template) (string, error) {
	parts := strings.Split(inside, "|")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	var placeholder string
	switch parts[0] {
	case "user", "orig_user", "login_user", "auth_user", "original_user", "owner_user":
		placeholder = wholeUser
	case "username", "orig_username", "login_username", "auth_username", "owner_username":
		placeholder = localUser
	case "domain", "orig_domain", "login_domain", "auth_domain", "owner_domain":
		placeholder = domain
	}
	for _, filter := range parts[1:] {
		switch {
		case filter == "lower" || filter == "upper":
			t.cased = true
		case filter == "username" && placeholder == wholeUser:
			placeholder = localUser
		case filter == "domain" && placeholder == wholeUser:
			placeholder = domain
		default:
			placeholder = ""
		}
	}
	if placeholder == "" {
		return "", fmt.Errorf("%%{%s} is none of the variables that have an equal: %%{user}, %%{user|username}, %%{user|domain}", inside)
	}
	return placeholder, nil
}

// usesDomain says whether the domain that a user types has an influence.
func (t template) usesDomain() bool {
	return strings.Contains(t.text, wholeUser) || strings.Contains(t.text, domain)
}

// isPassword reports whether a value is the password that the user typed.
func isPassword(value string) bool {
	value = strings.ReplaceAll(value, " ", "")
	return slices.Contains([]string{"%w", "%{password}", "%{pass}"}, value)
}
