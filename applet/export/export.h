/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An export: one disk with its core, its files and, for a proxy, its origin.
 */
#ifndef SERVER_EXPORT_H
#define SERVER_EXPORT_H

#include "core/core.h"
#include "core/state.h"
#include "nbd/nbd.h"
#include "reactor/pool.h"

struct origin;

struct export {
	struct core core; /* first: ports get the core and want the export */
	struct nbd_export nbd;
	uint64_t serial; /* no two have the same; it grows along the list */
	int fd[3];      /* by enum io_file; -1 = not there */
	int header_fd;  /* the commit file again: so an error of a sync is told to the header's
			   writer and to the commit, not to who comes first */
	int direct_fd;  /* --root-storage: the image again, past the page cache; -1 = not there */
	uint32_t direct_unit; /* ... where all has to be multiples of this */
	bool is_device; /* the image is a block device */
	bool holes_known; /* of the image: see holes.h */
	bool adopt, accept; /* --adopt-bitmap, --accept-image */
	bool no_nowait; /* the image's file system knows no RWF_NOWAIT, or a base is behind it */
	char *path[3];  /* absolute */
	char wrong[512]; /* the line of store_open_target() */
	enum state_commit commit_found; /* what store_look() found */
	const char *commit_trouble; /* ... and what is wrong with it, NULL = nothing */
	uint64_t *words; /* the bitmap */
	uint64_t *written; /* what clients have written, see core.h; NULL: that is not kept */
	struct state_header header; /* as in the commit file, or about to be: see header_save() */
	struct {
		struct job job;
		struct state_header header; /* on its way; the loop's thread may change the other one */
		bool busy, again;
		int error;
		unsigned recents; /* of the core, that it has */
		uint64_t next_ms; /* not before, for the sake of these */
	} save;
	struct origin *origin;
	int base_fd;         /* copy on write: the base; fd[FILE_IMAGE] has what was written. Else -1 */
	uint32_t *cow_words; /* ... and which blocks that are; 32 bits are atomic on every machine */
	unsigned users;      /* sessions, and the list while it is not removed */
	bool removed;        /* nobody finds it any more */
	struct turn turns[JOB_SLOW][2]; /* of short and of long jobs; [1]: of those that hold the file's lock */
	unsigned leaving;       /* sessions that have gone, and still have requests in flight */
	unsigned orphans;       /* ... so many */
	unsigned zeroing;       /* so many zeroings and trims are under way */
	struct job closing;
	bool unsynced; /* ... which has found that */
	struct commit_waiter last_commit;
	struct export *next;
};

static inline struct export *export_of(struct core *c)
{
	return (struct export *)c;
}

/* ---- exports.c: all there are. Loop's thread. --------------------------------------- */

extern struct export *exports;

/* So many short jobs of one export run beside each other, and half as many long ones. */
unsigned export_workers(void);

/* One more, with one user; the caller opens its files, begins it, and puts it into the list.
 * NULL: out of memory. */
struct export *export_new(const char *name);
void export_enlist(struct export *e);
/* Its core begins to live. False: out of memory. */
bool export_begin(struct export *e, uint64_t size_bytes, bool all_dirty);
/* A target of this name (copied). NULL, or why not: one line. May wait for the disk. */
const char *export_add(const char *name, const char *image);
/* The same by a worker: added() is told why, or NULL. False: out of memory, it is not called. */
bool export_add_later(const char *name, const char *image, void (*added)(void *ctx, const char *why), void *ctx);
/* NULL: there is none. */
struct export *export_find(const char *name, size_t n);
/* Nobody finds it any more; it ends with its last user. */
void export_remove(struct export *e);
/* A user more, a user less. */
void export_hold(struct export *e);
void export_drop(struct export *e);
/* Files of exports that have ended are being synced and closed. */
bool exports_are_closing(void);
/* The disk of one that was closed would not sync. */
extern bool exports_unsynced;

/* ---- store.c: the files at a start. All of it may block, and dies with one line
 * that says what to do; then nothing was changed on disk. ------------------------ */

/* path as seen from the root; to be freed. NULL with errno: no memory, or no current
 * directory; x: dies then. */
char *path_absolute(const char *path);
char *xpath_absolute(const char *path);

/* The image of a target: opens, locks and measures it. NULL, or why not: one line, valid
 * until the next call. Dies of nothing. */
const char *store_open_target(struct export *e, const char *image, bool readonly);

/* Opens and locks what exists of a proxy's files and reads the header. With a good commit file
 * e->words are there, and e->header.size_bytes is the size: a start can do without the origin.
 * True: the cache is complete, the origin is not needed. */
bool store_look(struct export *e, const char *image, const char *bitmap, bool clear);

/* The same only to look: nothing can be changed, and others may look too. The steps of
 * store_open() of which that is true, one by one: what the start would be, the bits that
 * it would take (into e->words), whether the image is long enough for them. */
void store_peek(struct export *e, const char *image, const char *bitmap);
enum state_start store_decide(struct export *e, uint64_t size_bytes, const struct fingerprint *fp, bool clear);
void store_load(struct export *e, enum state_start how, uint64_t size_bytes);
/* The same of what clients have written, into e->written; after that. False: it is not known,
 * then all that is local counts as written. */
bool store_load_written(struct export *e, enum state_start how, uint64_t size_bytes);
void store_check_room(struct export *e, uint64_t size_bytes, uint64_t have_bytes);
/* ... and, when e->written is there too, whether it has the bytes that the header knows. */
void store_check_content(struct export *e, enum state_start how);
/* How long a file is; 0: it is not there. */
uint64_t store_bytes(struct export *e, enum io_file file);

/* After store_look(): decides what to make of the files, given the origin's size
 * and fingerprint (NULL: it was not asked), creates and repairs them, fills
 * e->words. *all_dirty: no bit is known to be in the commit file. */
void store_open(struct export *e, uint64_t size_bytes, const struct fingerprint *fp, bool clear, bool *all_dirty);

/* ---- identity.c: whether these are the files that the last server has left. May block. ---- */

/* The machine has not gone down since the header was written, nor the file systems and disks of
 * image and bitmap; and it is that bitmap. */
bool identity_same_boot(const struct export *e);
/* Looks at the files; sets f->other and f->changed. */
void identity_look(const struct export *e, struct state_found *f);
/* The block is local, and no client has written near it: it has the origin's bytes. */
bool identity_is_origins(const struct export *e, uint64_t block);
/* The sample of this block as the image has it; 0: it cannot be read. buf: BLOCK_BYTES. Any thread. */
uint64_t identity_sample(const struct export *e, uint64_t block, uint8_t *buf);
/* Compares what the header knows of the image's bytes where they are the origin's. both: the
 * bitmap file was read, and is to be that of the header. NULL, or what is wrong. */
const char *identity_content(const struct export *e, bool both);
/* Fills in what the image has in the blocks of h->recent. Any thread, but one at a time. */
void identity_remember(const struct export *e, struct state_header *h);
/* The header knows these files, as files in use. */
void identity_set(struct export *e);
/* Syncs the files and tells h how they are left. 0 or errno. Any thread. */
int identity_leave(const struct export *e, struct state_header *h);
/* A header with this counter has been written over this descriptor. Any thread. */
void identity_stamp(int fd, uint64_t counter);

/* ---- header.c: the header of the commit file -------------------------------------------- */

/* The newest copy that is whole. NULL, or what is wrong: a few words. May block. */
const char *header_read(int fd, struct state_header *h);
/* Writes h, a counter larger than the last one, over this descriptor, and syncs it. 0 or
 * errno. May block. */
int header_write(int fd, const struct state_header *h);
/* e->header goes to the disk, by a worker; one write at a time, so that the other copy is
 * always whole. Then origin_header_saved() is called. A failure is one of a sync. Loop's
 * thread; does not wait. */
void header_save(struct export *e);
/* A good end: nothing is written any more, and all is committed. The header says so, and how
 * the files were left. In the same way. */
void header_finish(struct export *e);
/* Something may have changed. After a sync that failed: the next start, also of this boot, is to
 * trust only what was committed before. Else: what has come last from the origin is remembered, at
 * once and then every COMMIT_INTERVAL_MS. In the same way. */
void header_tick(struct export *e);

#endif
