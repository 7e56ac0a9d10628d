/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The insides of the core: its members, and what its files call of each other. For the files of core/,
 * which include it instead of core.h, and for its tests. The core's thread.
 */
#ifndef CORE_INTERNAL_H
#define CORE_INTERNAL_H

#define CORE_PRIVATE /* that is: public, here */
#include "core/core.h"
#include "core/trace.h"
#include "libbb/container_of.h"

enum core_mode { MODE_TARGET, MODE_PROXY };

struct copier {
	struct copy_status status;
	uint64_t cursor;      /* block: everything before was looked at in this pass */
	uint64_t pass_local;  /* local blocks when the pass began */
	bool at_end;          /* the walk is done: what was asked for until then is waited for */
	unsigned in_flight;   /* its fetches and zeroings */
	uint32_t run_blocks;  /* longest fetch it makes */
	uint32_t max_blocks;  /* what the user allows */
	uint64_t status_cookie; /* 0: no status request is outstanding */
	unsigned status_conn;   /* the connection that it was sent over */
	uint64_t status_block;  /* the block that it is to tell about */
	uint64_t status_start;  /* the byte that it asks from; map_start may be reset meanwhile */
	bool status_broken;   /* a reply was an error, or useless: send no more of them */
	uint64_t map_start, map_end; /* bytes that `map` covers, from map_next on */
	unsigned map_next;    /* the extent that begins at map_start */
	struct extents map;
	int pass_error;       /* status.error, of this pass alone */
	int64_t tokens;       /* bytes that may be asked for now, with rate_limit */
	uint64_t tokens_ms;   /* when tokens were last added */
	uint64_t sample_ms, sample_local; /* for the rate */
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
	uint64_t sum_ms;    /* the total response time of these */
	uint64_t begun_ms;  /* when the first of these came */
	uint64_t most;      /* blocks: how far to read ahead at most; more would only queue */
	uint64_t since;     /* the last cookie when `most` was cut: fetches up to it do not cut it again */
	uint64_t single_us; /* mean response time of the last sample without wide fetches */
	unsigned rest;      /* samples to go until fetches may be wide, that is, bring surrounding
			       blocks too; at least one, to measure single_us */
};

/* The comparison with the origin of what is local and no client has written. */
struct verify {
	struct verify_status status;
	uint64_t cursor;      /* block: everything before was looked at, or is in flight */
	unsigned in_flight;   /* its fetches, until they are compared */
	bool rests;           /* until the next core_tick() */
	bool stale;           /* they belong to a comparison that has ended, and are ignored */
	struct fetch *arrived, **arrived_tail; /* answered, not compared yet */
	struct fetch *comparing;
	uint8_t *buf;         /* what the image has, beside what the origin has */
	uint64_t local;       /* blocks that were local when it began */
	bool writers_known;   /* written_is_known() when `state` changed: later, a switch may forget the writers,
				 which does not undo a comparison */
	uint64_t next_us;     /* not to ask before this time, with rate_limit */
	uint64_t sample_ms, sample_cursor; /* for the rate */
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

enum commit_state { COMMIT_IDLE, COMMIT_SYNC_IMAGE, COMMIT_SYNC_NOTES, COMMIT_WRITE, COMMIT_SYNC_FILE, COMMIT_NOT_TOLD };

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
	int error;            /* a sync failed: latched forever */
	bool told;            /* ... and the next start knows, as far as it can: the error may be answered */
};

/* The round-trip time to the origin, measured by fetches over the current connections. */
struct rtt {
	uint64_t min_rtt_ms; /* the shortest response time; UINT64_MAX: no reply yet */
	uint64_t slow_ms;  /* the shortest of the last `slow` response times, all slow although the connection was idle */
	unsigned slow;
};

struct core {
	void *owner;
	enum core_mode mode; /* read by any thread */
	bool readonly, covered;
	uint64_t size_bytes;
	uint64_t now_ms;
	struct map map;
	struct range_locks ranges;
	struct range *granted; /* granted ranges whose granted() was not called yet */
	struct range **granted_tail;
	bool kick; /* there may be something to commit, fetch, copy or compare: for core_run() */

	struct fetch *fetches[FETCH_HASH];
	unsigned fetch_count;              /* how many are in the table */
	unsigned fetch_pass, fetch_old;    /* walks of the copy that have ended; how many in the table
					      were begun before the last one ended */
	struct job *queue[CONNS]; /* fetches to be sent, by io.job: one queue per kind */
	struct fetch *sent[CONNS], **sent_tail[CONNS]; /* sent: one list per connection, by age */
	uint64_t last_cookie;
	uint64_t fetch_bytes[CONNS];  /* memory of those sent or being stored, per kind */
	uint64_t fetch_window[CONNS]; /* limits of the above */
	uint64_t copy_window, copy_window_max; /* of the copier's: at first, and at most */
	uint64_t client_window_max; /* of the clients' */
	uint64_t copy_since; /* fetches up to this cookie may have come over a connection that is lost: not measured */
	struct state_recent recent[STATE_RECENT]; /* the last blocks fetched, with their bits in the bitmap
						     file. sample: 0 = unused, else computed later */
	unsigned recents; /* number of these so far */
	struct query *queries; /* status requests sent for clients, see block_status.c */
	struct rtt rtt[CONNS]; /* per kind: clients' fetches are smaller, and timed before they are stored */
	struct conn_state conn[CONNS];
	uint64_t conn_up_ms[CONNS];
	uint64_t answered_ms; /* when the origin last answered anything */
	uint64_t hold_ms; /* how long requests wait for an origin that is silent, 0 = forever */
	bool lost;        /* one has waited that long with no connection up; since then nothing was answered, and no connection
			     has lasted as long: no request waits while no connection is up */

	uint64_t zero_blocks; /* length of a piece of zeroes, or of a trim */
	bool no_trims; /* the disk has said that it cannot, whatever it is asked for */

	struct persist *persist_next, **persist_tail, *persist_now, *persist_cursor;
	uint64_t persist_word, persist_end; /* words that are still to be written of what is under way */
	uint64_t *persist_copy; /* a chunk of them, while they are written */
	struct io persist_io;
	int bitmap_error; /* the bitmap file cannot be written: latched, writes fail */

	struct commit commit;
	struct written written;
	struct persist switch_note;
	struct commit_waiter switch_commit, *switch_waiters;
	struct freeze switch_freeze;
	bool switch_whole; /* it has made every bit durable, and no block is missing */
	struct copier copier;
	struct prefetch prefetch;
	struct trace trace;
	struct readahead readahead;
	struct verify verify;

	unsigned in_flight; /* requests not yet answered */
	unsigned waiting;   /* requests that wait for the origin */
	uint64_t waited;    /* how many had to, ever */
	uint64_t waited_ms; /* when the last one did */
	const char *first_error_what; /* static text, NULL when nothing went wrong yet */
	int first_error;              /* errno */

	uint32_t *published; /* bits of blocks, see published.c; NULL: none are kept */
	bool all_published;  /* all blocks are published: `published` need not be looked at. Both: written by the core's thread,
				read by any */

	bool in_port; /* a port function runs: see checked.h */
};

/* core.c */
/* core_new() for a core that is there already, zeroed. False: out of memory. */
bool core_init(struct core *c, const struct core_config *config);
/* Frees what core_init() allocated. */
void core_free(struct core *c);
void core_run(struct core *c);
/* The first of all is remembered. what: static text. error: errno. */
void core_note_error(struct core *c, const char *what, int error);

/* request.c */
/* The fetch that r waited for has ended; r no longer waits for any. */
void request_resume(struct core *c, struct request *r, int error);
void request_reply(struct core *c, struct request *r, uint32_t error);
/* r, a BLOCK_STATUS, needs nothing but the image: looks for data there. */
void request_find_data(struct core *c, struct request *r);

/* request_pieces.c */
/* Zeroes, or a trim, of this many blocks took this long: sets the length of the next piece. */
void zero_measure(struct core *c, uint64_t blocks, uint64_t ms);

/* block_status.c */
void status_begin(struct core *c, struct request *r);
/* False: it does not answer a client's question. */
bool status_answered(struct core *c, uint64_t cookie, int error, const struct extent *e, unsigned count);
void status_conn_lost(struct core *c, unsigned conn);
void status_expire(struct core *c);
/* If r, a BLOCK_STATUS, waits for the origin, answers it now: what is missing is data. */
void status_abandon(struct core *c, struct request *r);

/* fetch.c */
struct fetch *fetch_find(const struct core *c, uint64_t block);
void fetch_missing(struct core *c, const void *owner, uint64_t first, uint64_t end, bool wide);
bool fetch_ahead(struct core *c, uint64_t first, uint64_t end);
bool fetch_next_run(const struct core *c, uint64_t first, uint64_t end, const struct conn_state *conn,
		    uint32_t max_blocks, uint64_t *run_first, uint64_t *run_end);
void fetch_wait(struct fetch *f, struct request *r);
void fetch_unwait(struct fetch *f, struct request *r);
void fetch_forget(struct core *c);
void fetch_copy(struct core *c, uint64_t first, uint64_t end);
void fetch_zero(struct core *c, uint64_t first, uint64_t end);
void fetch_fail_queued(struct core *c, int error);
/* At the end: those that nobody waits for, of the copy or read ahead. */
void fetch_free_queued(struct core *c);
void fetch_answered(struct core *c);
void fetch_expire(struct core *c);

bool fetch_verify(struct core *c, uint64_t first, uint64_t end);
void fetch_compared(struct core *c, struct fetch *f, int error);

/* fetch_conn.c */
const struct conn_state *fetch_conn(const struct core *c, unsigned kind, unsigned *slot);
void fetch_pump(struct core *c);
void fetch_conn_lost(struct core *c, unsigned conn);

/* written.c */
/* safe: what they say is on the disk. */
bool written_init(struct core *c, uint64_t *words, bool safe);
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
/* See struct core_status. */
uint64_t verify_eta_s(const struct core *c);
uint64_t verify_comparable(const struct core *c);
bool verify_is_partial(const struct verify_status *s, uint64_t comparable);

/* copier.c */
void copier_conn_want(struct core *c);
void copier_pump(struct core *c);
void copier_fetch_done(struct core *c, int error, bool local_error);
/* A client's fetch of these blocks has failed; old: it was begun before the copy's walk was done. */
void copier_client_failed(struct core *c, uint64_t first, uint64_t end, bool old);
void copier_tick(struct core *c);
uint64_t copier_deadline(const struct core *c);
void copier_conn_down(struct core *c, unsigned conn);
void copier_stop(struct core *c, enum job_state state);
/* Seconds until the copy ends, UINT64_MAX when unknown. */
uint64_t copier_eta_s(const struct core *c);

/* rtt.c */
/* Whether ms is much more than the shortest response time: such a fetch has met a queue. */
bool rtt_is_slow(const struct rtt *w, uint64_t ms);
/* A fetch took ms. little: not much else was in flight, which would explain a slow one. */
void rtt_sample(struct rtt *w, uint64_t ms, bool little);
/* f, of the copier, is stored: adapts the copier's window to what it tells of the connection. */
void rtt_adapt_window(struct core *c, const struct fetch *f);
/* Whether copy and comparison must keep to one fetch in flight, for the clients' sake. */
bool rtt_backs_off(const struct core *c);
/* Bytes that may be under way for clients. */
uint64_t rtt_client_window(const struct core *c);
/* Forgets the measurements: the next connection may be another one. */
void rtt_reset(struct core *c);

/* readahead.c */
/* A client reads [first, end). missed: it has to wait for a missing block. */
void readahead_read(struct core *c, uint64_t first, uint64_t end, bool missed);
/* Whether a READ that misses a block should fetch the blocks around it too. */
bool readahead_is_wide(const struct core *c);
/* A fetch of kind CONN_CLIENT was answered; its memory still counts. */
void readahead_answered(struct core *c, const struct fetch *f);
/* A wide fetch has hit a bad sector, which may have taken seconds: no wide fetches for a while, lest
 * reads of its neighbours hit it too. */
void readahead_failed(struct core *c);
/* After rtt_reset(): measures the connection anew. */
void readahead_reset(struct core *c);

/* prefetch.c */
bool prefetch_pump(struct core *c);
bool prefetch_is_on(const struct core *c);
void prefetch_stop(struct core *c);

/* published.c */
/* The bits of [first, end) are in the bitmap file. */
void publish(struct core *c, uint64_t first, uint64_t end);
/* All bits that the map has are in the bitmap file. */
void publish_all(struct core *c);
/* The same, at the start. */
void publish_begin(struct core *c);

/* commit.c */
/* A sync has failed, and core_sync_told() was not called yet: the error may not be answered. */
static inline bool sync_is_untold(const struct core *c)
{
	return ENABLE_FEATURE_XNBD_SERVER_PROXY && c->commit.error && !c->commit.told;
}
void persist_add(struct core *c, struct persist *p);
void commit_init(struct core *c);
void commit_kick(struct core *c);
void commit_tick(struct core *c);
uint64_t commit_deadline(const struct core *c);

#endif
