# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make deb: the Debian packages are built of the last commit, and lintian has nothing to say but
# what config/debian explains.
set -eu
cd "$(dirname "$0")/../.."
[ -e .git ] || {
	echo "this is not a clone: no make deb"
	exit 0
}
export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0='*'
version=$(sed -n 's/^VERSION := //p' Makefile)
[ "$(dpkg-parsechangelog -l config/debian/changelog -S Version)" = "$version-1" ]
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-debian.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
make -s "O=$T" deb >"$T/log" 2>&1 || {
	tail -20 "$T/log"
	exit 1
}
lintian --allow-root --fail-on error,warning "$T"/debian/*.changes

# The program of the package does what ours does.
dpkg -x "$T"/debian/xnbdbox-server_*.deb "$T/root"
dpkg -x "$T"/debian/xnbdbox-bgctl_*.deb "$T/root"
[ "$("$T/root/usr/sbin/xnbd-server" --version)" = "xnbd-server (xnbdbox) $version" ]
[ "$("$T/root/usr/bin/xnbd-bgctl" --version)" = "xnbd-bgctl (xnbdbox) $version" ]
PATH=$T/root/usr/bin:$T/root/usr/sbin:$PATH sh config/debian/tests/move
