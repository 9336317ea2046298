#!/usr/bin/env bash
# Makes the Debian package of a Caddy that has been built. See --help.
set -euo pipefail

usage() {
	cat <<TEXT
Usage: packaging/deb.sh --caddy FILE [--version VERSION] [--output DIR]

Makes a Debian package of the Caddy in FILE, which was built from this checkout
for this machine, with its man pages, systemd units and documentation.

  --caddy FILE       such as bin/caddy
  --version VERSION  default: that of the last tag, or, if there is none, 0.0.0+git with
                     the time of the last commit and its hash
  --output DIR       default: bin
  --help             this text
TEXT
}

die() {
	echo "deb.sh: $*" >&2
	exit 1
}

here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
caddy='' version='' output=$here/bin
while [ $# -gt 0 ]; do
	case $1 in
	--caddy | --version | --output)
		[ $# -ge 2 ] || die "$1 needs a value; see --help"
		case $1 in
		--caddy) caddy=$2 ;;
		--version) version=$2 ;;
		--output) output=$2 ;;
		esac
		shift 2
		;;
	-h | --help)
		usage
		exit
		;;
	*) die "$1 is not an option; see --help" ;;
	esac
done
[ -n "$caddy" ] || die "--caddy is missing; see --help"
if [ -z "$version" ]; then
	# A Debian version begins with a digit.
	version=$(git -C "$here" describe --tags 2>/dev/null | sed 's/^v//') || true
	# Without a tag, an upgrade must still be one: the time counts up.
	commit=$(TZ=UTC git -C "$here" log -1 --date=format-local:%Y%m%d%H%M --format=%cd.%h 2>/dev/null) || true
	version=${version:-0.0.0${commit:++git$commit}}
fi

mkdir -p "$output"
output=$(cd "$output" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
CADDY=$(realpath "$caddy")
GENERATED=$work
VERSION=$version
ARCH=$(go env GOARCH)
export CADDY GENERATED VERSION ARCH

# Caddy writes into its home when it starts.
HOME=$work "$CADDY" manpage --directory "$work/man"
# Without the time of day, so that the same checkout makes the same files.
gzip -9n "$work"/man/*.8
HOME=$work "$CADDY" completion bash >"$work/completion"

go build -C "$here/integration/tools" -o "$work/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm
cd "$here"
"$work/nfpm" package --config packaging/nfpm.yaml --packager deb --target "$output/"
