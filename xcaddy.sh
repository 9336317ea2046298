#!/usr/bin/env bash
# Builds a Caddy server with this checkout in it, the way a site would build one
# from a release, and shows that our modules are there. See --help.
set -euo pipefail

module=github.com/caddy-imap/caddy-imap
wanted=(imap imap.guard.stores.redis layer4.handlers.imap layer4.handlers.dovecot_auth layer4.handlers.dovecot_userdb caddy.adapters.dovecot)

usage() {
	cat <<TEXT
Usage: ./xcaddy.sh [--output FILE] [--with MODULE[@VERSION]]...

Builds Caddy with xcaddy, with caddy-l4 and the IMAP modules of this checkout,
and checks that the new binary lists them:

    ${wanted[*]}

  --output FILE   where the binary goes (default: bin/caddy-xcaddy)
  --with MODULE   one more plugin, such as a DNS provider; may be repeated
  --help          this text

xcaddy itself and the versions of Caddy and caddy-l4 are those of go.mod, so
that a build is the same tomorrow. You do not need a checkout to build your own:

    xcaddy build --with $module
TEXT
}

die() {
	echo "xcaddy.sh: $*" >&2
	exit 1
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
output=$here/bin/caddy-xcaddy
extra=()
while [ $# -gt 0 ]; do
	case $1 in
	--output | --with)
		[ $# -ge 2 ] || die "$1 needs a value; see --help"
		if [ "$1" = --with ]; then extra+=(--with "$2"); else output=$2; fi
		shift 2
		;;
	--help | -h)
		usage
		exit 0
		;;
	*) die "unknown argument $1; see --help" ;;
	esac
done
case $output in
/*) ;;
*) output=$PWD/$output ;;
esac

cd "$here"
command -v go >/dev/null || die "the Go tool chain is missing: https://go.dev/dl"
version() { go list -m -f '{{.Version}}' "$1"; }
caddy=$(version github.com/caddyserver/caddy/v2)
layer4=$(version github.com/mholt/caddy-l4)
echo "== Building Caddy $caddy with caddy-l4 $layer4 and this checkout"

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
# Built from this module, because "go install xcaddy@version" asks the module
# proxy for more than the exact versions that some mirrors hold.
go build -o "$work/xcaddy" github.com/caddyserver/xcaddy/cmd/xcaddy
mkdir -p "$(dirname "$output")"
"$work/xcaddy" build "$caddy" --output "$output" \
	--with "github.com/mholt/caddy-l4@$layer4" \
	--with "$module@v0.0.0=$here" \
	"${extra[@]+"${extra[@]}"}"

echo "== Modules of $output"
"$output" list-modules >"$work/modules"
missing=()
for id in "${wanted[@]}"; do
	if grep -qxF "$id" "$work/modules"; then
		echo "$id"
	else
		missing+=("$id")
	fi
done
[ ${#missing[@]} -eq 0 ] || die "not among the modules of $output: ${missing[*]}"
