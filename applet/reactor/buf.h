/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Memory for data in flight, all of it counted against one budget (--max-buf-size). Buffer sizes are powers of 2. Freed
 * buffers are kept for reuse; when none is in use, the memory goes back to the system, unless buf_reserve() was called.
 * Only threads with an event loop may call this; a buffer may be freed by another such thread than the one that got it.
 */
#ifndef REACTOR_BUF_H
#define REACTOR_BUF_H

#include <stdint.h>

enum { BUF_BYTES_MAX = 256 << 10 }; /* of one buffer */

/* limit_bytes: --max-buf-size; 0 = no limit. */
void buf_init(uint64_t limit_bytes);
/* From now on no memory goes back to the system. If mlockall() was called before buf_init(), all of
 * it is resident. Dies when the budget is above 1 GiB or unlimited, or when buf_init() got no
 * memory. */
void buf_reserve(void);
/* From now on, several threads use it. */
void buf_share(void);
/* Bytes; without a limit, more than a machine has. */
uint64_t buf_limit(void);
/* Bytes handed out. */
uint64_t buf_used(void);
/* What a buffer for n bytes takes from the budget. */
uint32_t buf_size(uint32_t n);
/* n: 1..BUF_BYTES_MAX. NULL: out of memory. Does not check the budget: the code that admits requests does. Falls back
 * to malloc() beyond the budget, and when fragmentation leaves no buffer of this size. */
void *buf_get(uint32_t n);
/* n as given to buf_get(). */
void buf_put(void *p, uint32_t n);

#endif
