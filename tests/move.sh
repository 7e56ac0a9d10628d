#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# tests/move.sh [DIR]: the main job, with the programs in DIR (build) and nothing else: a disk moves. For
# packagers: it needs no rights and no network, and takes a second.
set -eu
PATH=$(cd "${1:-build}" && pwd):$PATH
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-move.XXXXXX")
cd "$T"

finish() {
	code=$?
	for file in *.pid; do
		[ ! -s "$file" ] || kill "$(cat "$file")" 2>/dev/null || :
	done
	cd / && rm -rf "$T"
	exit $code
}
trap finish EXIT
trap 'exit 1' INT TERM

head -c 5000000 /dev/urandom >disk.img
xnbd-server --target --readonly --daemonize --pidfile "$T/target.pid" --lport 0 --unix "$T/target.sock" "$T/disk.img"
xnbd-server --proxy --daemonize --pidfile "$T/proxy.pid" --lport 0 --unix "$T/proxy.sock" \
	"unix:$T/target.sock" - "$T/cache.img" "$T/cache.bm" "$T/ctl.sock"
xnbd-bgctl --cache-all ctl.sock
xnbd-bgctl --switch ctl.sock
xnbd-bgctl --query ctl.sock | grep -x 'state complete'
cmp disk.img cache.img
