/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Opens, locks and measures a single file of a disk. All of it may block. d->path has the names, d->fd the
 * descriptors. Sizes are bytes.
 *
 * file_open_target() may be called on any thread, at any time. All others are for a start, on its one
 * thread: they end the program with one line that says what is wrong.
 */
#ifndef STORAGE_FILES_H
#define STORAGE_FILES_H

#include "storage/disk.h"

/* The image of a target: opens, locks and measures it. NULL, or why not: one line, valid until the next call. Never
 * dies. */
const char *file_open_target(struct disk *d, const char *image, bool readonly);

/* flags: of open(2). False: it does not exist. An image that is in use is open for reading: d->in_use. */
bool file_open(struct disk *d, enum io_file file, int flags);
/* how: LOCK_SH or LOCK_EX. The lock goes with the descriptor. */
void file_lock(struct disk *d, enum io_file file, int how);
/* Else it is a block device. */
bool file_is_regular(struct disk *d, enum io_file file);
void file_die_in_use(const struct disk *d, enum io_file file) NORETURN;
/* How long a file is; 0: it is not there. */
uint64_t file_bytes(struct disk *d, enum io_file file);

#endif
