/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The core: decides what happens to every block of the disk.
 *
 * A block is 4096 bytes (the last one may be short) and is missing or local. A block only moves forward through these
 * states:
 *
 *   missing -> bytes in the image -> bit set in memory -> bit in the bitmap file
 *           -> the exclusive range is released: everybody may use it
 *           -> image synced, bit in the commit file: survives power loss
 *
 * Requests enter with core_submit() and leave with port_reply(), exactly once.
 * What the core waits for comes back through done() of an io (disk) and the functions
 * below (origin, time). One thread makes all of these calls, none of them from inside a
 * port function, but for those that only look (const struct core) and core_conn_buffer().
 * Builds with sanitizers assert that. Seven functions may be called by any thread between core_new() and
 * core_delete(), at any moment: core_check(), core_is_outside(), core_is_proxy(), core_owner(), core_size_bytes(),
 * core_is_published() and core_wants_to_see(). Times are milliseconds of any monotonic clock.
 *
 * struct core is opaque; use the functions below to query it. Its members, and what the files of core/ call of each
 * other, are in internal.h.
 *
 * Files: map.c the bitmap; range.c block ranges in flight; request.c client requests; request_pieces.c long ones;
 * request_check.c what they may do and which blocks they need; fetch.c and fetch_conn.c requests to the origin;
 * job.c whose turn it is;
 * fetch_table.c which blocks are being fetched; fetch_store.c storing the replies; rtt.c response
 * times and fetch windows; copier.c the background copy; block_status.c BLOCK_STATUS; verify.c the
 * comparison with the origin; readahead.c read-ahead; trace.c and prefetch.c the boot trace;
 * written.c the record of client writes; commit.c the bitmap file and the commit file;
 * published.c what other threads may read;
 * state.c what a start makes of these files; core.c start, time; switch.c the switch; report.c what the
 * core tells of itself.
 */
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include "autoconf.h" /* ENABLE_x: what was configured */
#include "core/limits.h"
#include "core/map.h"
#include "core/ports.h"
#include "core/range.h"
#include "core/state.h"

struct trace_run; /* core/trace.h */

/* Marks a member that only core/ uses, although others provide its memory. The compiler warns about any other use,
 * unless internal.h is included. */
#ifndef CORE_PRIVATE
#define CORE_PRIVATE __attribute__((deprecated("private to core/")))
#endif

enum conn_slot { CONN_CLIENT, CONN_COPIER, CONNS };

enum job_state { JOB_IDLE, JOB_RUNNING, JOB_PAUSED, JOB_DONE, JOB_FAILED };

/* done() is called when everything that was complete at core_commit() is durable. Neither
 * it nor done() of struct persist may call core_ functions: they run inside one. */
struct commit_waiter {
	void (*done)(struct commit_waiter *w, int error); /* errno */
	struct commit_waiter *next CORE_PRIVATE;
};

/* For core/ alone. Called when the bits of [first, end) are in a file: bits of blocks in the bitmap file, or bits of
 * the record of client writes in the commit file. */
struct persist {
	void (*done)(struct persist *p, int error) CORE_PRIVATE; /* errno */
	struct persist *next CORE_PRIVATE;
	uint64_t first CORE_PRIVATE, end CORE_PRIVATE; /* blocks; or bits of the record */
	bool durable CORE_PRIVATE; /* the record: not before they are on the disk */
};

/*
 * One request of a client. The owner sets the first part, calls core_check() and,
 * when that says NBD_SUCCESS, core_submit(); it keeps the memory until port_reply().
 */
struct request {
	/* offset to flags: as in struct handed_request. */
	uint64_t offset; /* bytes */
	uint32_t length; /* bytes */
	uint16_t type;   /* NBD_CMD_x */
	uint16_t flags;  /* NBD_CMD_FLAG_x */
	const void *owner; /* whose it is: disk and origin are shared fairly between owners */
	void *buf;       /* READ: length bytes to fill, or NULL: the reply only says that its
			    blocks are local, and core_read() reads them; WRITE: the data;
			    BLOCK_STATUS: a struct extents to fill */
	uint32_t error;  /* result: an NBD error */
	const char *why; /* result of an NBD_EIO: its cause in a few words, static text; NULL (set by
			    the owner beforehand): the image, bitmap or commit file */
	/* The core's, which may also change offset and length. */
	uint8_t state CORE_PRIVATE;
	struct fetch *fetch CORE_PRIVATE;  /* the one it waits for */
	struct request *next CORE_PRIVATE; /* in that one's list of waiters */
	uint64_t scan CORE_PRIVATE;        /* no block it needs is missing before this one */
	uint64_t begun_ms CORE_PRIVATE;    /* when it came; zeroes and trims: when the current piece began */
	uint32_t rest CORE_PRIVATE;        /* zeroes and trims: bytes after that piece */
	struct core *core CORE_PRIVATE;
	struct range range CORE_PRIVATE;
	struct io io CORE_PRIVATE;
	struct persist persist CORE_PRIVATE;
	struct commit_waiter commit CORE_PRIVATE;
};

struct conn_state {
	bool up;
	bool can_status;      /* offers base:allocation */
	uint32_t unit_blocks; /* fetches are aligned to this many blocks; power of 2, <= 64 */
	uint32_t max_blocks;  /* largest fetch, 1..FETCH_BLOCKS_MAX, multiple of unit_blocks */
};

struct core_config {
	void *owner; /* what core_owner() returns: the disk, for the ports */
	uint64_t size_bytes;
	bool proxy;
	bool switched;         /* the proxy was switched, and is a target now */
	bool readonly;
	uint64_t *words;       /* proxy: the bitmap, owned by the caller, outlives the core */
	uint64_t *written;     /* proxy: written_bytes() bytes, owned by the caller, or NULL: no record is kept */
	uint64_t *published;   /* proxy: map_bytes() bytes of zeroes, owned by the caller, outlives the core; only
				  the core uses it. Or NULL: nothing is published before all blocks are */
	bool covered;          /* proxy: during port_switch() nobody may write */
	bool all_dirty;        /* proxy: no bit is in the commit file yet */
	bool notes_unsafe;     /* ... those of `written` are, and may not be on the disk */
	bool synced;           /* proxy: the image is: there is nothing to commit before somebody writes */
	uint64_t fetch_window; /* bytes of memory for what comes from the origin, 0 = FETCH_WINDOW_BYTES */
	bool fixed_window;     /* never grow it, not even over a connection with a delay */
	uint64_t hold_ms;
	uint64_t now_ms;
};

/* NULL: out of memory. */
struct core *core_new(const struct core_config *config);
/* Nothing may be in flight. c: may be NULL. */
void core_delete(struct core *c);
void *core_owner(const struct core *c);
/* Another fetch_window than in core_config. It may still be exceeded by what is in flight. */
void core_share(struct core *c, uint64_t fetch_window);

/*
 * Whether r may be done at all: NBD_SUCCESS, or the error to answer. In the order
 * of the protocol document: command, flags, permission, range. Pure. Any thread: what it
 * looks at never changes.
 */
uint32_t core_check(const struct core *c, const struct request *r);
/* Whether some of r lies outside of the disk. Any thread. */
bool core_is_outside(const struct core *c, const struct request *r);
/* Whether r, which core_check() passed, would have to wait for blocks from the origin. */
bool core_misses(const struct core *c, struct request *r);
/* Takes r, which core_check() passed. */
void core_submit(struct core *c, struct request *r);
/* Reads local blocks. r: a READ, or a part of one, with a buffer. Once a READ without a buffer was
 * answered, all its blocks are local, and they stay so. */
void core_read(struct core *c, struct request *r);

/*
 * Threads beside the core's: fronts, which answer READs of published blocks by themselves.
 *
 * Whether the blocks of these bytes are published: any thread may read them from the image without asking
 * the core, from now on and as long as c lives. Such a read takes no range: where it overlaps
 * a write in flight, it finds old or new bytes. All blocks of a disk that was a target from the beginning
 * are published; one of a proxy is from the moment on at which its bit is in the bitmap file, also after a switch.
 * A reply of core_submit() to a READ without a buffer does not say so, nor does core_map(): their blocks may
 * be local in memory only. Any thread. The bytes lie within the disk, and there is at least one: core_check() has said so.
 */
bool core_is_published(const struct core *c, uint64_t offset, uint32_t length);
/* Whether core_has_read() is to be called after a front has answered this READ: a trace is recorded, or
 * blocks that read-ahead may want, behind the READ, are not published. Only a hint. Any thread;
 * the bytes as for core_is_published(). */
bool core_wants_to_see(const struct core *c, uint64_t offset, uint32_t length);
/* A front has answered this READ, which core_check() passed, of blocks that were published: for the trace and
 * for read-ahead. The core's thread, at any time after the reply, in the order of the READs of one front. */
void core_has_read(struct core *c, uint64_t offset, uint32_t length);

/* The owner of r has gone. If r waits for blocks from the origin, it is answered now, with
 * NBD_ESHUTDOWN; else it ends as usual, soon. */
void core_abandon(struct core *c, struct request *r);
/* The owner of r has gone, and r may have been submitted: of long zeroes, or a long trim, no further
 * piece is begun. */
void core_curtail(struct request *r);
/* How many bytes of r, which is submitted and not answered, are still to be done, from r->offset on. Others may have
 * overwritten the part before. 0: r only waits for its commit. */
uint32_t core_rest(const struct request *r);
/* The last client has disconnected: the copy need not back off for it any longer. */
void core_alone(struct core *c);
/* From now on requests wait at most this long for a silent origin, 0 = forever; those that have already waited longer
 * get EIO now. Once one has timed out with no connection up, all others get EIO at once whenever no connection is up,
 * until the origin answers a request or a connection has lasted that long. */
void core_hold(struct core *c, uint64_t hold_ms);
uint64_t core_hold_ms(const struct core *c);

/* Sets the core's clock for the calls that follow. */
void core_now(struct core *c, uint64_t now_ms);
/* The same, and does what is due. To be called when core_deadline() has come, if not earlier. */
void core_tick(struct core *c, uint64_t now_ms);
/* When core_tick() has something to do, UINT64_MAX for never. */
uint64_t core_deadline(const struct core *c);

/* ---- the origin -------------------------------------------------------- */

void core_conn_up(struct core *c, unsigned conn, const struct conn_state *state);
/* What was sent over this connection and not answered is resent, over whichever connection is up next. */
void core_conn_down(struct core *c, unsigned conn);
/*
 * The buffer for the answer to a read that is out on this connection, or NULL when the
 * cookie was never asked (the connection must then be dropped). *length: its size.
 */
void *core_conn_buffer(struct core *c, unsigned conn, uint64_t cookie, uint64_t *offset, uint32_t *length);
/* The answer is complete (error 0) or the origin refuses it (errno). */
void core_conn_data(struct core *c, unsigned conn, uint64_t cookie, int error);
/* The reply to a status request: extents from its offset on. After an error the copier sends no
 * more of them, and a client is told "data". False: no such request is outstanding. */
bool core_conn_status(struct core *c, uint64_t cookie, int error, const struct extent *extents, unsigned count);

/* ---- the job: background copy ------------------------------------------- */

/* Starts the copy or lets it go on. max_blocks: largest request, 0 = default.
 * rate: bytes a second, 0 = unlimited. 0 or an errno (ENOLINK: switched, with blocks
 * missing). */
int core_job_start(struct core *c, uint32_t max_blocks, uint64_t rate);
bool core_job_pause(struct core *c);
bool core_job_resume(struct core *c);
void core_job_cancel(struct core *c);

/* ---- the boot trace -------------------------------------------------------- */

/* Records from now on what clients ask for, behind these runs of an earlier recording, which fit (core/trace.h). Of a target
 * there are only these. False: out of memory. */
bool core_record(struct core *c, const struct trace_run *run, unsigned runs);
/* What core_record() and core_prefetch() are to be given by a program that replaces this one: the runs so far; all runs that
 * are fetched, of which some are here. NULL: nothing is recorded, or fetched, any more. Valid until the next call. */
const struct trace_run *core_recorded(const struct core *c, unsigned *runs);
const struct trace_run *core_prefetched(const struct core *c, unsigned *runs);
/* Writes the trace so far to `to`, as text (core/trace.h; room for TRACE_BYTES_MAX), if it has grown
 * since the last call. Returns its length; 0: it has not. */
size_t core_record_text(struct core *c, char *to);
/* Whether it may still grow, or has grown since. A switch ends a recording. */
bool core_is_recording(const struct core *c);
/* Forgets the trace. */
void core_record_end(struct core *c);
/* Fetches these blocks, in this order, ahead of the copy; they must lie within the disk.
 * False: out of memory. */
bool core_prefetch(struct core *c, const struct trace_run *run, unsigned runs);

/* ---- comparison with the origin ------------------------------------------- */

/*
 * Starts comparing what is local now and not written by clients; what becomes local
 * meanwhile may or may not be compared. rate: as for the copy. If a comparison is already
 * running, it goes on, at this rate.
 * 0 or an errno (ENOLINK: there is no origin any more; ENOMEM).
 */
int core_verify(struct core *c, uint64_t rate);
void core_verify_cancel(struct core *c);
bool core_verify_is_running(const struct core *c);

/* Marks this record of client writes, of a disk of this size, as incomplete: the writers of the blocks that are local
 * now are unknown. */
void written_forget(uint64_t *written, uint64_t size_bytes);
/* True if the record is not marked so. Otherwise all blocks that are local according to `local` are recorded as
 * written. */
bool written_from_local(uint64_t *written, const uint64_t *local, uint64_t size_bytes);

/* ---- durability and switch ---------------------------------------------- */

/* A sync outside of the core failed: it counts as one of ours. */
void core_sync_failed(struct core *c, int error);
/* The commit file tells the next start that a sync has failed, or cannot be written: the error may be answered. May be called
 * again. */
void core_sync_told(struct core *c);
/* Whether that has happened, or one of the core's own syncs has failed: latched forever. */
bool core_sync_has_failed(const struct core *c);
/* Whether a sync has failed, or a write to the bitmap: the cache cannot be trusted. */
bool core_has_failed(const struct core *c);
/* w->done() when everything answered so far survives power loss. */
void core_commit(struct core *c, struct commit_waiter *w);
/* Whether nothing is under way that could still write to the files. */
bool core_is_quiet(const struct core *c);
/* How many fetches were stored so far, with their bits in the bitmap file. The last STATE_RECENT of
 * them go to `recent`, or NULL. */
unsigned core_recent(const struct core *c, struct state_recent *recent);

/*
 * Switches from proxy to target. NULL: w->done() gets the result (0: switched, or already
 * a target), perhaps before this returns. Else why it is refused: one line; w is not used.
 * force: even with blocks missing; reads of these get EIO from then on.
 *
 * Unless the switch is refused, the blocks that are local now are never compared with the origin again: they may be
 * written without a note. That fact is synced before anything else, and stays even if the switch fails.
 */
const char *core_switch(struct core *c, bool force, struct commit_waiter *w);
/* Whether one is not done yet. */
bool core_is_switching(const struct core *c);
/* The result of port_switch(): 0, or an errno; after an error the disk is still a proxy, and still covered if it was. */
void core_switched(struct core *c, int error);

/* Nobody writes to the image from frozen() on until core_thaw(): writes wait. */
struct freeze {
	void (*frozen)(struct freeze *f); /* called once, perhaps from inside core_freeze() */
	struct range range CORE_PRIVATE;
};
void core_freeze(struct core *c, struct freeze *f);
void core_thaw(struct core *c, struct freeze *f);

/* ---- what it tells of itself ---------------------------------------------- */

/* Any thread. */
uint64_t core_size_bytes(const struct core *c);
/* False: a target, from the beginning or since a switch. */
bool core_is_proxy(const struct core *c);
/* Which blocks are local: for reading. Valid as long as c. */
const struct map *core_map(const struct core *c);

struct copy_status {
	enum job_state state;
	int error;           /* why it failed: errno of the last failure, 0 = none */
	uint64_t found;      /* local blocks when it began */
	uint64_t rate_limit; /* bytes a second, 0 = none */
	uint64_t rate;       /* bytes a second, lately */
};

struct verify_status {
	enum job_state state; /* FAILED: something differs, or could not be compared */
	int error;           /* the last failure: errno, 0 = none */
	uint64_t compared, different; /* blocks */
	uint64_t written;    /* blocks left out, since a client has written there */
	uint64_t unreadable; /* blocks that the origin could not read */
	uint64_t first;      /* the first byte that differs */
	uint64_t rate_limit; /* bytes a second, 0 = none */
	uint64_t rate;       /* bytes a second, lately */
};

/* All that is shown to users. Times are of the core's clock. */
struct core_status {
	unsigned in_flight;    /* requests not yet answered */
	unsigned waiting;      /* requests that wait for the origin */
	uint64_t waited;       /* how many had to, ever */
	uint64_t commits;      /* so far that ended well */
	uint64_t committed_ms; /* when the last of them did */
	const char *first_error_what; /* static text, NULL: nothing went wrong yet */
	int first_error;              /* errno */
	struct copy_status copy;
	uint64_t copy_eta_s;   /* seconds until it ends, UINT64_MAX = unknown */
	struct verify_status verify;
	uint64_t verify_eta_s;
	uint64_t looked_at;    /* by the comparison: all blocks before this one */
	uint64_t comparable;   /* the total for verify.compared: all local blocks, except those known to have been
				  written by clients. If it is no larger, nothing was left out */
	bool partial;          /* the comparison found nothing wrong, but left out blocks that it should have
				  compared, or compared none at all */
	bool writers_known;    /* the comparison knew which blocks clients had written */
};
void core_status(const struct core *c, struct core_status *s);

#endif
