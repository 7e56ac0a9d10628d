/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Before all of tls/ in constant_time.c: see there. */
#include <valgrind/memcheck.h>
#define TLS_PUBLIC(p, len) (void)VALGRIND_MAKE_MEM_DEFINED(p, len)
