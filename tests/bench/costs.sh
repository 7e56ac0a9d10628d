#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The figures of the model in ARCHITECTURE.md, "Where the next ceiling is": see costs.c. The file is on
# the file system of TMPDIR, or /tmp.
set -eu
cd "$(dirname "$0")/../.."
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-costs.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
gcc -O2 -Wall -Wextra -pthread -o "$T/costs" tests/bench/costs.c
dd if=/dev/urandom of="$T/file" bs=4k count="${COSTS_BLOCKS:-65536}" 2>/dev/null
"$T/costs" "$T/file"
