// Package caddyimap puts Caddy in front of IMAP servers, and lets mail servers ask
// it about passwords. Importing it adds all modules to a Caddy server:
//
//   - the app imap, with backends and host names, in package caddyimap;
//   - the layer4 handler imap, which serves IMAP clients, in package caddyimap;
//   - the layer4 handlers dovecot_auth and dovecot_userdb, which serve Postfix and
//     other mail servers, in package caddysasl;
//   - the commands imap-proxy and imap-check, in package imapcmd;
//   - the config adapter dovecot, for those who come from Dovecot, in package
//     dovecotadapter;
//   - the guard's store redis, in package imapredis;
//   - the network kept, for listeners that outlive configurations, in package keptnet;
//   - all modules of caddy-l4.
//
// A server with it is built by
//
//	xcaddy build --with github.com/caddy-imap/caddy-imap
package caddyimap

import (
	// All of caddy-l4, so that proxy_protocol, matchers and the like are there.
	_ "github.com/mholt/caddy-l4"

	_ "github.com/caddy-imap/caddy-imap/caddyimap"
	_ "github.com/caddy-imap/caddy-imap/caddysasl"
	_ "github.com/caddy-imap/caddy-imap/dovecotadapter"
	_ "github.com/caddy-imap/caddy-imap/imapcmd"
	_ "github.com/caddy-imap/caddy-imap/imapredis"
	_ "github.com/caddy-imap/caddy-imap/keptnet"
)
