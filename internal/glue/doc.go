// Package glue is what the packages with Caddy modules share: reading the
// options of a Caddyfile, the sockets under layer4's connections, and the end of
// all connections when the process exits. It is the only package of internal
// that knows Caddy.
package glue
