/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The core: decides what happens to every block of the disk.
 *
 * A block is 4096 bytes (the last one may be short) and is missing or local. The
 * life of a block is a one-way street:
 *
 *   missing -> bytes in the image -> bit set in memory -> bit in the bitmap file
 *           -> the exclusive range is released: everybody may use it
 *           -> image synced, bit in the commit file: survives power loss
 *
 * Requests enter with core_submit() and leave with port_reply(), exactly once.
 * What the core waits for comes back through done() of an io (disk) and the functions
 * below (origin, time). One thread makes all of these calls, none of them from inside a
 * port function. Times are milliseconds of any monotonic clock.
 *
 * Files: map.c the bitmap; range.c block ranges in flight; request.c client requests;
 * fetch.c requests to the origin; fetch_store.c storing its replies; way.c response times
 * and fetch windows; copier.c the background copy; status.c BLOCK_STATUS; verify.c the
 * comparison with the origin; readahead.c read-ahead; trace.c and prefetch.c the boot trace;
 * written.c the record of client writes; commit.c the bitmap file and the commit file;
 * state.c what a start makes of these files; core.c start, time, switch.
 */
#ifndef CORE_CORE_H
#define CORE_CORE_H

#include "autoconf.h" /* ENABLE_x: what was configured */
#include "core/limits.h"
#include "core/map.h"
#include "core/ports.h"
#include "core/range.h"
#include "core/state.h"
#include "core/trace.h"

enum link_slot { LINK_CLIENT, LINK_COPIER, LINKS };

enum core_mode { MODE_TARGET, MODE_PROXY };

enum job_state { JOB_IDLE, JOB_RUNNING, JOB_PAUSED, JOB_DONE, JOB_FAILED };

/* done() is called when everything that was complete at core_commit() is durable. Neither
 * it nor done() of struct persist may call core_ functions: they run inside one. */
struct commit_waiter {
	void (*done)(struct commit_waiter *w, int error); /* errno */
	struct commit_waiter *next;
};

/* Called when the bits of [first, end) are in a file: those of blocks in the bitmap, or what was
 * noted of clients' writes in the commit file. */
struct persist {
	void (*done)(struct persist *p, int error); /* errno */
	struct persist *next;
	uint64_t first, end; /* blocks; or bits of the record */
	bool durable;        /* the record: not before they are on the disk */
};

/*
 * One request of a client. The owner sets the first part, calls core_check() and,
 * when that says NBD_SUCCESS, core_submit(); it keeps the memory until port_reply().
 */
struct request {
	uint64_t offset; /* bytes */
	const void *owner; /* whose it is: the disk is shared fairly between owners */
	void *buf;       /* READ: length bytes to fill, or NULL: the reply only says that its
			    blocks are local, and core_read() reads them; WRITE: the data;
			    BLOCK_STATUS: a struct extents to fill */
	uint32_t length; /* bytes */
	uint32_t error;  /* result: an NBD error */
	const char *why; /* result of an NBD_EIO: its cause in a few words, static text; NULL (set by
			    the owner beforehand): the image, bitmap or commit file */
	uint16_t type;   /* NBD_CMD_x */
	uint16_t flags;  /* NBD_CMD_FLAG_x */
	/* private to the core, which may also change offset and length */
	uint8_t state;
	struct fetch *fetch;  /* the one it waits for */
	struct request *next; /* in that one's list of waiters */
	uint64_t scan;        /* no block it needs is missing before this one */
	uint64_t begun_ms;    /* when it came; zeroes and trims: when the current piece began */
	uint32_t rest;        /* zeroes and trims: bytes after that piece */
	struct core *core;
	struct range range;
	struct io io;
	struct persist persist;
	struct commit_waiter commit;
};

struct link_state {
	bool up;
	bool can_status;      /* offers base:allocation */
	uint32_t unit_blocks; /* fetches are aligned to this many blocks; power of 2, <= 64 */
	uint32_t max_blocks;  /* largest fetch, 1..FETCH_BLOCKS_MAX, multiple of unit_blocks */
};

struct copier {
	enum job_state state;
	uint64_t cursor;      /* block: everything before was looked at in this pass */
	uint64_t pass_local;  /* local blocks when the pass began */
	bool at_end;          /* the walk is done: what was asked for until then is waited for */
	uint64_t found;       /* local blocks when the job began */
	unsigned in_flight;   /* its fetches and zeroings */
	uint32_t run_blocks;  /* longest fetch it makes */
	uint32_t max_blocks;  /* what the user allows */
	uint64_t status_cookie; /* 0: no status request is outstanding */
	unsigned status_link;   /* ... sent over this link */
	uint64_t status_block;  /* ... to learn about this block */
	uint64_t status_start;  /* ... from this byte on; map_start may be reset meanwhile */
	bool status_broken;   /* a reply was an error, or useless: send no more of them */
	uint64_t map_start, map_end; /* bytes that `map` covers, from map_next on */
	unsigned map_next;    /* the extent that begins at map_start */
	struct extents map;
	int error;            /* why it failed: errno of the last failure, 0 = none */
	int pass_error;       /* the same, of this pass */
	uint64_t rate_limit;  /* bytes a second, 0 = none */
	int64_t tokens;       /* bytes that may be asked for now, with rate_limit */
	uint64_t tokens_ms;   /* when tokens were last added */
	uint64_t sample_ms, sample_local; /* for the rate */
	uint64_t rate;        /* bytes a second, lately */
};

/* What is left of the trace that is fetched ahead. */
struct prefetch {
	struct trace_run *run; /* NULL: none */
	unsigned runs, next;
	uint64_t cursor; /* block of the next run: what lies before was looked at */
};

/* A sequential reader. */
struct stream {
	uint64_t next;   /* the block after its last READ; 0: unused */
	uint64_t end;    /* block: everything before it was asked for */
	uint64_t blocks; /* how far it is read ahead; 0: it was seen only once */
	uint64_t used;   /* readahead.reads at its last READ */
};

/* What is fetched ahead of clients, see readahead.c. */
struct readahead {
	struct stream stream[READAHEAD_STREAMS];
	uint64_t reads;     /* number of READs so far */
	unsigned answers;   /* replies to clients' fetches in this sample */
	uint64_t sum_ms;    /* ... the total of their response times */
	uint64_t begun_ms;  /* ... when the first of them came */
	uint64_t most;      /* blocks: how far to read ahead at most; more would only queue */
	uint64_t since;     /* the last cookie when `most` was cut: fetches up to it do not cut it again */
	uint64_t narrow_us; /* mean response time of the last sample without wide fetches */
	unsigned rest;      /* samples to go until fetches may be wide, that is, bring surrounding
			       blocks too; at least one, to measure narrow_us */
};

/* The comparison with the origin of what is local and no client has written. */
struct verify {
	enum job_state state; /* FAILED: something differs, or could not be compared */
	uint64_t cursor;      /* block: everything before was looked at, or is in flight */
	unsigned in_flight;   /* its fetches, until they are compared */
	bool stale;           /* they belong to a comparison that has ended, and are ignored */
	struct fetch *arrived, **arrived_tail; /* answered, not compared yet */
	struct fetch *comparing;
	uint8_t *buf;         /* what the image has, beside what the origin has */
	uint64_t local;       /* blocks that were local when it began */
	uint64_t compared, different; /* blocks */
	uint64_t written;     /* blocks left out, since a client has written there */
	uint64_t unreadable;  /* blocks that the origin could not read */
	uint64_t first;       /* the first byte that differs */
	int error;            /* the last failure: errno, 0 = none */
	uint64_t rate_limit;  /* bytes a second, 0 = none */
	uint64_t next_us;     /* not to ask before this time, with rate_limit */
	uint64_t sample_ms, sample_cursor; /* for the rate */
	uint64_t rate;        /* bytes a second, lately */
};

/* The record of what clients have written, see written.c. */
enum { NOTE_WRITE, NOTE_SYNC, NOTE_STAGES };

struct written {
	struct map map;    /* one bit per WRITTEN_BLOCKS blocks, then one more: if set, nobody knows
			      who wrote what is local. words NULL: no record is kept */
	uint64_t *safe;    /* those of its bits that are known to be on the disk */
	struct persist *next[NOTE_STAGES], **tail[NOTE_STAGES]; /* waiting for a stage to begin */
	struct persist *now[NOTE_STAGES];                       /* in the stage that is running */
	struct io write, sync;
	uint8_t *buf;      /* the chunk that is being written */
	uint64_t chunk;    /* the next to be looked at */
	/* Counts of set bits: taken by the running write, in the file since the last good one; covered
	 * by the running sync, durable since the last good one. */
	uint64_t taken, in_file, covered, durable;
	int error; /* it cannot be written: latched, writes that need a note fail */
};

enum commit_state { COMMIT_IDLE, COMMIT_SYNC_IMAGE, COMMIT_SYNC_NOTES, COMMIT_WRITE, COMMIT_SYNC_FILE };

struct commit {
	enum commit_state state;
	struct commit_waiter *now, *next, **next_tail;
	struct commit_waiter timer;
	struct io io;
	struct persist note;  /* waits for a sync of the commit file */
	uint8_t *snapshot;    /* COMMIT_CHUNKS_MAX chunks, and the one that written.c writes */
	uint64_t *chunk;      /* their numbers */
	unsigned chunks, written;
	uint64_t cursor;      /* first chunk that the running commit did not look at */
	bool image_dirty;     /* the image was written since the last sync began */
	uint64_t last_ms;     /* when the last commit ended well (or the core began) */
	uint64_t count;       /* commits so far that ended well */
	int error;            /* a sync failed: latched for ever */
};

/* How far away the origin is, in time: measured by fetches over the links that are up now. */
struct way {
	uint64_t least_ms; /* the shortest response time; UINT64_MAX: no reply yet */
	uint64_t slow_ms;  /* the shortest of the last `slow`, all of them slow although the link was idle */
	unsigned slow;
};

struct core {
	enum core_mode mode;
	bool readonly;
	uint64_t size_bytes;
	uint64_t now_ms;
	struct map map;
	struct range_table ranges;
	struct range *granted; /* ranges granted, their owners not told yet */
	struct range **granted_tail;
	bool kick; /* there may be something to commit, fetch, copy or compare: for core_run() */

	struct fetch *fetches[FETCH_HASH];
	unsigned fetch_count;              /* how many are in the table */
	unsigned fetch_pass, fetch_old;    /* walks of the copy that have ended; how many in the table
					      were begun before the last one ended */
	struct fetch *queue[LINKS], **queue_tail[LINKS]; /* to be sent: one list per kind, by age */
	struct fetch *sent[LINKS], **sent_tail[LINKS]; /* sent: one list per link, by age */
	uint64_t last_cookie;
	uint64_t fetch_bytes[LINKS];  /* memory of those sent or being stored, per kind */
	uint64_t fetch_window[LINKS]; /* limits of the above */
	uint64_t copy_window, copy_window_max; /* of the copier's: at first, and at most */
	uint64_t client_window_max; /* of the clients' */
	uint64_t copy_since; /* fetches up to this cookie may have come over a link that is lost: not measured */
	struct state_recent recent[STATE_RECENT]; /* the last blocks fetched, with their bits in the bitmap
						     file. sample: 0 = unused, else computed later */
	unsigned recents; /* number of these so far */
	struct query *queries; /* status requests sent for clients, see status.c */
	struct way way[LINKS]; /* per kind: clients' fetches are smaller, and timed before they are stored */
	struct link_state link[LINKS];
	uint64_t answered_ms; /* when the origin last answered anything */
	uint64_t hold_ms; /* how long requests wait for an origin that is silent, 0 = for ever */
	bool lost;        /* one has waited that long with no link up, and nothing was answered since: no request waits
			     while no link is up */

	uint64_t zero_blocks; /* length of a piece of zeroes, or of a trim */

	struct persist *persist_next, **persist_tail, *persist_now, *persist_cursor;
	uint64_t persist_word, persist_end; /* words that are still to be written of what is under way */
	uint64_t *persist_copy; /* a chunk of them, while they are written */
	struct io persist_io;
	int bitmap_error; /* the bitmap file cannot be written: latched, writes fail */

	struct commit commit;
	struct written written;
	struct persist switch_note;
	struct commit_waiter switch_commit, *switch_waiters;
	struct copier copier;
	struct prefetch prefetch;
	struct trace trace;
	struct readahead readahead;
	struct verify verify;

	unsigned in_flight; /* requests not yet answered */
	unsigned waiting;   /* ... of which wait for the origin */
	uint64_t waited;    /* how many had to, ever */
	uint64_t waited_ms; /* when the last one did */
	const char *first_error_what; /* static text, NULL when nothing went wrong yet */
	int first_error;              /* errno */
};

struct core_config {
	uint64_t size_bytes;
	bool proxy;
	bool readonly;
	uint64_t *words;       /* proxy: the bitmap, owned by the caller, outlives the core */
	uint64_t *written;     /* proxy: written_bytes() bytes, owned by the caller, or NULL: no record is kept */
	bool all_dirty;        /* proxy: no bit is in the commit file yet */
	uint64_t fetch_window; /* bytes of memory for what comes from the origin, 0 = FETCH_WINDOW_BYTES */
	bool fixed_window;     /* never grow it, not even over a link with a delay */
	uint64_t hold_ms;
	uint64_t now_ms;
};

/* Prepares c (zeroed by the caller). False: out of memory. */
bool core_init(struct core *c, const struct core_config *config);
/* Whether core_init() was called: before that, all of c is zero, and its mode means nothing. */
static inline bool core_has_begun(const struct core *c)
{
	return c->granted_tail;
}
/* Frees what core_init() allocated. Nothing may be in flight. */
void core_free(struct core *c);

/*
 * Whether r may be done at all: NBD_SUCCESS, or the error to answer. In the order
 * of the protocol document: command, flags, permission, range. Pure.
 */
uint32_t core_check(const struct core *c, const struct request *r);
/* Whether some of r lies outside of the disk. */
bool core_is_outside(const struct core *c, const struct request *r);
/* Whether r, which core_check() passed, would have to wait for blocks from the origin. */
bool core_misses(const struct core *c, struct request *r);
/* Takes r, which core_check() passed. */
void core_submit(struct core *c, struct request *r);
/* Reads local blocks. r: a READ, or a part of one, with a buffer. Once a READ without a buffer was
 * answered, all its blocks are local, and they stay so. */
void core_read(struct core *c, struct request *r);
/* The owner of r has gone. If r waits for blocks from the origin, it is answered now, with
 * NBD_ESHUTDOWN; else it ends as usual, soon. */
void core_abandon(struct core *c, struct request *r);
/* The last client has disconnected: the copy need not stand back for it any longer. */
void core_alone(struct core *c);
/* From now on requests wait at most this long for a silent origin, 0 = for ever; those that have
 * already waited longer get EIO now. Once one has timed out with no link up, all others get EIO at
 * once whenever no link is up, until the origin answers a request. */
void core_hold(struct core *c, uint64_t hold_ms);

/* Sets the core's clock for the calls that follow. */
void core_now(struct core *c, uint64_t now_ms);
/* The same, and does what is due. To be called when core_deadline() has come, if not earlier. */
void core_tick(struct core *c, uint64_t now_ms);
/* When core_tick() has something to do, UINT64_MAX for never. */
uint64_t core_deadline(const struct core *c);

/* ---- the origin -------------------------------------------------------- */

void core_link_up(struct core *c, unsigned link, const struct link_state *state);
/* What was sent over this link and not answered is sent again, over whichever link is up next. */
void core_link_down(struct core *c, unsigned link);
/*
 * The buffer for the answer to a read that is out on this link, or NULL when the
 * cookie was never asked (the link must then be dropped). *length: its size.
 */
void *core_link_buffer(struct core *c, unsigned link, uint64_t cookie, uint64_t *offset, uint32_t *length);
/* The answer is complete (error 0) or the origin refuses it (errno). */
void core_link_data(struct core *c, unsigned link, uint64_t cookie, int error);
/* The reply to a status request: extents from its offset on. After an error the copier sends no
 * more of them, and a client is told "data". False: no such request is outstanding. */
bool core_link_status(struct core *c, uint64_t cookie, int error, const struct extent *extents, unsigned count);

/* ---- the job: background copy ------------------------------------------- */

/* Starts the copy or lets it go on. max_blocks: largest request, 0 = default.
 * rate: bytes a second, 0 = unlimited. 0 or an errno (ENOLINK: switched, with blocks
 * missing). */
int core_job_start(struct core *c, uint32_t max_blocks, uint64_t rate);
bool core_job_pause(struct core *c);
bool core_job_resume(struct core *c);
void core_job_cancel(struct core *c);
/* Seconds until the copy ends, UINT64_MAX when unknown. */
uint64_t core_job_eta_s(const struct core *c);

/* ---- the boot trace -------------------------------------------------------- */

/* Records from now on what clients ask for. False: out of memory. */
bool core_record(struct core *c);
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
/* Seconds until it ends, UINT64_MAX when unknown. */
uint64_t core_verify_eta_s(const struct core *c);
/* The total for verify.compared: all local blocks, except those known to have been written by
 * clients. If it is no larger than verify.compared, nothing was left out. */
uint64_t core_verify_comparable(const struct core *c);
/* The last comparison found nothing wrong, but left out blocks that it should have compared, or
 * compared none at all. */
bool core_verify_is_partial(const struct core *c);

/* Marks this record of client writes, of a disk of this size, as incomplete: nobody knows who wrote
 * what is local now. */
void written_forget(uint64_t *written, uint64_t size_bytes);
/* True: the record is not marked so. Else all blocks that are local according to the words `local`
 * are entered as written. */
bool written_from_local(uint64_t *written, const uint64_t *local, uint64_t size_bytes);

/* ---- durability and switch ---------------------------------------------- */

/* A sync outside of the core failed: it counts as one of ours. */
void core_sync_failed(struct core *c, int error);
/* w->done() when everything answered so far survives power loss. */
void core_commit(struct core *c, struct commit_waiter *w);

/*
 * Switches from proxy to target. NULL: w->done() gets the result (0: switched, or already
 * a target), perhaps before this returns. Else why it is refused: one line; w is not used.
 * force: even with blocks missing; reads of these get EIO from then on.
 */
const char *core_switch(struct core *c, bool force, struct commit_waiter *w);

/* Nobody writes to the image from frozen() on until core_thaw(): writes wait. */
struct freeze {
	void (*frozen)(struct freeze *f); /* called once, perhaps from inside core_freeze() */
	struct range range;               /* for the core */
};
void core_freeze(struct core *c, struct freeze *f);
void core_thaw(struct core *c, struct freeze *f);

/* ---- between the files of core/ ------------------------------------------ */

void core_run(struct core *c);
void core_note_error(struct core *c, const char *what, int error);

/* request.c: the fetch that r waited for has ended; r no longer waits for any. */
void request_resume(struct core *c, struct request *r, int error);

void request_reply(struct core *c, struct request *r, uint32_t error);
/* r, a BLOCK_STATUS, needs nothing but the image: looks for data there. */
void request_look(struct core *c, struct request *r);

/* status.c */
void status_begin(struct core *c, struct request *r);
/* False: it is no answer to a client's question. */
bool status_answered(struct core *c, uint64_t cookie, int error, const struct extent *e, unsigned count);
void status_link_lost(struct core *c, unsigned link);
void status_expire(struct core *c);
/* If r, a BLOCK_STATUS, waits for the origin, answers it now: what is missing is data. */
void status_abandon(struct core *c, struct request *r);

/* Zeroes, or a trim, of this many blocks took this long: sets the length of the next piece. */
void zero_measure(struct core *c, uint64_t blocks, uint64_t ms);

/* fetch.c */
struct fetch *fetch_find(const struct core *c, uint64_t block);
void fetch_missing(struct core *c, uint64_t first, uint64_t end, bool wide);
bool fetch_ahead(struct core *c, uint64_t first, uint64_t end);
bool fetch_next_run(const struct core *c, uint64_t first, uint64_t end, const struct link_state *link,
		    uint32_t max_blocks, uint64_t *run_first, uint64_t *run_end);
void fetch_wait(struct fetch *f, struct request *r);
void fetch_unwait(struct fetch *f, struct request *r);
void fetch_forget(struct core *c);
void fetch_copy(struct core *c, uint64_t first, uint64_t end);
void fetch_zero(struct core *c, uint64_t first, uint64_t end);
void fetch_fail_queued(struct core *c, int error);
void fetch_answered(struct core *c);
void fetch_expire(struct core *c);
void fetch_pump(struct core *c);
bool fetch_is_queued(const struct core *c);
void fetch_link_lost(struct core *c, unsigned link);
const struct link_state *fetch_link(const struct core *c, unsigned kind, unsigned *slot);

bool fetch_verify(struct core *c, uint64_t first, uint64_t end);
void fetch_compared(struct core *c, struct fetch *f, int error);

/* written.c */
bool written_init(struct core *c, uint64_t *words);
void written_free(struct core *c);
/* Notes that a client is about to write blocks [first, end), under an exclusive range. True: the
 * write may begin at once. Else p->done() is called when it may, or with an error. */
bool written_note(struct core *c, struct persist *p, uint64_t first, uint64_t end);
/* p->done() is called when what is in the commit file now, and all notes, are on the disk. */
void written_sync(struct core *c, struct persist *p);
/* The same, after marking the record as written_forget() does. */
void written_lose(struct core *c, struct persist *p);
bool written_is_known(const struct core *c);
/* The first run of blocks in [first, end) that no client has written. *run_end: its end, or
 * `end`. */
uint64_t written_next(const struct core *c, uint64_t first, uint64_t end, uint64_t *run_end);
void written_kick(struct core *c);

/* verify.c */
void verify_pump(struct core *c);
void verify_arrived(struct core *c, struct fetch *f);
bool verify_fetch_done(struct core *c, struct fetch *f, int error, bool of_origin);
void verify_tick(struct core *c);
uint64_t verify_deadline(const struct core *c);

/* copier.c */
void copier_link_want(struct core *c);
void copier_pump(struct core *c);
void copier_fetch_done(struct core *c, int error, bool local_error);
/* A client's fetch of these blocks has failed; old: it was begun before the copy's walk was done. */
void copier_client_failed(struct core *c, uint64_t first, uint64_t end, bool old);
void copier_tick(struct core *c);
uint64_t copier_deadline(const struct core *c);
void copier_link_down(struct core *c, unsigned link);
void copier_stop(struct core *c, enum job_state state);

/* way.c */
/* Whether ms is much more than the shortest response time: such a fetch has met a queue. */
bool way_is_slow(const struct way *w, uint64_t ms);
/* A fetch took ms. little: not much else was in flight, which would explain a slow one. */
void way_note(struct way *w, uint64_t ms, bool little);
/* f, of the copier, is stored: adapts the copier's window to what it tells of the link. */
void way_window_follow(struct core *c, const struct fetch *f);
/* Whether copy and comparison must keep to one fetch in flight, for the clients' sake. */
bool way_stands_back(const struct core *c);
/* Bytes that may be under way for clients. */
uint64_t way_client_window(const struct core *c);
/* Forgets the measurements: the next link may be another one. */
void way_reset(struct core *c);

/* readahead.c */
/* A client reads [first, end). missed: it has to wait for a missing block. */
void readahead_read(struct core *c, uint64_t first, uint64_t end, bool missed);
/* Whether a READ that misses a block should fetch the blocks around it too. */
bool readahead_is_wide(const struct core *c);
/* A fetch of kind LINK_CLIENT was answered; its memory still counts. */
void readahead_answered(struct core *c, const struct fetch *f);
/* A wide fetch has hit a bad sector, which may have taken seconds: no wide fetches for a while, lest
 * reads of its neighbours hit it too. */
void readahead_failed(struct core *c);
/* After way_reset(): measures the link anew. */
void readahead_reset(struct core *c);

/* prefetch.c */
bool prefetch_pump(struct core *c);
bool prefetch_is_on(const struct core *c);
void prefetch_stop(struct core *c);

/* commit.c */
void persist_add(struct core *c, struct persist *p);
void commit_init(struct core *c);
void commit_kick(struct core *c);
void commit_tick(struct core *c);
uint64_t commit_deadline(const struct core *c);

#endif
