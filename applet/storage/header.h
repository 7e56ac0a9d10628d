/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The header of the commit file, on the disk: see struct state_header in core/state.h.
 *
 * header_read() and header_write() are for a start, on its one thread, and for workers. The
 * others are for the core's thread and do not block; d->header_saved() is called later, never from
 * inside them.
 */
#ifndef STORAGE_HEADER_H
#define STORAGE_HEADER_H

#include "storage/disk.h"

/* base, of all three: d->commit_base. Reads the newest valid copy that is on the disk, if what is in memory was synced, or could
 * not be; beside one that cannot be read, without its boot id: only what was committed is trusted then. NULL, or what is wrong: a few
 * words. May block. */
const char *header_read(int fd, uint64_t base, struct state_header *h);
/* Writes h, whose counter must be larger than that of the last one, by this descriptor, and syncs it. 0 or errno. May
 * block. */
int header_write(int fd, uint64_t base, const struct state_header *h);
/* Before header_write() of the first header: everything except its first sector, so that a torn write leaves a valid
 * header or none. 0 or errno. May block. */
int header_announce(int fd, uint64_t base, const struct state_header *h);
/* At a start, of d->header, which is that on the disk: the image is changed before its own is written. same_boot: else the next
 * start trusts only what was committed, whatever becomes of this one. 0 or errno; may block. */
int header_tell(struct disk *d, bool same_boot);
/* A sync has failed, and that could not be told: a message. */
void header_untold(const struct disk *d);
/* Has a worker write d->header; one write at a time, so that the other copy is always whole. Then
 * d->header_saved() is called. A failure counts as a failed sync: the core is told. Without d->header_fd there is nothing to be
 * written. */
void header_save(struct disk *d);
/* At a good end, when nothing is written any more and everything is committed: saves a header that
 * says so, and how the files were left. Like header_save(). */
void header_finish(struct disk *d);
/* To be called in each turn of the loop. After a failed sync, saves a header that makes the next start,
 * even in this boot, trust only what was committed before; behind that the core may answer the error. Else saves the blocks that
 * came last from the origin: at once, then every COMMIT_INTERVAL_MS. Like header_save(). */
void header_tick(struct disk *d);

#endif
