#!/bin/sh
set -e

if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || true
fi
# Certificates, keys and logs. The user stays: its number must not become that of
# somebody else while files of it may be left.
if [ "$1" = purge ]; then
	rm -rf /var/lib/caddy /var/log/caddy
fi
