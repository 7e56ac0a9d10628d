/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A proxy of xnbd-wrapper, for its files: proxies.c has its start, proxy_end.c its end. These are its steps:
 *
 *   OPEN      a worker parses what was asked for, and finds, locks and judges the files that are there
 *   ORIGIN    the origin is asked for its size and its samples, if it is needed, or for ORIGIN_WAIT_MS
 *   CLOSE     what was begun for that connection ends
 *   WRITE     a worker creates and repairs the files, and makes the control socket
 *   SERVED    the export can be found
 *   COMMIT    removed, and the last client has gone: a worker has removed the control socket; the cache is committed
 *   LEAVE     the header tells how the files are left
 *   FAILED    it did not begin: a worker removes again what was created
 *   UNDONE    the worker has done that
 *
 * Core's thread; nothing here blocks: what may is in the job. The last step of a proxy frees it.
 */
#ifndef SERVER_PROXY_H
#define SERVER_PROXY_H

#include "control/control.h"
#include "export/export.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "server/database_text.h"
#include "server/life.h"
#include "server/proxy_words.h"

enum { PROXY_CHECK_MS = 20 }; /* so often a step looks whether it has come to its end */

enum step { STEP_OPEN, STEP_ORIGIN, STEP_CLOSE, STEP_WRITE, STEP_SERVED, STEP_COMMIT, STEP_LEAVE, STEP_FAILED, STEP_UNDONE };

struct proxy {
	struct job job; /* first */
	struct served served;
	struct control_socket control;
	struct timer timer; /* the next look at the step */
	enum step step;

	struct proxy_words words;          /* what was asked for */
	char *socket_path;                 /* of words.socket; for the database, as these */
	struct database_text uri_text, words_text;

	bool batch;             /* see export_submit_files() */
	void (*steps)(void *p); /* for the worker; may die */
	bool well;              /* it has not */
	bool has_answered;      /* ORIGIN: the attempt has ended, with `why`, or well */
	bool is_away;           /* the origin is only not there */
	bool is_complete;       /* it needs no origin, not even to begin */
	bool has_fingerprint;
	bool all_dirty, has_ended, is_committed;
	struct commit_waiter commit_all;
	uint64_t size_bytes;
	struct fingerprint fingerprint;
	char why[512];

	void (*added)(void *ctx, const char *why);
	void *ctx;
};

static inline struct disk *disk_of_proxy(struct proxy *p)
{
	return &p->served.export->disk;
}

/* ---- proxies.c ----------------------------------------------------------------------------------- */

/* Takes the step that p is at, in so many ms. */
void proxy_check_again(struct proxy *p, unsigned ms);
/* step() on a worker, then the step that p is at; or FAILED with p->why, if it dies. */
void proxy_submit(struct proxy *p, void (*step)(void *p));
/* Out of a list that it is in. */
void proxy_unlist(struct served **list, const struct proxy *p);
/* Each has its share of the memory for what comes from origins: when one has come or gone. */
void proxies_share_memory(void);
/* Whoever wanted the proxy is told: once. why: why it does not begin, NULL = it has begun. */
void proxy_answer(struct proxy *p, const char *why);

/* ---- proxy_end.c: steps -------------------------------------------------------------------------- */

void proxy_step_failed(struct proxy *p);
/* Tells whoever wanted it, and frees p. */
void proxy_step_undone(struct proxy *p);
/* On a worker, at the end of one that was served. */
void proxy_remove_socket(void *p);
/* Taken again until all is on the disk; then comes LEAVE. */
void proxy_step_commit(struct proxy *p);
/* Taken again until the header is; then frees p. */
void proxy_step_leave(struct proxy *p);

#endif
