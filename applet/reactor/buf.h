/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Memory for data in flight, and the one budget (--max-buf-size) that it shares.
 * Buffers come in sizes of powers of 2, out of memory that is kept while it is used. Loop's
 * thread only.
 */
#ifndef REACTOR_BUF_H
#define REACTOR_BUF_H

#include <stdint.h>

enum { BUF_BYTES_MAX = 256 << 10 }; /* of one buffer */

/* limit_bytes: --max-buf-size; 0 = no limit. */
void buf_init(uint64_t limit_bytes);
/* Nothing is given back to the system from now on; memory that is locked when buf_init() was
 * called is all there. Dies when it is not. */
void buf_reserve(void);
/* Bytes; without a limit, more than a machine has. */
uint64_t buf_limit(void);
/* Bytes handed out. */
uint64_t buf_used(void);
/* What a buffer for n bytes takes from the budget. */
uint32_t buf_size(uint32_t n);
/* n: 1..BUF_BYTES_MAX. NULL: out of memory. Does not look at the budget: who admits requests
 * does. Beyond the budget, and where fragments are all that is left of it, it is malloc(). */
void *buf_get(uint32_t n);
/* n as given to buf_get(). */
void buf_put(void *p, uint32_t n);

#endif
