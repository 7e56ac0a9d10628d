/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Copy on write: a target's image becomes a base that is only read, and what clients write goes to a file without a
 * name. For disk.c; cow_begin() and cow_share() are for the code that opens a target. All of it may block, unless said
 * otherwise.
 */
#ifndef STORAGE_COW_H
#define STORAGE_COW_H

#include "storage/disk.h"

/* Bytes, in whole blocks, that may be written to each disk of cow_share(); 0: no limit. Set before the first. */
extern uint64_t cow_limit_bytes;

/* d, which has nothing open, becomes a copy of base, a target, for as long as that is open. Its file is made with the
 * first write. False: out of memory. Does not block. */
bool cow_share(struct disk *d, struct disk *base);
/* The image of d, just opened, becomes its base. NULL, or what went wrong: one line. Before the
 * disk has a core. */
const char *cow_begin(struct disk *d);

/* This one and the next two: any thread; the core's ranges keep writers of one block apart. Offsets and
 * lengths are bytes, within the disk, n > 0. 0 or errno. */
int cow_read(struct disk *d, uint8_t *p, uint64_t n, uint64_t offset);
/* Before [offset, offset + n) of d->fd[FILE_IMAGE], which may have been opened then, is written, trimmed or zeroed. EFBIG: that is beyond
 * the limit. */
int cow_prepare(struct disk *d, uint64_t n, uint64_t offset);
/* After such a write; error: its result, 0 or errno. */
void cow_written(struct disk *d, uint64_t n, uint64_t offset, int error);
/* The base, if nothing of this was written; else -1. Does not block. */
int cow_base_fd(const struct disk *d, uint64_t n, uint64_t offset);

#endif
