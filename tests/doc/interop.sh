#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The table in README.md is that of tests/interop/README, and every cell is green.
cd "$(dirname "$0")/../.." || exit 1
python3 tests/interop/table.py || exit 1
! grep '^    .* | .*NO' tests/interop/README
