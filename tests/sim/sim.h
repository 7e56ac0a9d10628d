/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The simulator: the real core between a simulated disk, origin, clients and clock.
 *
 * One seed is one run, to the letter: everything that may happen this way or that is
 * drawn from it. plan.c draws the world, run.c what happens next; disk.c and origin.c
 * are the ports; fronts.c is the threads beside the core's; model.c knows what every byte may be; memory.c counts what the core
 * allocates; report.c what happens. The first broken rule ends the process; main.c,
 * which runs seeds in several of them, has shrink.c find the few events that do it.
 */
#ifndef SIM_H
#define SIM_H

#include "core/internal.h"
#include "nbd/nbd.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* ---- chance.c ---------------------------------------------------------------------- */

void chance_begin(uint64_t seed);
/* Draws of this step do not depend on how many the steps before it made. */
void chance_step(uint64_t step);
/* 0 .. n - 1; n > 0. */
uint64_t chance_of(uint64_t n);
/* True in so many of a hundred, a thousand cases. */
bool chance(unsigned percent);
bool chance_mille(unsigned mille);
/* Another number of this one. */
uint64_t mix(uint64_t x);

/* ---- plan.c: what is drawn once a run ------------------------------------------------- */

enum { GRAIN_MAX = 512, DEPTH_MAX = 12, WINDOWS_MAX = 4, FILES = 3, OPS = 6 };

/* A part of the disk that is modelled, and where. */
struct window {
	uint64_t first, end; /* bytes of the disk */
	uint64_t at;         /* where in the model's arrays */
};

/* What lies between the windows. */
enum gap { GAP_NONE, GAP_LOCAL, GAP_ZERO };

struct plan {
	uint64_t size_bytes, modelled_bytes;
	struct window window[WINDOWS_MAX];
	unsigned windows;
	enum gap gap;
	bool target;            /* there is no origin */
	bool readonly;
	uint32_t grain;         /* requests of clients are aligned to so many bytes */
	uint32_t unit_blocks;   /* largest minimum block of the origin that may come up */
	unsigned sync_percent;  /* how often a port_io() is complete at once */
	unsigned bad_percent;   /* blocks that the origin cannot read */
	unsigned zero_percent;  /* parts of the origin that are zero */
	uint32_t zero_shift;    /* which begin so many bytes before whole blocks */
	unsigned depth;         /* requests in flight */
	uint64_t hold_ms;
	uint16_t fault_mille[FILES][OPS];
	unsigned slow_percent;  /* READs of clients that take no data yet */
	unsigned memory_mille;  /* allocations that fail */
	unsigned start_mille;   /* system calls of a start that fail */
	bool adopt;             /* image and bitmap are of another program */
	bool commit_device;     /* the commit file is a device, and the bitmap does not survive a power cut */
	bool cover;             /* --cover at most starts */
	bool overwrite;         /* the image has data before the first start, which is told to overwrite it */
	bool old_commit;        /* ... and the device of the commit file has that of another move */
	unsigned silent_mille;  /* requests that the origin never answers */
	unsigned stray_mille;   /* answers that nobody asked for */
	bool no_punch;          /* the image's file system knows no holes */
	bool can_status;        /* the origin offers base:allocation */
	bool crashes;
	bool storm;             /* ... many, most of them while notes or a commit are under way */
	unsigned order_percent; /* requests that begin where the last one has ended */
	bool calm;              /* clients hardly write */
	bool blind;             /* headers know nothing of what image and origin have */
	bool fronts;            /* bits are published for threads beside the core's, which read by themselves */
	bool rings;             /* ... and hand requests over, later */
	bool lies;              /* the origin has another byte than it had, when it is compared */
};

extern struct plan plan;

void draw_plan(void);
/* Where this byte of the disk is in what is modelled; a byte of a gap: where the next
 * window begins. And back, for bytes of a window. */
uint64_t place(uint64_t offset);
uint64_t unplace(uint64_t at);
/* Where the gap ends that this byte lies in, 0: it lies in none. */
uint64_t gap_end(uint64_t offset);

/* ---- run.c: one run ----------------------------------------------------------------------- */

/* keep: the steps that happen, one byte for each of STEPS_MAX; NULL: all of them. */
void run(uint64_t seed, const uint8_t *keep);

enum { STEPS_MAX = 2000 };

extern struct core core;
extern uint64_t now_ms;   /* the clock of the core */
extern uint64_t sim_time; /* the number of the step: orders what the model compares */
extern bool faults_on;    /* things go wrong */

/* When the oldest request that is not answered was sent. */
uint64_t oldest_request(void);
/* Bytes for a request, in one window: its data can be checked. */
void draw_range(uint64_t *offset, uint32_t *length);
/* The core will learn of this READ, which a front has answered. */
void note_read(uint64_t offset, uint32_t length);

/* ---- report.c: what happens ---------------------------------------------------------------- */

enum count {
	/* what the world does to the core: each is an event */
	COUNT_REQUESTS,
	COUNT_ABANDONED,
	COUNT_PIECES,
	COUNT_FRONT_READS,
	COUNT_FRONT_READS_TOLD,
	COUNT_TRANSFERS,
	COUNT_ANSWERS,
	COUNT_TICKS,
	COUNT_JOB_VERBS,
	COUNT_PREFETCHES,
	COUNT_LINKS_UP,
	COUNT_LINK_LOSSES,
	COUNT_RIGHT_ORIGIN,
	COUNT_WRONG_ORIGIN,
	COUNT_SWITCH_VERBS,
	COUNT_COMPARE_VERBS,
	COUNT_GOOD_ENDS,
	COUNT_EXCHANGES,
	COUNT_STARTS,
	COUNT_KILLS,
	COUNT_POWER_CUTS,
	EVENTS_END,
	/* what became of them */
	COUNT_SWITCHED = EVENTS_END,
	COUNT_OVERTAKINGS,
	COUNT_STARTS_WITHOUT,
	COUNT_SWITCHED_BY_FORCE,
	COUNT_UNCOVERED,
	COUNT_RECORDED,
	COUNT_STARTS_SWITCHED,
	COUNT_SWITCH_CRASHES,
	COUNT_SWITCH_FAULTS,
	COUNT_DISK_FAULTS,
	COUNT_SYNC_FAULTS,
	COUNT_ORIGIN_FAULTS,
	COUNT_SILENT,
	COUNT_STRAY,
	COUNT_MEMORY_FAULTS,
	COUNT_COMPARED,
	COUNT_LIES_FOUND,
	COUNTS
};

enum tell { TELL_NOTHING, TELL_EVENTS, TELL_ALL };

/* What a process tells the one that has started it, in memory that they share. */
struct report {
	uint64_t seed, step; /* where it is */
	uint64_t passed;
	uint64_t count[COUNTS];
	const char *why;  /* what was broken: the format, so that it tells the kind */
	char message[256];
};

extern struct report *report;
extern enum tell tell;

static inline void count(enum count what)
{
	report->count[what]++;
}

uint64_t report_events(const struct report *r);
void report_print(const struct report *r, double seconds, double cpu_seconds);
/* Ends the process: this seed breaks a rule. */
void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* One line: what the world does to the core; or, when all is to be told, what follows. */
void event(const char *format, ...) __attribute__((format(printf, 1, 2)));
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* ---- shrink.c ---------------------------------------------------------------------------------- */

/* "3,7-9" into the bytes of keep. False: it is no such list. */
bool keep_parse(uint8_t *keep, const char *list);
/* This seed fails: finds few events with which it does, and prints them. */
void shrink(uint64_t seed);

/* ---- model.c: what every byte may be --------------------------------------------------- */

void model_begin(void);
void model_end(void);
enum content { CONTENT_DATA, CONTENT_ZERO, CONTENT_TRIM };

/* A client begins to write: the number of its write, > 0. The range is of whole
 * grains (but at the end of the disk). */
unsigned model_write(uint64_t offset, uint64_t length, enum content content);
/* The bytes that a write leaves there; of write 0: those of the origin. */
void model_bytes(unsigned write, uint64_t offset, uint64_t n, uint8_t *to);
/* It is answered. Without an error it supersedes what was before it; with one, it
 * may have happened or not. durable: it was FUA. */
void model_written(unsigned write, bool error, bool durable);
/* A FLUSH that was sent at this time is answered. */
void model_flushed(uint64_t sent);
/* A client reads this, having asked at that time. */
void model_read(uint64_t offset, uint64_t length, const uint8_t *p, uint64_t sent);
/* Whether these bytes may be what the disk holds right now, whoever looks. */
bool model_allows(uint64_t offset, uint64_t length, const uint8_t *p);
/* Whether it may read as zeroes. */
bool model_may_be_zero(uint64_t offset, uint64_t length, uint64_t sent);
/* Whether the origin is zero in all of this. */
bool model_origin_is_zero(uint64_t offset, uint64_t end);
/* All who write are gone, answered or not. committed_only: so may be what was not durable;
 * power: what is there now is on the platter. */
void model_crash(bool power, bool committed_only);
/* Whoever has sent it has gone, and whether it happens is nobody's business. */
void model_forget(unsigned write);

/* ---- disk.c: port_io() ------------------------------------------------------------------ */

void disk_begin(void);
unsigned disk_pending(void);
bool disk_has(const struct io *io);
/* Something happens to one of the transfers under way. False: there is none. */
bool disk_step(void);
/* The syncs that are under way come to their end, well or not. told: and the core hears of it. */
void disk_end_syncs(bool told);
/* The kernel writes back what it likes. */
void disk_write_back(void);
void disk_crash(bool power);
uint8_t *disk_bytes(enum io_file file);
const uint8_t *disk_platter(enum io_file file);
/* Bytes of the disk, from this one on, to the end of its block, wherever they are. */
uint8_t *disk_image(uint64_t offset);
void disk_image_read(void *to, uint64_t offset, uint64_t n);
/* Rule 13, of the image's own bytes. */
void disk_audit_cover(void);
/* A write or a sync failed on purpose since the last start. */
bool disk_has_failed(void);
/* For start.c: each file of the core, and the next commit file. */
enum { SLOT_NEW = FILES, SLOTS };
enum { OLD_COUNTER = 1 }; /* of the header of plan.old_commit: it is the first copy */
void disk_new_file(unsigned slot);
uint64_t disk_size(unsigned slot);
void disk_resize(unsigned slot, uint64_t n);
uint64_t disk_pread(unsigned slot, void *to, uint64_t n, uint64_t offset);
void disk_pwrite(unsigned slot, const void *from, uint64_t n, uint64_t offset);
/* A write that fails: some sectors of it. */
void disk_tear(unsigned slot, const uint8_t *from, uint64_t n, uint64_t offset);
void disk_sync(unsigned slot, bool all);
/* What a sync had to bring to the platter never comes there. */
void disk_sync_fails(unsigned slot);
/* What a sync that failed has left in memory is read from the platter from now on. Bytes. */
void disk_drop_pages(unsigned slot, uint64_t from, uint64_t end);
/* Which file it is, how often it was changed, and its extended attribute. */
uint64_t disk_birth(unsigned slot);
uint64_t disk_changed(unsigned slot);
uint64_t *disk_stamp(unsigned slot);
/* The first byte from there on that is not zero on the platter, or may be lost. */
uint64_t disk_next_data(unsigned slot, uint64_t offset);
void disk_exchange(unsigned a, unsigned b);
/* Whether the image is being written in this block. */
bool disk_is_busy(uint64_t block);

/* ---- start.c: the files at a start -------------------------------------------------------- */

enum start_end { START_GOOD, START_DIED, START_CRASHED };

/* No file is there; or, adopt: image and bitmap of another program. */
void start_begin(bool adopt);
/* What a server does before it has a core. *words: the bitmap. switched: as in struct core_config. */
enum start_end start_files(uint64_t **words, bool *all_dirty, bool switched);
/* The last one could not read a part of the header, which may have said that it is not to be trusted: so it took only what was
 * committed. */
bool start_missed_header(void);
/* One that has died: the next takes only what was committed, as after a power cut. */
bool start_trusts_committed(void);
/* What it knows of its disk. */
struct state_header;
const struct state_header *start_header(void);
/* What it does in between: the header may be written. START_CRASHED: it has died meanwhile;
 * START_DIED: by a power cut. */
enum start_end start_tick(void);
/* Whether a start would see in the header that a sync has failed; or that could not be written. */
bool start_distrusts(void);
/* What the last start has made of the record of what clients have written. */
uint64_t *start_written(void);
const uint64_t *start_words(void);
/* What a server does at its good end; it may die of it. */
void start_save(void);
/* Whether the image is covered, and where a byte of the disk is then: see cover_place(). */
bool start_is_covered(void);
/* ... and its own ends show nothing, as far as the kernel has done what it was told. */
bool start_has_hidden(void);
/* After start_files(): the commit file says that it was switched. */
bool start_is_switched(void);
uint64_t start_cover_place(uint64_t offset, uint64_t *n);
/* What a switch does with the files. *error: for the core. START_CRASHED: it has died meanwhile. */
enum start_end start_switch(bool complete, int *error);
void start_power_cut(void);
void start_free(void);

/* ---- compare.c: the comparison with the origin ---------------------------------------------- */

void compare_begin(void);
void compare_end(void);
/* A client may have written there. */
void compare_touch(uint64_t first, uint64_t end);
/* A start may have brought this to the disk: where it says that it does not know, all that is local
 * counts as written from then on. */
void compare_begun(const uint64_t *words, const uint64_t *written);
/* A start is done: what it takes for written by clients is true. */
void compare_started(void);
/* The same at any time. */
void compare_audit(void);
/* The bits of these blocks have been written to the bitmap, or to the commit file: what a start makes of them now. */
void compare_bits(uint64_t first, uint64_t end);
/* From now on a start need not know who has written what is local. */
void compare_lose(void);
/* An order, by chance. */
void compare_step(void);
/* One that has to come to its end well. */
void compare_order(void);
/* The core says that something has changed. */
void compare_changed(void);
/* The origin's answer to a question of the comparison: a byte of it may be another. */
void compare_spoil(uint64_t offset, uint64_t length, uint8_t *p);

/* While the origin is lost and no link is up, no request waits for it. */
void run_check_lost(void);

/* ---- turns.c: whose fetch is sent next ------------------------------------------------------- */

void turns_begin(void);
/* After each step. */
void turns_look(void);
/* This one was sent. */
struct fetch;
void turns_sent(const struct fetch *f);

/* ---- origin.c: port_link_*() ---------------------------------------------------------------- */

void origin_begin(void);
void origin_end(void);
unsigned origin_pending(void);
bool origin_is_bad(uint64_t block);
/* Somebody wants these blocks: before, nobody may ask for them. */
void origin_want(uint64_t first, uint64_t end);
/* A request over one of the links is answered, or fails. False: there is none. */
bool origin_step(void);
void origin_up(unsigned link);
/* A link whose origin owes an answer for too long is dropped, as the server does. */
void origin_tick(void);
/* When that is due, UINT64_MAX = never. */
uint64_t origin_deadline(void);
/* --reconnect to the same disk elsewhere, or to another one. */
void origin_reconnect(void);
void origin_down(unsigned link);
struct fingerprint;
/* What a start finds out about the origin. */
void origin_samples(struct fingerprint *fp);
/* The process has gone, and its links. */
void origin_crash(void);
/* When it answered last. */
extern uint64_t origin_answered_ms;
/* A request has waited for --hold, perhaps for something else or surely for the origin; no link was up, and
 * nothing was answered since. */
extern enum loss { NOT_LOST, MAYBE_LOST, LOST } origin_loss;
/* The core wants a link for the copier. */
extern uint64_t origin_share; /* core_share(): bytes for what comes from there */
extern bool origin_copy_wanted;
/* port_conns_close() was called. */
extern bool origin_closed;

/* ---- traces.c: the boot trace ----------------------------------------------------------------- */

void traces_begin(void);
void traces_end(void);
/* A core has begun. After traces_exchange(), unless the new program has crashed, it goes on where that one was. Else it may have
 * to record, and to fetch what some trace names. asks: false: a server that was switched records and fetches nothing. */
void traces_start(bool asks, bool crashed);
/* Another program takes the place of this one: what it is told. */
void traces_exchange(void);
/* A client sends this request. */
void traces_note(const struct request *r);
/* What is recorded is what was asked for. */
void traces_check(void);
/* Fetch a trace drawn by chance, also one that makes no sense. */
void traces_prefetch(void);

/* ---- fronts.c: threads beside the core's ------------------------------------------------------- */

void fronts_begin(void);
void fronts_end(void);
/* For the next core: zeroes, or NULL. */
uint64_t *fronts_bits(void);
/* The process has gone, and its READs. committed_only: and so may be what was not durable. */
void fronts_crash(bool committed_only);
/* A core has begun. */
void fronts_started(void);
void fronts_audit(void);
/* A front begins a READ, if it can answer it. */
void fronts_read(void);
/* Something happens to one of these. False: there is none. */
bool fronts_step(void);
/* When the oldest of them began. */
uint64_t fronts_oldest(void);

/* ---- memory.c --------------------------------------------------------------------------------- */

void *sim_malloc(size_t n);
void *sim_calloc(size_t n, size_t m);
void sim_free(void *p);
/* An allocation has failed since the last start. */
bool memory_has_failed(void);
/* What malloc(3) and its like have given to the core and not got back. */
unsigned memory_count(void);
/* The process has gone. */
void memory_crash(void);

#endif
