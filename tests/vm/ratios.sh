#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# ratios.sh [ROUNDS [SECONDS]], by hand: see BENCHMARKS.md. VM and XNBDBOX are as tests/part.sh sets them.
set -eu
script=$(cd "$(dirname "$0")" && pwd)/ratios.py
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-vm.XXXXXX")
trap 'rm -rf "$T"' EXIT
cd "$T"
/usr/bin/python3 "$script" "${1:-5}" "${2:-4}"
