// Package glue is what the packages with Caddy modules share: reading the
// options of a Caddyfile and templates, the sockets under layer4's connections, the end of
// all connections when the process exits, and the registering of metrics. It is the only package of internal
// that knows Caddy.
package glue
