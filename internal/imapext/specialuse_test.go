package imapext

import (
	"slices"
	"strings"
	"testing"
)

// exchange are the capabilities of an Exchange 2019 after login.
const exchange = "IMAP4 IMAP4rev1 AUTH=PLAIN AUTH=NTLM AUTH=GSSAPI SASL-IR UIDPLUS MOVE ID UNSELECT CLIENTNETWORKPRESENCELOCATION CHILDREN IDLE NAMESPACE LITERAL+"

// exchangeStore is a German mailbox of an Exchange, some folders of which a user has made
// that are called as Exchange's are in English.
func exchangeStore() *store {
	leaf, root := `\HasNoChildren`, `\HasChildren`
	return &store{
		caps: exchange, delim: "/", bare: true,
		folders: map[string]string{
			"INBOX": `\Marked ` + root, "INBOX/Entw&APw-rfe": leaf, "Gesendete Elemente": leaf, "Gel&APY-schte Elemente": leaf, "Entw&APw-rfe": leaf,
			"Junk-E-Mail": leaf, "Archive": leaf, "Postausgang": leaf, "Kalender": root, "Kalender/Geburtstage": leaf, "Kontakte": leaf, "Aufgaben": leaf,
			"Notizen": leaf, "Journal": leaf, "Notes": leaf, "Sent": leaf, "\u00d6ffentlich": `\Noselect ` + leaf, "Team": `\Noselect ` + root, "Team/a": leaf,
		},
		subscribed: []string{"INBOX", "Kalender", "Kalender/Geburtstage", "Entw&APw-rfe"},
	}
}

// mailboxes returns the mailboxes in an answer, with their special uses.
func mailboxes(lines []string) string {
	var out []string
	for _, line := range lines[:len(lines)-1] {
		_, _, s := untagged([]byte(line))
		f, ok := readFolder(&s)
		if !ok {
			out = append(out, line)
			continue
		}
		name := f.key
		for _, attr := range f.attrs {
			if isUse(attr) {
				name += attr
			}
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

func TestSpecialUse(t *testing.T) {
	all := `Archive\Archive,Entwürfe\Drafts,Gelöschte Elemente\Trash,Gesendete Elemente\Sent,INBOX,INBOX/Entwürfe,Junk-E-Mail\Junk,Notes,Postausgang,Sent,Team,Team/a`
	c := session(t, &Config{Names: []string{Auto}}, exchange, exchangeStore().play)
	for command, want := range map[string]string{
		`LIST "" *`:                          all,
		`LIST "" * RETURN (SPECIAL-USE)`:     all,
		`LIST "" %`:                          strings.NewReplacer(",INBOX/Entwürfe", "", ",Team/a", "").Replace(all),
		`LIST (SPECIAL-USE) "" *`:            `Archive\Archive,Entwürfe\Drafts,Gelöschte Elemente\Trash,Gesendete Elemente\Sent,Junk-E-Mail\Junk`,
		`LIST () "" *`:                       strings.NewReplacer(`\Archive`, "", `\Drafts`, "", `\Trash`, "", `\Sent`, "", `\Junk`, "").Replace(all),
		`LIST "" Gesendete*`:                 `Gesendete Elemente\Sent`,
		`LIST "" "Gel&APY-schte Elemente"`:   `Gelöschte Elemente\Trash`,
		`LIST "" Kalender/%`:                 ``,
		`LIST "" Team`:                       `Team`,
		`LSUB "" *`:                          `INBOX,Entwürfe`,
		`LIST (SUBSCRIBED) "" *`:             `Entwürfe,INBOX`,
		`LIST (SUBSCRIBED SPECIAL-USE) "" *`: `Entwürfe\Drafts`,
	} {
		got := mailboxes(c.ask(command))
		if parts := strings.Split(want, ","); len(parts) == 2 {
			slices.Sort(parts)
			want = strings.Join(parts, ",")
		}
		if got != want {
			t.Errorf("%s\n got %s\nwant %s", command, got, want)
		}
	}
	// What the configuration names counts for more, and folders may be shown.
	c = session(t, &Config{Names: []string{Auto}, HideFolders: SwitchOff, SpecialUse: map[string][]string{`\Drafts`: {"INBOX/Entwürfe"}, `\All`: {"Team/a"}, `\Sent`: nil}}, exchange, exchangeStore().play)
	if got, want := mailboxes(c.ask(`LIST (SPECIAL-USE) "" *`)), `Archive\Archive,Gelöschte Elemente\Trash,INBOX/Entwürfe\Drafts,Junk-E-Mail\Junk,Team/a\All`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := mailboxes(c.ask(`LIST "" *`)); !strings.Contains(got, "Kalender/Geburtstage") || !strings.Contains(got, "Öffentlich") {
		t.Errorf("got %s", got)
	}
}

// TestOwnNames has folders left alone whose names prove nothing.
func TestOwnNames(t *testing.T) {
	st := &store{caps: exchange, delim: "/", folders: map[string]string{
		"INBOX": "", "Gesendete Elemente": "", "Entw&APw-rfe": "", "Kontakte": "", "Aufgaben": "", "Calendar": "", "Bozze": "", "Sent Items": "",
	}}
	c := session(t, &Config{Names: []string{Auto}}, exchange, st.play)
	// There is no calendar by the mailbox's language, and drafts are by that.
	if got, want := mailboxes(c.ask(`LIST "" *`)), `Aufgaben,Bozze,Calendar,Entwürfe\Drafts,Gesendete Elemente\Sent,INBOX,Kontakte,Sent Items`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if (&Config{Names: []string{"SORT"}}).Offer(strings.Fields(exchange)).hide {
		t.Error("folders are hidden without being asked")
	}
	if (&Config{Names: []string{Auto}}).Offer([]string{"IMAP4rev1"}).hide {
		t.Error("folders of any server are hidden")
	}
	if !(&Config{HideFolders: SwitchOn}).Offer([]string{"IMAP4rev1"}).hide {
		t.Error("folders are not hidden")
	}
}

// TestLanguages looks for faults in the table.
func TestLanguages(t *testing.T) {
	tags := make(map[string]bool)
	for i := range languages {
		l := &languages[i]
		if tags[l.tag] {
			t.Errorf("%s is there twice", l.tag)
		}
		tags[l.tag] = true
		seen := make(map[string]kind)
		for k, names := range l.names {
			if len(names) == 0 && l.tag != "other" {
				t.Errorf("%s has no name for kind %d", l.tag, k)
			}
			for _, name := range names {
				if name != strings.TrimSpace(name) || name == "" {
					t.Errorf("%s has %q", l.tag, name)
				}
				if old, double := seen[strings.ToLower(name)]; double {
					t.Errorf("%s has %s for kinds %d and %d", l.tag, name, old, k)
				}
				seen[strings.ToLower(name)] = kind(k)
			}
		}
		// A mailbox with the first names of a language is known for it.
		top := make(map[string]*folder)
		for k := range l.names {
			if len(l.names[k]) > 0 {
				name := l.names[k][0]
				top[strings.ToLower(name)] = &folder{name: name, key: name}
			}
		}
		lang := languageOf(top)
		if lang == nil {
			t.Errorf("%s is not known", l.tag)
			continue
		}
		for k := range useOf {
			if f := lang.pick(top, kind(k)); f == nil || f.name != l.names[k][0] {
				t.Errorf("%s: kind %d is %v", l.tag, k, f)
			}
		}
	}
	if len(tags) < 40 {
		t.Errorf("there are %d languages", len(tags))
	}
}
