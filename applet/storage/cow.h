/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copy on write: see cow.c. */
#ifndef SERVER_COW_H
#define SERVER_COW_H

#include "export/export.h"

/* The image of e, just opened, becomes the base of it. NULL, or what went wrong: one line. */
const char *cow_begin(struct export *e);

/* Workers. 0 or errno. Offsets and lengths in bytes, inside of the disk, n > 0. */
int cow_read(struct export *e, uint8_t *p, uint64_t n, uint64_t offset);
/* Before [offset, offset + n) of e->fd[FILE_IMAGE] is written, trimmed or zeroed. */
int cow_prepare(struct export *e, uint64_t n, uint64_t offset);
/* ... and after that went well. */
void cow_written(struct export *e, uint64_t n, uint64_t offset);

/* disk.c: pread(2) or pwrite(2) of all of it. */
int disk_transfer(int fd, bool write, uint8_t *p, uint64_t n, uint64_t offset);

#endif
