/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A disk: its core, and the files that the core reaches through its ports (disk.c has them).
 *
 * Who owns a struct disk: the export around it (export/export.h), which opens its files with store.h and closes them.
 * Its fields belong to the core's thread. A job on a worker may read the fields that do not change while the disk is
 * open (descriptors, paths, flags), and use those whose comment says that they are the worker's.
 */
#ifndef STORAGE_DISK_H
#define STORAGE_DISK_H

#include "core/core.h"
#include "core/state.h"
#include "reactor/pool.h"

struct origin;

struct disk {
	struct core *core; /* NULL: it has none yet, see export_begin(). Its owner is this disk */
	/* fd to direct_unit: as in struct handed_disk. */
	int fd[3];      /* by enum io_file; -1 = not there, as with the other descriptors */
	int header_fd;  /* a second descriptor of the commit file: so the kernel reports a sync error
			   to the header's writer and to the commit, not to the first of them. -1: nothing is to be written */
	int direct_fd;  /* --root-storage: an O_DIRECT descriptor of the image; -1 = not there */
	int cover_fd;   /* a descriptor of the commit file, for the cover, that uses the page cache; -1 = not there */
	bool is_device; /* the image is a block device */
	bool holes_known; /* of the image: see holes.h */
	bool switched;  /* at the start: the switch is done */
	bool resumed;   /* by store_resume(): of what is in the files nothing was synced by this program */
	uint32_t direct_unit; /* bytes: direct_fd needs multiples of this */
	uint64_t commit_base; /* where the commit file begins in its device, which is the image's; 0: it is one of its own. See
				 commit_is_behind() */
	bool commit_is_device; /* the commit file is a block device */
	bool adopt, accept; /* --adopt-bitmap, --accept-image */
	bool wants_cover; /* --cover */
	struct { void *at; size_t bytes; } pinned[3]; /* --root-storage: mappings of files, see resident.h; at NULL: not there */
	bool in_use; /* others have the image, a device: it is open for reading, and not locked */
	_Atomic bool covered; /* see cover.h */
	struct {
		struct job job;
		uint8_t *buf; /* as long as the image is covered, and the core there */
		enum { SWITCH_NONE, SWITCH_COPIES, SWITCH_RECORDS, SWITCH_REPEATS, SWITCH_REVERTS } step;
		uint64_t cover; /* of the header before */
		bool complete;  /* no block is missing */
		bool sync_failed; /* of the image */
		int error;
	} switching;
	_Atomic bool no_nowait; /* the image's file system knows no RWF_NOWAIT */
	_Atomic bool no_holes; /* the image makes none: a block device, or a file system that cannot */
	uint64_t rate_bytes; /* proxy: limit of the copy and the comparison, per second, unless a request has another; 0 = none */
	bool keeps_space; /* no hole is made of what is zeroed */
	const char *name; /* for messages, the export's: the process has other disks, too; NULL: they need none */
	char *path[3];  /* absolute */
	uint64_t errors[IO_OPS]; /* that the files have had, since they are open; of a copy, in the disk that it is one of */
	uint8_t told_errors; /* a bit for each enum io_op that has failed; of a copy, in the disk that it is one of */
	char wrong[512]; /* the line of file_open_target() */
	enum state_commit commit_found; /* what store_inspect() found */
	const char *commit_trouble; /* what is wrong with that commit file; NULL: nothing */
	uint64_t *words; /* the bitmap; a target has none */
	uint64_t *written; /* what clients have written, see core.h; NULL: that is not kept */
	uint64_t *published; /* for the core, see core.h; NULL: there are no fronts */
	struct state_header header; /* as in the commit file, or about to be: see header_save() */
	struct {
		struct repeated_job write;
		struct state_header header; /* the worker's copy; the core's thread may change the other one */
		int error;
		unsigned recents; /* core_recent() when it was copied */
		uint64_t next_ms; /* no save for new recent blocks before this time */
		uint8_t block[BLOCK_BYTES]; /* of the image, for identity.c: the start's, then the worker's */
	} save;
	uint64_t origin_errors;    /* READs that the origin has answered with an error, since the disk is there */
	uint64_t origin_failures;  /* connections to it, and attempts to have one, that have failed */
	struct origin *origin; /* proxy only: from origin_new(); for the core's ports to the origin */
	int base_fd;         /* copy on write: the base; fd[FILE_IMAGE] has what was written. Else -1 */
	uint32_t *cow_words; /* copy on write: bits of the blocks that were written; 32 bits are atomic on every machine */
	struct disk *cow_of; /* --cow-client: base_fd is that of this disk, which is copied, and the file comes with the first write */
	unsigned long cow_blocks; /* copy on write: how many were written: cow.c. Not 64 bits: some processors have no such atomics */
	struct serial_queue queues[JOB_SLOW][2]; /* of short and of long jobs; [1]: of those that take the inode's lock */
	unsigned comparisons;      /* of spots, in flight */
	struct serial_queue spots; /* of comparisons at a new connection: while the image hangs, each would take a worker */
	unsigned zeroing;       /* zeroings and trims in flight */
	bool syncing;              /* a job of disk_sync_begin() runs */
	struct job *waiting_syncs; /* a queue of such jobs */
	struct disk *twin;      /* a ring of disks that share the open file of the image; NULL: it is alone */
	void (*header_saved)(struct disk *d, int error); /* header_save() is done, 0 or errno;
							    may call it again; NULL: no callback */
};

/* Whether the commit file lies behind the disk's end, on the image's device. Until the switch the image is covered, so that nobody
 * takes that space for free; whoever has the disk after that may use it, so nothing is written there any more: header_fd is closed, and
 * a start does not open it. Any thread. */
static inline bool commit_is_behind(const struct disk *d)
{
	return ENABLE_FEATURE_XNBD_SERVER_BEHIND && d->commit_base;
}

static inline struct disk *disk_of(struct core *c)
{
	return core_owner(c);
}

/* Any thread. */
const char *io_word(enum io_op op);

/* bb_error_msg(), behind the disk's name if it has one. Core's thread. */
void disk_error_msg(const struct disk *d, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The image could not be synced. The kernel reports that only once per open file, so all disks that share it are
 * informed. Core's thread. */
void disk_sync_failed(struct disk *d, int error);

/* Runs a job that syncs the image. One at a time of all disks that share the open file: the kernel tells an error to one of
 * those that wait for the same page, and whoever is not told must not have its result before the error has been delivered. The
 * job is ready for pool_submit(); its done() calls disk_sync_end() when the core knows of its error. Core's thread. */
void disk_sync_begin(struct disk *d, struct job *j);
void disk_sync_end(struct disk *d);

/* From now on no sync begins, of any disk, nor zeroes, which may be written through: they wait until the next call with false, or
 * forever, when another program replaces this one. Core's thread. */
void disks_hold_syncs(bool hold);
/* Whether one is under way of which the core has not heard yet. The kernel tells its error once: who does not wait for that loses
 * it. Core's thread. */
bool disks_are_syncing(void);

/* pread(2) or pwrite(2) of all n bytes, which the file has: 0 or errno. Any thread; may block. */
int disk_transfer(int fd, bool write, uint8_t *p, uint64_t n, uint64_t offset);

/* preadv2(2) of n bytes of the image, if the page cache has them all. False: it has not, or it
 * cannot be told, or the image is read past it. Any thread; does not block. */
bool disk_read_now(struct disk *d, void *buf, uint32_t n, uint64_t offset);

#endif
