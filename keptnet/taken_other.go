//go:build !linux

package keptnet

import "github.com/caddyserver/caddy/v2"

// checkFree finds nothing: what listens at an address, and in which process, can be
// told on Linux alone.
func checkFree(caddy.NetworkAddress) error { return nil }
