# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# systemd understands every line of config/systemd, and what the units start is there.
set -eu
cd "$(dirname "$0")/../.."
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT
make -s install DESTDIR="$T" >"$T/log"
mkdir -p "$T/etc/systemd/system" "$T/bin"
cp /bin/kill /bin/sh "$T/bin"
cp config/systemd/* /lib/systemd/system/*.target "$T/etc/systemd/system"
systemd-analyze verify --man=no --root="$T" 'xnbd-target@srv-disk.img.service' xnbd-wrapper.service xnbd-proxy@data.service xnbd-hold@data.service >"$T/log" 2>&1 || :
cat "$T/log"
test ! -s "$T/log"
