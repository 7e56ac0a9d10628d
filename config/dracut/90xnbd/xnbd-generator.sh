#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# A generator of systemd (systemd.generator(7)), for an initramfs with systemd: a volume of LUKS has no limit of 90 seconds while
# the device of the server, which it is on, may still begin to exist: with the volume, systemd would give up the boot.
# xnbd-root.sh has systemd read this again when the device is there.
# shellcheck disable=SC1091
type getarg >/dev/null 2>&1 || . /lib/dracut-lib.sh
if getarg xnbd.origin= >/dev/null && [ ! -e /run/xnbd/root ]; then
	for _luks in $(getargs rd.luks.uuid=) $(getargs rd.luks.name=); do
		_luks=${_luks%%=*}
		_to=$1/$(dev_unit_name "/dev/disk/by-uuid/${_luks#luks-}").device.d
		mkdir -p "$_to"
		printf '[Unit]\nJobTimeoutSec=infinity\nJobRunningTimeoutSec=infinity\n' >"$_to/xnbd.conf"
	done
fi
