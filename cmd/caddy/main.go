// Command caddy is a whole Caddy server: Caddy's standard modules, caddy-l4,
// and the IMAP proxy and Dovecot auth listener of this module.
//
// A binary of the same content, built by xcaddy from released versions, comes
// out of xcaddy.sh in the root of this repository.
package main

import (
	_ "time/tzdata"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"

	_ "github.com/caddyserver/caddy/v2/modules/standard"
	_ "github.com/mholt/caddy-l4"

	_ "github.com/caddy-imap/caddy-imap"
)

func main() {
	caddycmd.Main()
}
