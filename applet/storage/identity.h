/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Checks whether these are the files that the last server left.
 *
 * All but identity_is_origins() may block. Without "any thread" they are for a start, and for --check, before the disk
 * has users. Blocks are BLOCK_BYTES long. Arguments stay the caller's.
 */
#ifndef STORAGE_IDENTITY_H
#define STORAGE_IDENTITY_H

#include "storage/disk.h"

/* Whether neither the machine nor the file systems and disks of image and bitmap have gone down
 * since the header was written, and the bitmap is still the same file. */
bool identity_same_boot(const struct disk *d);
/* Looks at the files; sets f->other and f->changed. */
void identity_check(const struct disk *d, struct state_found *f);
/* The block is local, and no client has written near it: it has the origin's bytes. Core's thread. */
bool identity_is_origins(const struct disk *d, uint64_t block);
/* The sample of this block as the image has it; 0: it cannot be read. buf: BLOCK_BYTES. Any thread. */
uint64_t identity_sample(const struct disk *d, uint64_t block, uint8_t *buf);
/* Compares the header's samples with the image, at blocks that must still have the origin's data. both: the bitmap file
 * was read too, and must have the bits of h->recent. NULL, or what is wrong. */
const char *identity_content(struct disk *d, bool both);
/* Computes the samples of h->recent from the image. Any thread, but one at a time for a disk. */
void identity_remember(struct disk *d, struct state_header *h);
/* Enters these files into d->header, as in use. */
void identity_set(struct disk *d);
/* Syncs image and bitmap, and enters their mtime and ctime into h. 0 or errno. Any thread. */
int identity_leave(const struct disk *d, struct state_header *h);
/* Stamps the commit file with the counter of the header that was just written to it. Any thread. */
void identity_stamp(int fd, uint64_t counter);

/* The file or device fd, but not its content: as long as the machine runs, no other one has the same. Any thread. */
uint64_t identity_now(int fd);

#endif
