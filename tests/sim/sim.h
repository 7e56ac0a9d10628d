/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The simulator: the real core between a simulated disk, origin, clients and clock.
 *
 * One seed is one run, to the letter: everything that may happen this way or that is
 * drawn from it. main.c draws what happens next; disk.c and origin.c are the ports;
 * model.c knows what every byte may be; memory.c counts what the core allocates.
 * The first broken rule ends the program.
 */
#ifndef SIM_H
#define SIM_H

#include "core/core.h"
#include "nbd/nbd.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

/* ---- chance.c ---------------------------------------------------------------------- */

void chance_begin(uint64_t seed);
/* 0 .. n - 1; n > 0. */
uint64_t chance_of(uint64_t n);
/* True in so many of a hundred cases. */
bool chance(unsigned percent);

enum { GRAIN_MAX = 512 };

/* What is drawn once a run. */
struct plan {
	uint64_t size_bytes;
	uint32_t grain;         /* requests of clients are aligned to so many bytes */
	uint32_t unit_blocks;   /* largest minimum block of the origin that may come up */
	unsigned sync_percent;  /* how often a port_io() is complete at once */
	unsigned bad_percent;   /* blocks that the origin cannot read */
	unsigned zero_percent;  /* parts of the origin that are zero */
	unsigned depth;         /* requests in flight */
	uint64_t hold_ms;
	bool disk_faults;       /* the image may fail */
	bool sync_faults;       /* and a sync of it */
	bool no_punch;          /* the image's file system knows no holes */
	bool can_status;        /* the origin offers base:allocation */
	bool crashes;
};

extern struct plan plan;
extern struct core core;
extern uint64_t now_ms;   /* the clock of the core */
extern uint64_t sim_time; /* counts events: orders what the model compares */

/* When the oldest request that is not answered was sent. */
uint64_t oldest_request(void);
/* Ends the program: this seed breaks a rule. */
void broken(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
/* One line of what happens, when it is wanted. */
void trace(const char *format, ...) __attribute__((format(printf, 1, 2)));

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
/* Whether a client ever wrote there. */
bool model_is_written(uint64_t block);
/* All who write are gone, answered or not. committed_only: so may be what was not durable;
 * power: what is there now is on the platter. */
void model_crash(bool power, bool committed_only);

/* ---- disk.c: port_io() ------------------------------------------------------------------ */

void disk_begin(void);
void disk_end(void);
unsigned disk_pending(void);
/* Something happens to one of the transfers under way. False: there is none. */
bool disk_step(bool faults);
/* The kernel writes back what it likes. */
void disk_write_back(void);
void disk_crash(bool power);
uint8_t *disk_bytes(enum io_file file);
const uint8_t *disk_platter(enum io_file file);
/* What a start writes into the bitmap file. */
void disk_set_bitmap(const uint64_t *words);
/* A write or a sync failed on purpose since the last start. */
bool disk_has_failed(void);
/* Whether the image is being written in this block. */
bool disk_is_busy(uint64_t block);

/* ---- origin.c: port_link_*() ---------------------------------------------------------------- */

void origin_begin(void);
void origin_end(void);
unsigned origin_pending(void);
bool origin_is_bad(uint64_t block);
/* Somebody wants these blocks: before, nobody may ask for them. */
void origin_want(uint64_t first, uint64_t end);
/* A request over one of the links is answered, or fails. False: there is none. */
bool origin_step(bool faults);
void origin_up(unsigned link, bool faults);
void origin_down(unsigned link);
/* The process has gone, and its links. */
void origin_crash(void);
/* When it answered last. */
extern uint64_t origin_answered_ms;
/* The core wants a link for the copier. */
extern bool origin_copy_wanted;
/* port_links_close() was called. */
extern bool origin_closed;

/* ---- memory.c --------------------------------------------------------------------------------- */

void *sim_malloc(size_t n);
void *sim_calloc(size_t n, size_t m);
void sim_free(void *p);
/* What malloc(3) and its like have given to the core and not got back. */
unsigned memory_count(void);
/* The process has gone. */
void memory_crash(void);

#endif
