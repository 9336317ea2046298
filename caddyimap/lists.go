package caddyimap

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/caddy-imap/caddy-imap/internal/imapext"
)

// addSpecialUse reads which mailboxes are for a special use.
func (b *Backend) addSpecialUse(values []string) error {
	use := values[0]
	if b.SpecialUse == nil {
		b.SpecialUse = make(map[string][]string)
	}
	if _, twice := b.SpecialUse[use]; twice {
		return fmt.Errorf("%s: named twice; put all its mailboxes into one line", use)
	}
	b.SpecialUse[use] = values[1:]
	return checkSpecialUse(map[string][]string{use: values[1:]})
}

func checkSpecialUse(mailboxes map[string][]string) error {
	used := make(map[string]string)
	for _, use := range slices.Sorted(maps.Keys(mailboxes)) {
		if !slices.Contains(imapext.Uses(), use) {
			return fmt.Errorf("the uses are %s; there is no %s", strings.Join(imapext.Uses(), ", "), use)
		}
		for _, name := range mailboxes[use] {
			if name == "" {
				return fmt.Errorf("%s: the name of a mailbox is empty", use)
			}
			if other := used[name]; other != "" {
				return fmt.Errorf("%s: %s is there already, for %s", use, name, other)
			}
			used[name] = use
		}
	}
	return nil
}

// withoutExtensions makes sure that nothing is set that means nothing without extensions.
func (b *Backend) withoutExtensions() error {
	for _, option := range []struct {
		name string
		set  bool
	}{
		{"idle_interval", b.IdleInterval != 0}, {"append_limit", b.AppendLimit != 0},
		{"special_use", len(b.SpecialUse) > 0}, {"hide_folders", b.HideFolders != ""}, {"report_missing", b.ReportMissing != ""},
		{"mend_copyuid", b.MendCopyUID != ""},
	} {
		if option.set {
			return fmt.Errorf("%s: without extensions it means nothing; remove it, or set extensions", option.name)
		}
	}
	return nil
}

// provisionLists sets up what is told of mailboxes.
func (b *Backend) provisionLists(cfg *imapext.Config) (err error) {
	if err := checkSpecialUse(b.SpecialUse); err != nil {
		return fmt.Errorf("special_use: %w", err)
	}
	if len(b.SpecialUse) > 0 && !imapext.Includes(b.Extensions, "SPECIAL-USE") {
		return errors.New("special_use: without the extension SPECIAL-USE it means nothing; add it to extensions")
	}
	cfg.SpecialUse = b.SpecialUse
	if cfg.HideFolders, err = parseSwitch("hide_folders", b.HideFolders); err != nil {
		return err
	}
	if cfg.ReportMissing, err = parseSwitch("report_missing", b.ReportMissing); err != nil {
		return err
	}
	cfg.MendCopyUID, err = parseSwitch("mend_copyuid", b.MendCopyUID)
	return err
}

func parseSwitch(option, word string) (imapext.Switch, error) {
	switch word {
	case "", "auto":
		return imapext.SwitchAuto, nil
	case "on":
		return imapext.SwitchOn, nil
	case "off":
		return imapext.SwitchOff, nil
	}
	return 0, oneOf(option, word, "auto", "on", "off")
}
