#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make demo-vm: boot.py, with a transcript.
set -eu
cd "$(dirname "$0")/../.."
export VM="$PWD/build/vm" XNBDBOX="$PWD/build/xnbdbox"
mkdir -p "$VM"
sh tests/vm/build.sh
sh tests/vm/build_boot.sh
script=$PWD/tests/vm/boot.py
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-demo.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM HUP
cd "$T"
/usr/bin/python3 "$script" demo "${SEED:-1}"
