#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# Sourced: with xnbd.origin=, the root is ours to find, and the network is wanted, which the
# parameter ip= sets up; xnbd.ip= is for an initramfs without that.
if getarg xnbd.origin= >/dev/null; then
	root=xnbd
	rootok=1
	getarg xnbd.ip= >/dev/null || echo rd.neednet=1 >/etc/cmdline.d/90-xnbd.conf
fi
