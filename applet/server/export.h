/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An export: one disk with its core, its files and, for a proxy, its origin.
 */
#ifndef SERVER_EXPORT_H
#define SERVER_EXPORT_H

#include "core/core.h"
#include "core/state.h"
#include "nbd/nbd.h"

struct origin;

struct export {
	struct core core; /* first: ports get the core and want the export */
	struct nbd_export nbd;
	int fd[3];      /* by enum io_file; -1 = not there */
	int header_fd;  /* the commit file again: so an error of a sync is told to the header's
			   writer and to the commit, not to who comes first */
	bool is_device; /* the image is a block device */
	bool no_nowait; /* the image's file system knows no RWF_NOWAIT */
	char *path[3];  /* absolute */
	enum state_commit commit_found; /* what store_look() found */
	uint64_t *words; /* the bitmap */
	struct state_header header; /* as in the commit file */
	struct origin *origin;
};

static inline struct export *export_of(struct core *c)
{
	return (struct export *)c;
}

/* ---- store.c: the files at a start. All of it may block, and dies with one line
 * that says what to do; then nothing was changed on disk. ------------------------ */

/* path as seen from the root; to be freed. */
char *path_absolute(const char *path);

/* The image of a target: opens, locks and measures it. */
void store_open_target(struct export *e, const char *image, bool readonly);

/* Opens and locks what exists of a proxy's files and reads the header. True: the
 * cache is complete, the origin is not needed; e->header.size_bytes is the size. */
bool store_look(struct export *e, const char *image, const char *bitmap, bool clear);

/* After store_look(): decides what to make of the files, given the origin's size
 * and fingerprint (NULL: it was not asked), creates and repairs them, fills
 * e->words. *all_dirty: no bit is known to be in the commit file. */
void store_open(struct export *e, uint64_t size_bytes, const struct fingerprint *fp, bool clear, bool *all_dirty);

/* Writes h to the commit file, over this descriptor, and syncs it. 0 or errno. May block. */
int store_write_header(int fd, const struct state_header *h);

/* A sync has failed: the next start, also of this boot, is to trust only what was committed
 * before. Loop's thread; does not wait for the disk. */
void store_distrust(struct export *e);

#endif
