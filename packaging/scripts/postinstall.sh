#!/bin/sh
set -e

if [ "$1" = configure ]; then
	if ! getent group caddy >/dev/null; then
		groupadd --system caddy
	fi
	if ! getent passwd caddy >/dev/null; then
		useradd --system --gid caddy --no-create-home --home-dir /var/lib/caddy \
			--shell /usr/sbin/nologin --comment "Caddy" caddy
	fi
	# "caddy validate" wants it before systemd has made it.
	install -d -m 700 -o caddy -g caddy /var/lib/caddy
	if [ -d /run/systemd/system ]; then
		systemctl daemon-reload
		# One that is stopped stays stopped.
		if [ -n "$2" ]; then
			deb-systemd-invoke try-restart caddy.service || true
		fi
	fi
	# It could serve nobody yet, so it is not started.
	if [ -z "$2" ]; then
		echo "Write your names into /etc/caddy/Caddyfile, then: systemctl enable --now caddy"
	fi
fi
