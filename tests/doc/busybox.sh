# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The patches of config/busybox are those of the sources. patch(1) and git, as far as they are there, make
# the files of them that "make busybox" copies; config/busybox.sh build, in tests/part.sh, builds BusyBox
# with these.
set -eu
cd "$(dirname "$0")/../.."
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-busybox.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM

mkdir "$T/patches"
config/busybox.sh patches "$T/patches"
diff -r -x '*.tests' config/busybox "$T/patches" || {
	echo "the patches are not those of the sources: make busybox-patches"
	exit 1
}

# tree NAME: with what tells that it is BusyBox.
tree() {
	mkdir -p "$T/$1/networking" "$T/$1/testsuite"
	: >"$T/$1/networking/nbd-client.c"
}
list() {
	(cd "$T/$1" && find . -type f -exec sha256sum {} + -exec stat -c '%n %a' {} + | sort)
}
# same COMMAND...: it applies a patch, from stdin, in a tree.
same() {
	command -v "$1" >/dev/null || return 0
	tree "$1"
	for patch in config/busybox/*.patch; do
		(cd "$T/$1" && GIT_DIR=$T/none "$@") <"$patch"
	done
	list "$1" | diff "$T/list" -
}

tree copied
config/busybox.sh install "$T/copied"
list copied >"$T/list"
same patch -s -p1
same git apply
