# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The build as packagers need it: O=, another compiler or flags, EXTRA_*, STRIP=, install,
# and the same bytes wherever it is done.
set -eu
cd "$(dirname "$0")/../.."
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-build.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
mkdir "$T/source"
cp -r applet config Kconfig Makefile man "$T/source"

# says TEXT COMMAND...: its stdout is that, without the last end of line.
says() {
	text=$1
	shift
	out=$("$@") || {
		echo "failed: $*"
		exit 1
	}
	[ "$out" = "$text" ] || {
		printf '%s\nprinted: %s\ninstead of: %s\n' "$*" "$out" "$text"
		exit 1
	}
}

# build ARGUMENT...: in $T/out
build() {
	make -s -j2 -C "$T/source" "O=$T/out" "$@"
}

tree() {
	(cd "$T/source" && find . -type f -exec sha256sum {} + | sort)
}
tree >"$T/before"

# ---- O= ---------------------------------------------------------------------------
build bgctl-min_defconfig >"$T/log"
build
says xnbdbox readlink "$T/out/xnbd-bgctl"
make -s -C "$T/source" O=../relative bgctl-min_defconfig >"$T/log"
make -s -C "$T/source" O=../relative CFLAGS=-Os
cmp -s "$T/relative/xnbdbox" "$T/out/xnbdbox" && exit 1
# An empty O is none.
cp -r "$T/source" "$T/again"
make -s -C "$T/again" O= bgctl-min_defconfig >"$T/log"
make -s -C "$T/again" O= CFLAGS=-Os
cmp "$T/relative/xnbdbox" "$T/again/build/xnbdbox"

# ---- what it is built with ----------------------------------------------------------
built=$(stat -c %y "$T/out/xnbdbox")
build WERROR=-Werror
says "$built" stat -c %y "$T/out/xnbdbox"
build CFLAGS=-Os
cmp "$T/relative/xnbdbox" "$T/out/xnbdbox"
build CC=clang
cmp -s "$T/relative/xnbdbox" "$T/out/xnbdbox" && exit 1

has_section() {
	readelf -SW "$T/out/xnbdbox" | grep -cF " $1 " || :
}
has_id() {
	readelf -nW "$T/out/xnbdbox" | grep -c 'Build ID'
}
build EXTRA_LDFLAGS=-Wl,--build-id=sha1
says 1 has_id
echo 'CONFIG_EXTRA_LDFLAGS="-Wl,--build-id=sha1"' >>"$T/out/.config"
build
says 1 has_id
# As Kconfig writes quotes: -g -DTEXT='"a"'
echo "CONFIG_EXTRA_CFLAGS=\"-g -DTEXT='\\\"a\\\"'\"" >>"$T/out/.config"
build STRIP=true
says 1 has_section .debug_info
says 1 grep -c "TEXT='\"a\"'" "$T/out/command"

# ---- install -------------------------------------------------------------------------
mkdir "$T/root"
build STRIP=true "DESTDIR=$T/root" prefix=/opt/x sbindir=/opt/s/sbin mandir=/man install >"$T/log"
says "./man/man1/xnbd-bgctl.1
./man/man1/xnbdbox.1
./opt/x/bin/xnbd-bgctl
./opt/x/bin/xnbdbox" sh -c 'cd "$1" && find . ! -type d | sort' - "$T/root"
says "$T/root/opt/x/bin/xnbdbox" readlink -f "$T/root/opt/x/bin/xnbd-bgctl"
cmp "$T/out/xnbdbox" "$T/root/opt/x/bin/xnbdbox"
build STRIP=true "DESTDIR=$T/root" bindir=/b install-strip >"$T/log"
cp "$T/root/b/xnbdbox" "$T/out/"
says 1 has_section .text
says 0 has_section .symtab
# A link belongs where the //applet: line says, as for --install.
sed -i '/^\/\/applet:/s/BB_DIR_USR_BIN/BB_DIR_USR_SBIN/' "$T/again/applet/xnbd_bgctl.c"
make -s -C "$T/again" CFLAGS=-Os "DESTDIR=$T/again/root" install >"$T/log"
says ../bin/xnbdbox readlink "$T/again/root/usr/sbin/xnbd-bgctl"

# ---- hardening, through ccache ----------------------------------------------------------
build bgctl-min_defconfig >"$T/log"
echo CONFIG_STATIC_PIE=y >>"$T/out/.config"
build
cp "$T/out/xnbdbox" "$T/pie"
CCACHE_DIR=$T/ccache build CC='ccache musl-gcc'
cmp "$T/pie" "$T/out/xnbdbox"

# ---- the same bytes, elsewhere, for somebody else ------------------------------------------
touch "$T/out/mine"
build clean
build distclean
says mine ls -A "$T/out"
make -s all
(
	umask 077
	export TZ=Asia/Tokyo LC_ALL=C.UTF-8
	build full_defconfig >"$T/log"
	build
)
cmp build/xnbdbox "$T/out/xnbdbox"
build "DESTDIR=$T/everything" sbindir=/srv/usr/lib/sbin install >"$T/log"
says ../../../../usr/bin/xnbdbox readlink "$T/everything/srv/usr/lib/sbin/xnbd-server"

tree | cmp - "$T/before"
