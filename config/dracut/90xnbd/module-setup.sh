#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# To /usr/lib/dracut/modules.d/90xnbd, with the other files here: dracut --add xnbd.

check() {
	require_binaries xnbdbox || return 1
	return 255 # only when asked for
}

depends() {
	echo base network
}

installkernel() {
	instmods nbd
}

install() {
	inst_multiple xnbdbox blockdev cat dd grep ip ln mkdir mount od readlink sed sleep tr umount wc
	inst_multiple -o blkid findfs getent
	ln_r "$(command -v xnbdbox)" /bin/xnbd-server
	ln_r "$(command -v xnbdbox)" /bin/xnbd-bgctl
	inst_script /usr/share/xnbdbox/init /bin/xnbd-root
	inst_simple /usr/share/xnbdbox/devices
	[ ! -e /etc/xnbd.keys ] || inst_simple /etc/xnbd.keys # for xnbd.origin=nbds://
	[ ! -e /etc/xnbd.trace ] || inst_simple /etc/xnbd.trace # for xnbd.trace=
	inst_hook cmdline 90 "$moddir/xnbd-cmdline.sh"
	inst_hook initqueue/settled zz "$moddir/xnbd-root.sh"
	! dracut_module_included systemd || inst_script "$moddir/xnbd-generator.sh" "$systemdutildir/system-generators/xnbd-generator"
	inst_hook mount 10 "$moddir/xnbd-mount.sh"
}
