package caddyimap

import (
	"net/netip"
	"reflect"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// warnAdmin tells the operator if Caddy's admin endpoint can be reached from other
// machines: who can use it sees who is logged in from where, can end sessions, lift
// what the guard holds, and have all logins sent to a server of his own.
func (a *App) warnAdmin(ctx caddy.Context) {
	listen, remote := adminEndpoints(ctx)
	if listen != "" && isOpen(listen) {
		a.logger.Warn("the admin endpoint can be reached from other machines, and asks for no password: who uses it sees who is logged in "+
			"from where, and can send all logins to a server of his own; let it listen on a unix socket, as with "+
			"admin unix//run/caddy/admin.sock|0600", zap.String("listen", listen))
	}
	if remote != "" {
		a.logger.Warn("the admin endpoint can be used from other machines (admin.remote): who may use all of it sees who is logged in from "+
			"where, and can send all logins to a server of his own; remove it, or name in its access_control the paths and methods that are "+
			"needed, such as GET /metrics", zap.String("listen", remote))
	}
}

// adminEndpoints returns where the configuration has Caddy's admin endpoint listen:
// the one on this machine, and the one for others. They are empty where there is
// none. Caddy gives modules no access to that part of the configuration, and it is
// only looked at; where it is not as in Caddy 2.11, nothing is said.
func adminEndpoints(ctx caddy.Context) (listen, remote string) {
	cfg := reflect.Indirect(reflect.ValueOf(ctx).FieldByName("cfg"))
	if !cfg.IsValid() || cfg.Type() != reflect.TypeFor[caddy.Config]() {
		return "", ""
	}
	listen = caddy.DefaultAdminListen
	admin := reflect.Indirect(cfg.FieldByName("Admin"))
	if !admin.IsValid() {
		return listen, ""
	}
	text := func(of reflect.Value, preset string) string {
		value, err := caddy.NewReplacer().ReplaceOrErr(of.FieldByName("Listen").String(), true, true)
		if err != nil || value == "" {
			return preset
		}
		return value
	}
	if listen = text(admin, listen); admin.FieldByName("Disabled").Bool() {
		listen = ""
	}
	if r := reflect.Indirect(admin.FieldByName("Remote")); r.IsValid() {
		remote = text(r, caddy.DefaultRemoteAdminListen)
	}
	return listen, remote
}

// isOpen says whether an address is on a network, and not on this machine alone.
func isOpen(address string) bool {
	addr, err := caddy.ParseNetworkAddress(address)
	if err != nil || addr.IsUnixNetwork() || addr.IsFdNetwork() || addr.Host == "localhost" {
		return false
	}
	ip, err := netip.ParseAddr(addr.Host)
	return err != nil || !ip.Unmap().IsLoopback()
}
