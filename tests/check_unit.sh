#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# make check-unit: what any user can run, without rights and without a network, in two minutes. The last
# line is "N passed, N failed".
set -u
cd "$(dirname "$0")/.." || exit 1
make -s all unit-tests fuzzers || exit 1
. tests/tally.sh
units
simulator "${SEEDS:-300}"
for t in busybox invariants man_pages rooms shell words; do
	count $t sh tests/doc/$t.sh
done
result
