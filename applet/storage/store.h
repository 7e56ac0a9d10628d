/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The files of a proxy's disk at a start: found, locked, refused (store.c), created and repaired (store_create.c).
 *
 * One thread, before the disk has a core. All of it may block. Any error ends the program with one line that says what
 * to do; up to store_open(), nothing on the disk has been changed by then. Sizes are bytes.
 */
#ifndef STORAGE_STORE_H
#define STORAGE_STORE_H

#include "storage/disk.h"

/* Opens and locks what exists of a proxy's files and reads the header. commit: the commit file, NULL = the bitmap's
 * name with ".commit"; it may be a block device that has nothing but zeroes, or a commit file of ours from its first
 * byte on. With a good commit file d->words are there, and d->header.size_bytes is the size: a start can do without the
 * origin. d->switched: it was switched, and is a target. d->in_use: the image is in use, and a start must fail. True:
 * the cache is complete, the origin is not needed. */
bool store_inspect(struct disk *d, const char *image, const char *bitmap, const char *commit, bool clear);

/* The same for --check: opens read-only, with shared locks. Then the steps of store_open() that
 * change nothing, one by one: how the start would be made, the bits that it would use (into
 * d->words), whether the image is long enough for them. */
void store_peek(struct disk *d, const char *image, const char *bitmap, const char *commit);
enum state_start store_decide(struct disk *d, uint64_t size_bytes, const struct fingerprint *fp, bool clear);
/* Dies if a new cache would begin on a regular file that has data, or, with the commit file behind the disk's end, on a device.
 * store_decide() calls it. */
void store_check_new(struct disk *d);
void store_load(struct disk *d, enum state_start how, uint64_t size_bytes);
/* After store_load(): the record of client writes, into d->written. False: nobody knows who wrote
 * what, and all that is local counts as written. */
bool store_load_written(struct disk *d, enum state_start how, uint64_t size_bytes);
void store_check_room(struct disk *d, uint64_t size_bytes, uint64_t have_bytes);
/* Whether no start asks the origin any more. */
bool store_was_switched(const struct disk *d, enum state_start how, uint64_t size_bytes);
/* With d->in_use, when all else that a start would check of what was switched is well. */
void store_die_in_use(const struct disk *d) NORETURN;
/* When d->written is there, too: whether it has the bytes that the header knows. */
void store_check_content(struct disk *d, enum state_start how);

/* After store_inspect(): decides what to make of the files, given the origin's size
 * and fingerprint (NULL: it was not asked), creates and repairs them, fills
 * d->words. *all_dirty: no bit is known to be in the commit file. */
void store_open(struct disk *d, uint64_t size_bytes, const struct fingerprint *fp, bool clear, bool *all_dirty);

/* d has descriptors that were handed over: reads from the files which blocks are local. Dies if the files do not belong
 * to this disk. Syncs nothing, and does not block while their pages are in memory. */
void store_resume(struct disk *d);
/* Before that, in the other program: reads those files, so that their pages are in memory. A worker may do so; it may block. */
void store_warm(const struct disk *d);

/* ---- between the two files -------------------------------------------------------------------- */

/* Room for n bytes of bits, to replace old, which may be NULL: zero pages, which cost memory only once they are
 * written. The caller frees it. Dies without memory. */
uint64_t *store_alloc_words(uint64_t *old, uint64_t n);
/* store_load() and store_load_written(): what is local, and what clients have written. */
void store_load_all(struct disk *d, enum state_start how, uint64_t size_bytes);
/* Whether d->words has all blocks of a disk of this size. Dies without memory. */
bool store_is_complete(const struct disk *d, uint64_t size_bytes);

#endif
