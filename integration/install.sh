#!/usr/bin/env bash
# Sees to the programs that the integration tests drive. As root on a Debian
# machine it installs what is missing; elsewhere it says what will be left out.
# With CI=true nothing may be left out, so then it fails instead.
set -euo pipefail

# program, file or Perl module : package : what it is for
wanted=(
	"dovecot:dovecot-core:the backend of all tests"
	"/usr/lib/dovecot/imap:dovecot-imapd:the backend of all tests"
	"postfix:postfix:SMTP AUTH through our auth listener"
	"swaks:swaks:SMTP AUTH through our auth listener"
	"Net--SSLeay:libnet-ssleay-perl:SMTP AUTH under STARTTLS, by swaks"
	"redis-server:redis-server:instances that count wrong passwords together"
	"redis-cli:redis-tools:instances that count wrong passwords together"
	"curl:curl:IMAP as curl speaks it"
	"gsasl:gsasl:logins with SCRAM and others, by the IMAP and SMTP of GNU SASL"
	"mbsync:isync:logins with SCRAM and others, by Cyrus SASL"
	"/usr/lib/*/sasl2/libscram.so:libsasl2-modules:SCRAM in Cyrus SASL"
	"krb5kdc:krb5-kdc:logins with GSSAPI"
	"kadmin.local:krb5-admin-server:logins with GSSAPI"
	"kinit:krb5-user:logins with GSSAPI"
	"/usr/lib/dovecot/modules/auth/libmech_gssapi.so:dovecot-gssapi:logins with GSSAPI"
	"/usr/lib/*/sasl2/libgssapiv2.so:libsasl2-modules-gssapi-mit:logins with GSSAPI"
	"ntlm_auth:winbind:logins with NTLM"
	"neomutt:neomutt:what is answered in place of the backend"
	"node:nodejs:imapflow, for what is answered in place of the backend"
	"npm:npm:imapflow, for what is answered in place of the backend"
	"script:bsdutils:a terminal for neomutt"
	"python3:python3:logins with tokens and others, by Python's imaplib and smtplib"
	"openssl:openssl:the dialogue of the README"
	"fail2ban-regex:fail2ban:the filter for fail2ban"
	"debootstrap:debootstrap:a clean machine to install the package in"
	"systemd-nspawn:systemd-container:systemd in that machine"
	"nsenter:util-linux:systemd in that machine"
	"buildah:buildah:the image that packaging/Dockerfile makes"
	"promtool:prometheus:the alerts and the dashboard, and what is scraped"
)

export PATH=$PATH:/usr/sbin:/sbin
missing=()
has() {
	case $1 in
	/*) compgen -G "$1" >/dev/null ;;
	*--*) perl -M"${1/--/::}" -e 1 2>/dev/null ;;
	*) command -v "$1" >/dev/null ;;
	esac
}
look() {
	missing=()
	local entry
	for entry in "${wanted[@]}"; do
		has "${entry%%:*}" || missing+=("$entry")
	done
}
packages() { printf '%s\n' "${missing[@]}" | cut -d: -f2 | sort -u | tr '\n' ' '; }

look
[ ${#missing[@]} -gt 0 ] || exit 0

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	echo "installing what the integration tests need: $(packages)"
	export DEBIAN_FRONTEND=noninteractive
	apt="apt-get -q -o DPkg::Lock::Timeout=300"
	log=$(mktemp)
	# The packages would start their daemons; ours are private instances.
	policy=/usr/sbin/policy-rc.d
	if [ -e "$policy" ]; then
		trap 'rm -f "$log"' EXIT
	else
		trap 'rm -f "$log" "$policy"' EXIT
		printf '#!/bin/sh\nexit 101\n' >"$policy"
		chmod +x "$policy"
	fi
	# Postfix would ask what kind of mail system this is.
	if ! {
		echo 'postfix postfix/main_mailer_type select No configuration' | debconf-set-selections &&
			$apt update && $apt install -y --no-install-recommends $(packages)
	} >"$log" 2>&1; then
		cat "$log" >&2
		echo "apt-get failed, see above" >&2
	fi
	look
	[ ${#missing[@]} -gt 0 ] || exit 0
fi

if [ "${CI:-}" = true ]; then
	echo "with CI=true no test may be left out, but these are missing: $(packages)" >&2
	exit 1
fi
echo "These tests will be left out, because root and apt-get are needed to install what they drive:"
for entry in "${missing[@]}"; do
	IFS=: read -r _ package purpose <<<"$entry"
	printf '    %-20s %s\n' "$package" "$purpose"
done
