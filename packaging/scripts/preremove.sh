#!/bin/sh
set -e

if [ "$1" = remove ]; then
	if [ -d /run/systemd/system ]; then
		deb-systemd-invoke stop caddy.socket caddy.service || true
	fi
	# Works on the files, also where no systemd runs.
	if command -v systemctl >/dev/null; then
		systemctl --no-reload disable caddy.socket caddy.service || true
	fi
fi
