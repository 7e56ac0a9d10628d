# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make dist: the same bytes each time, and the program that is built of them is that of the clone.
set -eu
cd "$(dirname "$0")/../.."
. tests/clone.sh
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-release.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
clone "$T/first"
cd "$T/first"
# Each source names its licence and its authors.
# tests/unit/vectors has numbers of others, and says so.
for line in 'SPDX-License-Identifier: GPL-2.0-or-later' 'Copyright (C) [0-9]* the xnbdbox authors'; do
	! git grep -L "$line" -- '*.c' '*.h' '*.sh' '*.py' '*.tests' '*.mk' Makefile Kconfig man config/generate ':!tests/unit/vectors' || exit 1
done

version=$(git show HEAD:Makefile | sed -n 's/^VERSION := //p')
tarball=xnbdbox-$version.tar.gz

make -s "O=$T" dist 2>"$T/log"
git clone -q "$T/first" "$T/clone"
(
	umask 077
	cd "$T/clone"
	find . -name .git -prune -o -exec touch -d yesterday {} +
	TZ=Asia/Tokyo make -s dist
	cd build
	sha256sum -c "$tarball.sha256"
)
cmp "$T/$tarball" "$T/clone/build/$tarball"
cmp "$T/$tarball.sha256" "$T/clone/build/$tarball.sha256"

cd "$T"
tar -xf "$tarball"
! ls "xnbdbox-$version/.ci" 2>/dev/null || exit 1
for dir in clone "xnbdbox-$version"; do
	make -s -C "$dir" bgctl-min_defconfig >log
	make -s -j2 -C "$dir"
done
cmp clone/build/xnbdbox "xnbdbox-$version/build/xnbdbox"
[ "$(clone/build/xnbdbox --version)" = "xnbd-bgctl (xnbdbox) $version" ]
! make -s -C "xnbdbox-$version" dist 2>"$T/log" || exit 1
grep -x 'make dist: this is not a clone' "$T/log"
