package imapcmd

import (
	"context"
	"encoding/json"
	"strconv"

	"github.com/caddyserver/caddy/v2"
)

// ours are the names of our modules' loggers.
var ours = []string{"imap", "layer4.handlers.imap", "layer4.handlers.dovecot_auth"}

// config is what the flags stand for.
func (o *options) config() *caddy.Config {
	persist := false
	cfg := &caddy.Config{
		Admin: &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &persist}},
		AppsRaw: caddy.ModuleMap{
			"imap":   object(o.app()),
			"layer4": object(map[string]any{"servers": o.servers()}),
			// Nobody asked for a new authority that this machine trusts.
			"pki": object(map[string]any{
				"certificate_authorities": map[string]any{"local": map[string]any{"install_trust": false}},
			}),
		},
	}
	switch {
	case o.debug:
		cfg.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
			"default": {BaseLog: caddy.BaseLog{Level: "DEBUG"}},
		}}
	case o.demo:
		// What our own modules say is a part of the demo.
		cfg.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{
			"default": {BaseLog: caddy.BaseLog{Level: "WARN"}, Exclude: ours},
			"demo":    {BaseLog: caddy.BaseLog{Level: "INFO"}, Include: ours},
		}}
	}
	return cfg
}

// app is the configuration of the imap app.
func (o *options) app() map[string]any {
	upstreams := make([]any, 0, len(o.upstreams))
	for _, addr := range o.upstreams {
		upstreams = append(upstreams, map[string]any{"dial": addr})
	}
	backend := map[string]any{"upstreams": upstreams, "tls_mode": o.tlsMode}
	tls := make(map[string]any)
	if o.serverName != "" {
		tls["server_name"] = o.serverName
	}
	if o.trustPool != "" {
		tls["ca"] = map[string]any{"provider": "file", "pem_files": []string{o.trustPool}}
	}
	if len(tls) > 0 {
		backend["tls"] = tls
	}
	return map[string]any{
		"hostnames": o.hostnames,
		"backends":  map[string]any{"default": backend},
	}
}

// servers are the listeners of layer4.
func (o *options) servers() map[string]any {
	servers := make(map[string]any)
	add := func(addr string, handler map[string]any) {
		if addr == "" {
			return
		}
		servers["srv"+strconv.Itoa(len(servers))] = map[string]any{
			"listen": []string{addr},
			"routes": []any{map[string]any{"handle": []any{handler}}},
		}
	}
	add(o.imap, map[string]any{"handler": "imap"})
	add(o.imaps, map[string]any{"handler": "imap", "implicit_tls": true})
	add(o.auth, map[string]any{"handler": "dovecot_auth"})
	return servers
}

// object is what json.Marshal makes of maps, lists and texts, which it cannot
// fail at.
func object(v map[string]any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// onExit has the function called when the process ends in an orderly way.
func onExit(f func()) { caddy.OnExit(func(context.Context) { f() }) }
