# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make deb: the Debian packages are built of the last commit, or of the tree as it is where there is
# no clone, and lintian has nothing to say but what config/debian explains.
set -eu
cd "$(dirname "$0")/../.."
. tests/clone.sh
version=$(sed -n 's/^VERSION := //p' Makefile)
[ "$(dpkg-parsechangelog -l config/debian/changelog -S Version)" = "$version-1" ]
# An override says why it is one.
for file in config/debian/*.lintian-overrides; do
	! awk '!/^#/ { if (!why) print FILENAME ": " $0; why = 0 } /^#/ { why = 1 }' "$file" | grep . || exit 1
done
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-debian.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
clone "$T/clone"
make -s -C "$T/clone" "O=$T/out" deb >"$T/log" 2>&1 || {
	tail -20 "$T/log"
	exit 1
}
lintian --allow-root --fail-on error,warning "$T"/out/debian/*.changes

# The program of the package does what ours does.
dpkg -x "$T"/out/debian/xnbdbox-server_*.deb "$T/root"
dpkg -x "$T"/out/debian/xnbdbox-bgctl_*.deb "$T/root"
[ "$("$T/root/usr/sbin/xnbd-server" --version)" = "xnbd-server (xnbdbox) $version" ]
[ "$("$T/root/usr/bin/xnbd-bgctl" --version)" = "xnbd-bgctl (xnbdbox) $version" ]
PATH=$T/root/usr/bin:$T/root/usr/sbin:$PATH sh config/debian/tests/move
