/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * An export: a disk with a name, which lives as long as somebody uses it; and the list of all.
 *
 * The core's thread, except for what sessions use: disk.core, leaving, orphans, and nbd,
 * which does not change once the export can be found. Only export_add() may block; it is for the start. A callback
 * comes later, from the loop, and may call any function here. This room owns the exports; whoever keeps a pointer to
 * one must hold it (export_hold(), export_drop()).
 */
#ifndef EXPORT_EXPORT_H
#define EXPORT_EXPORT_H

#include "nbd/nbd.h"
#include "reactor/handover.h"
#include "reactor/loop.h"
#include "storage/disk.h"

/* Of all exports; set before the first. buf_init() comes before the first, too. */
struct export_config {
	bool readonly, cow;
	bool cow_client;   /* copy on write, with a copy for each client */
	bool root_storage; /* the root file system may depend on this server */
	unsigned loops;    /* with sessions that use them: more than one if other threads serve clients, too; 0 is 1 */
	const char *default_name; /* of the export that "" stands for, too; NULL: none */
	const char *description;  /* of each export, for people; NULL: none */
	const llist_t *descriptions; /* of a wrapper: NAME=TEXT; the first '=' ends the name */
	unsigned sector_bytes; /* requests have to be multiples of it; 512, 4096, or 0: any */
	bool keeps_space;  /* nothing is discarded: an image that is preallocated stays so */
	unsigned proxies;  /* they share the budget for what comes from origins; 0 is 1 */
	uint64_t rate_bytes; /* proxy: see struct disk */
	unsigned hold_s;   /* seconds; proxy: requests that wait this long for the origin fail; 0 = never */
};
extern struct export_config export_config;

struct tally;

struct export {
	struct disk disk;
	struct nbd_export nbd; /* its serial grows along the list */
	unsigned users;   /* sessions, and the list while it is not removed */
	unsigned sessions; /* ... of these, so many are sessions; those of copies count in their base */
	bool removed;     /* nobody finds it any more */
	bool replaced;    /* removed, because another has replaced it */
	_Atomic unsigned leaving; /* sessions that have gone, and still have requests in flight */
	_Atomic unsigned orphans; /* requests of sessions that have gone */
	struct export *base; /* --cow-client: that of which this one is a client's copy, held; nobody finds this one. NULL: none */
	struct tally *tally; /* see tally.h */
	struct job closing;
	bool unsynced; /* `closing` could not sync the image */
	struct commit_waiter last_commit;
	void (*unused)(struct export *e); /* is called when the last user has gone, and then has to call export_close(), sooner or later;
					     NULL: it is called at once. Not from inside the core */
	struct export *next, *next_named; /* next_named: of those with the same hash of their names */
};

extern struct export *exports;
extern uint64_t export_next_serial;

/* How many short jobs of one export may run at a time; an eighth of that number for long ones. */
unsigned export_workers(void);

/* j opens or closes files of an export, which may take forever where their disk hangs: it is submitted as
 * JOB_SLOW. Some workers of that class are left for jobs that are about no export; of the others, one half is for jobs
 * with batch, which nobody has asked for alone, and one half for those without. Core's thread only. */
void export_submit_files(struct job *j, bool batch);

/* A new export, with one user: the list that the caller puts it into (export_enlist()) after it has
 * opened its files and called export_begin(). NULL: out of memory. */
struct export *export_new(const char *name);
void export_enlist(struct export *e);
/* Gives it a core for a disk of this size: as that of a proxy if e->disk.words is set.
 * all_dirty: see struct core_config. False: out of memory. */
bool export_begin(struct export *e, uint64_t size_bytes, bool all_dirty);
/* --cow-client: whether each client of e gets a copy of its own. Not of a proxy. */
static inline bool export_is_copied(const struct export *e)
{
	return ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT && export_config.cow_client && !e->disk.words;
}

/* A copy of e for one client, with one user: that client. NULL: out of memory. */
struct export *export_copy(struct export *e);
/* NULL, or why a disk of this size cannot be served: one line, the export's. */
const char *export_misfit(struct export *e, uint64_t size_bytes);
/* What each of export_config.proxies may have in flight from its origin: for core_share(). */
uint64_t export_share(void);
/* A target of this name (copied). NULL, or why not: one line. */
const char *export_add(const char *name, const char *image);
/* The same by a worker, batch as above: added() is told why, or NULL. False: out of memory, it is not called. */
bool export_add_later(const char *name, const char *image, bool batch, void (*added)(void *ctx, const char *why), void *ctx);
/* The export of this name, or for "" that of export_config.default_name. NULL: there is none. */
struct export *export_find(const char *name, size_t n);
/* The same, but "" stands for itself. */
struct export *export_named(const char *name);
/* NULL: there is none of this serial number. */
struct export *export_by_serial(uint64_t serial);
/* Nobody finds it any more; it ends with its last user. */
void export_remove(struct export *e);
/* Opens the image of a target. NULL, or why not: one line, constant or the export's. May block; any thread. */
const char *export_open(struct export *e, const char *image);
/* What a new client of e gets: e, or another of its name that replaces it, because the image of a target has
 * another size now. Does not wait for the disk. */
struct export *export_current(struct export *e);
/* Each target whose path leads to another file gets that, for clients that come later. Workers open it; what keeps
 * them from it is a message. */
void exports_reopen(void);
/* Called when new has replaced old, which may be freed afterwards. Set before the first client. */
extern void (*export_replaced)(struct export *old, struct export *new);
/* Its files are closed, and it is freed. It has no users but the caller, and none will come. */
void export_close(struct export *e);
/* Increments and decrements the number of users. */
void export_hold(struct export *e);
void export_drop(struct export *e);
/* For another program in this process: see reactor/handover.h. Takes them before there are any; dies when it cannot.
 * Those that were removed and are in use get one user too many: exports_got() takes it off when sessions hold them. */
void exports_handover(void);
void exports_got(void);
/* Whether files of exports that have ended are still being synced and closed. */
bool exports_are_closing(void);
/* Set if the image of a closed export could not be synced. */
extern bool exports_unsynced;

#endif
