package login

import "strings"

// Tells says whether the names that a template makes of those of another show all that
// there is in them, so that no two of those become one.
func (t *Template) Tells(of *Template) bool {
	placeholder, alone := t.alone()
	switch {
	case alone && placeholder == placeholderUser:
		return true
	case alone && placeholder == placeholderLocal:
		// All of the others have the same domain, which is all behind their last @.
		return len(of.pieces) == 2 && of.pieces[0] == (piece{placeholder: placeholderLocal}) &&
			of.pieces[1].placeholder == "" && strings.LastIndexByte(of.pieces[1].text, '@') == 0
	}
	return false
}

// TellsCertified is Tells for the names that are made of certificates.
func (t *Template) TellsCertified(of *CertificateTemplate) bool {
	placeholder, alone := t.alone()
	switch {
	case alone && placeholder == placeholderUser:
		return true
	case alone && placeholder == placeholderLocal:
		return of.sameDomain()
	}
	return false
}

// sameDomain says whether what SplitUser takes for the domain is the same in all names.
// What a certificate has is in one piece there: but for addresses, and a common name that
// is the whole name, it has no separator.
func (t *CertificateTemplate) sameDomain() bool {
	var b strings.Builder
	for _, p := range t.pieces {
		b.WriteString(p.text)
		switch p.placeholder {
		case "":
		case placeholderEmail:
			b.WriteString("{}@{}")
		case placeholderCommonName:
			if len(t.pieces) == 1 && p.text == "" {
				return false
			}
			b.WriteString("{}")
		default:
			b.WriteString("{}")
		}
	}
	_, domain := SplitUser(b.String())
	return !strings.Contains(domain, "{}")
}

// alone returns the only placeholder, if there is only one.
func (t *Template) alone() (placeholder string, ok bool) {
	for _, p := range t.pieces {
		if p.placeholder != "" && placeholder != "" {
			return "", false
		}
		if p.placeholder != "" {
			placeholder = p.placeholder
		}
	}
	return placeholder, placeholder != ""
}
