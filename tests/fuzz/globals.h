/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* In front of each file of applet/: where world.c finds its globals. */
#pragma clang section bss = "fuzz_bss" data = "fuzz_data"
