/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Memory for data in flight, and the one budget (--max-buf-size) that it shares.
 * Buffers come in sizes of powers of 2 and are kept for the next request, up to some
 * MiB and while the budget allows it. Loop's thread only.
 */
#ifndef SERVER_BUF_H
#define SERVER_BUF_H

#include <stdint.h>

/* limit_bytes: --max-buf-size. */
void buf_init(uint64_t limit_bytes);
/* From now on all of it is there, in memory that nobody has to be asked for again. */
void buf_reserve(void);
uint64_t buf_limit(void);
/* Bytes handed out or booked. */
uint64_t buf_used(void);
/* What a buffer for n bytes takes from the budget. */
uint32_t buf_size(uint32_t n);
/* NULL: out of memory. Does not look at the budget: who admits requests does. */
void *buf_get(uint32_t n);
/* Counts n bytes that buf_take() will be asked for, or that are given back untaken. */
void buf_book(uint32_t n);
/* The memory that was booked; NULL: out of memory, and it stays booked. */
void *buf_take(uint32_t n);
/* n as given to buf_get() or buf_book(); p NULL: of what was booked and not taken. */
void buf_put(void *p, uint32_t n);

#endif
