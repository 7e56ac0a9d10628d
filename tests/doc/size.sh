# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The stripped binary needs no library, and the sizes are those of README.md.
set -u
cd "$(dirname "$0")/../.." || exit 1
bytes=$(stat -c %s build/xnbdbox)
echo "build/xnbdbox: $bytes bytes"
[ "$bytes" -le 303104 ] || exit 1 # 296 KiB: what is larger has a reason, or goes
! readelf -d build/xnbdbox | grep NEEDED || exit 1
# xnbd-client alone, with all but long options, names, TLS and usage texts.
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-size.XXXXXX")
trap 'rm -rf "$T"' EXIT
printf 'CONFIG_%s=y\n' XNBD_CLIENT FEATURE_XNBD_CLIENT_LIST FEATURE_XNBD_CLIENT_PERSIST FEATURE_XNBD_CLIENT_IOCTL >"$T/.config"
make -s O="$T" || exit 1
bytes=$(stat -c %s "$T/xnbdbox")
echo "xnbd-client alone: $bytes bytes"
[ "$bytes" -le 30720 ] || exit 1
config/bloat.sh check
