#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Sourced: with xnbd.origin=, the network is wanted, which the parameter ip= sets up (xnbd.ip= is for an
# initramfs without that), and nothing is given up before xnbd-root.sh is done. After two thirds of rd.retry= nobody waits
# for the network any more: a move that is over does not need it. Without root=, the root is ours to find.
if getarg xnbd.origin= >/dev/null; then
	getarg xnbd.ip= >/dev/null || echo rd.neednet=1 >/etc/cmdline.d/90-xnbd.conf
	echo '[ -e /run/xnbd/root ]' >"$hookdir/initqueue/finished/xnbd.sh"
	echo ': >/tmp/xnbd.online' >"$hookdir/initqueue/online/xnbd.sh"
	cat >"$hookdir/initqueue/timeout/xnbd.sh" <<-'END'
		: >/tmp/xnbd.late
		rm -f $(grep -ls did-setup "$hookdir"/initqueue/finished/*.sh)
	END
	if ! getarg root= >/dev/null; then
		root=xnbd
		rootok=1
	fi
fi
