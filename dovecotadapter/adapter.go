// Package dovecotadapter has a config adapter for those who come from Dovecot:
//
//	caddy run --config /etc/dovecot/dovecot.conf --adapter dovecot
//
// It reads the configuration of a Dovecot 2.3 or 2.4 that is a proxy, with imapc or
// with the field proxy, and makes of it what a Caddyfile would. What the files
// mean is read by internal/dovecotconf; here is what becomes of it.
//
// No line is passed over in silence. Each is either carried over, or a warning names
// it and says what to do, or why it is not needed. What would make the proxy less
// safe than a Caddyfile's defaults is made safe, and warned about. What keeps
// people out and cannot be carried over is an error, but for the characters in names and
// what slows guessing down.
package dovecotadapter

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"

	"github.com/caddy-imap/caddy-imap/internal/dovecotconf"
)

func init() {
	caddyconfig.RegisterAdapter("dovecot", Adapter{})
}

// Adapter adapts dovecot.conf to Caddy's JSON.
type Adapter struct{}

// defaultName stands for the file in messages if it has no name. Files that it includes
// are then looked for in the working directory.
const defaultName = "dovecot.conf"

// Adapt converts the configuration in body. The option filename says where it is, for
// the files that it includes and for warnings.
func (Adapter) Adapt(body []byte, options map[string]any) ([]byte, []caddyconfig.Warning, error) {
	name, _ := options["filename"].(string)
	if name == "" {
		name = defaultName
	}
	t, config, err := translate(name, body)
	if err != nil {
		return nil, nil, err
	}
	result, err := json.Marshal(config)
	if err != nil {
		return nil, nil, fmt.Errorf("encoding the configuration: %w", err)
	}
	return result, t.sortedWarnings(), nil
}

// translate does the work, and returns what was noted of each line, too.
func translate(name string, body []byte) (*translation, *caddy.Config, error) {
	conf, err := dovecotconf.Parse(name, body)
	if err != nil {
		return nil, nil, err
	}
	t := newTranslation(name, conf)
	t.collect(conf.Nodes, 0)
	config := t.config()
	t.finish()
	if err := errors.Join(t.refused...); err != nil {
		return nil, nil, err
	}
	return t, config, nil
}

// Interface guard.
var _ caddyconfig.Adapter = Adapter{}
