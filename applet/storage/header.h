/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The header of the commit file, on the disk: see struct state_header in core/state.h.
 *
 * header_read() and header_write() are for a start, which is one thread, and for workers. The others
 * are for the loop's thread; they neither block nor call anybody back: d->header_saved()
 * comes later.
 */
#ifndef STORAGE_HEADER_H
#define STORAGE_HEADER_H

#include "storage/disk.h"

/* The newest copy that is whole. NULL, or what is wrong: a few words. May block. */
const char *header_read(int fd, struct state_header *h);
/* Writes h, a counter larger than the last one, over this descriptor, and syncs it. 0 or
 * errno. May block. */
int header_write(int fd, const struct state_header *h);
/* d->header goes to the disk, by a worker; one write at a time, so that the other copy is
 * always whole. Then d->header_saved() is called. A failure is one of a sync: the core is told. */
void header_save(struct disk *d);
/* A good end: nothing is written any more, and all is committed. The header says so, and how
 * the files were left. As header_save(). */
void header_finish(struct disk *d);
/* Something may have changed. After a sync that failed: the next start, also of this boot, is to
 * trust only what was committed before. Else: what has come last from the origin is remembered, at
 * once and then every COMMIT_INTERVAL_MS. As header_save(). */
void header_tick(struct disk *d);

#endif
