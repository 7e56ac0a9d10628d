/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * --check: do image, bitmap and commit file belong together, and to this origin?
 *
 * It takes the same steps as a start (store.c), which fail with the same messages. Nothing is changed. With an origin,
 * the core compares what is local with it, as in a proxy without clients.
 */
//config:config FEATURE_XNBD_SERVER_CHECK
//config:	bool "--check (2.8 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY
//config:	help
//config:	Looks at the files of a proxy that does not run: do they belong
//config:	together, how much is local, how much survives a power cut.
#include "libbb.h"
#include "control/connection.h"
#include "control/control.h"
#include "export/export.h"
#include "origin/origin.h"
#include "reactor/buf.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "server/server.h"
#include "storage/files.h"
#include "storage/store.h"

enum {
	WORKERS = 2, /* for the origin's name, and to read the image */
	EXIT_PARTIAL = 2,
};

/* Lines as of the control socket; here they go to stdout. */
static void print(struct control *k)
{
	if (full_write(STDOUT_FILENO, k->out, k->out_bytes) != (ssize_t)k->out_bytes)
		bb_simple_perror_msg_and_die("write error");
	k->out_bytes = 0;
}

/* The map that a start of this kind would use. *beyond: the file has bits past the last block
 * (map_init() clears them). */
static struct map bits(struct disk *d, enum state_start how, uint64_t size_bytes, bool *beyond)
{
	uint64_t blocks = map_blocks(size_bytes);
	struct map m;

	store_load(d, how, size_bytes);
	if (blocks % MAP_WORD_BLOCKS && d->words[blocks / MAP_WORD_BLOCKS] >> (blocks % MAP_WORD_BLOCKS))
		*beyond = true;
	if (!map_init(&m, size_bytes, d->words, false))
		bb_simple_error_msg_and_die("out of memory");
	map_free(&m);
	return m;
}

/* Nothing that a start would call a new cache. */
static void check_exists(struct disk *d)
{
	if (d->fd[FILE_BITMAP] < 0 && d->fd[FILE_COMMIT] < 0) {
		store_check_new(d);
		bb_error_msg_and_die("'%s': no such file, and no commit file beside it: a start would begin a new cache",
				     d->path[FILE_BITMAP]);
	}
	if (d->fd[FILE_IMAGE] < 0)
		bb_error_msg_and_die("'%s': no such file, but there is a bitmap: find the image, or remove '%s' to begin a new cache",
				     d->path[FILE_IMAGE], d->path[FILE_BITMAP]);
}

/* As far as the files tell; an image may be larger than its disk. */
static uint64_t own_size(struct disk *d)
{
	uint64_t size = file_bytes(d, FILE_IMAGE);

	if (d->commit_found == COMMIT_GOOD)
		return d->header.size_bytes;
	if (d->commit_found == COMMIT_ABSENT && file_bytes(d, FILE_BITMAP) != map_bytes(size))
		bb_error_msg_and_die("'%s' has no commit file, and is not of a disk as large as '%s': give the origin, which knows how large the disk is",
				     d->path[FILE_BITMAP], d->path[FILE_IMAGE]);
	return size;
}

/* Returns whether bits are set that are of no block. */
static bool emit_bits(struct control *k, struct disk *d, enum state_start how, uint64_t size_bytes)
{
	static const char *const starts[] = { "new", "adopt", "both", "commit" };
	enum state_start every = d->fd[FILE_COMMIT] < 0 ? START_ADOPT : d->fd[FILE_BITMAP] < 0 ? START_COMMIT : START_BOTH;
	bool beyond = false;
	uint64_t all = bits(d, every, size_bytes, &beyond).local;
	uint64_t committed = d->fd[FILE_COMMIT] < 0 ? 0 : bits(d, START_COMMIT, size_bytes, &beyond).local;
	struct map m = bits(d, how, size_bytes, &beyond); /* the last: d->words is what a start has */

	control_emit_cache(k, d, size_bytes, &m);
	control_emit_number(k, "committed", committed);
	control_emit_number(k, "uncommitted", all - committed);
	control_emit_string(k, "start", starts[how]);
	return beyond;
}

static void begin_origin(struct disk *d)
{
	loop_init(LOOP_CORE, false);
	pool_start(WORKERS, false, NULL);
	buf_init(server_config->max_buf_bytes);
	server_reach_origin(d, true);
}

/* Its core compares what is local, but for what clients have written. */
static void compare(struct export *e, uint64_t size_bytes)
{
	struct disk *d = &e->disk;

	fingerprint_add(&d->header.fingerprint, origin_fingerprint(d->origin));
	if (!export_begin(e, size_bytes, false))
		bb_simple_error_msg_and_die("out of memory");
	origin_start(d->origin);
	if (core_verify(d->core, server_config->exports.rate_bytes))
		bb_simple_error_msg_and_die("out of memory");
	while (core_verify_is_running(d->core)) {
		origin_turn(d->origin);
		pool_flush(false);
		loop_once(core_deadline(d->core));
		core_tick(d->core, loop_now_ms());
	}
}

/* Returns the exit status: as of xnbd-bgctl --verify. known: whether it is known where clients have
 * written. If not, everything is compared: what is equal is good, whoever wrote it; what differs
 * may still be good. */
static int compare_and_tell(struct control *k, struct export *e, uint64_t size_bytes, bool known)
{
	struct disk *d = &e->disk;
	struct core_status s;
	bool good, undecided;
	const char *text;

	if (!known)
		memset(d->written, 0, (size_t)written_bytes(size_bytes));
	compare(e, size_bytes);
	core_status(d->core, &s);
	good = control_verify_result(&s, &text);
	undecided = !known && s.verify.different;
	control_emit_string(k, "record", known ? "good" : "unknown");
	control_emit_verify(k, &s);
	print(k);
	bb_error_msg("'%s': %s%s", d->path[FILE_IMAGE], text, undecided ? "; or clients have written them: that is not known" : "");
	if (good)
		return EXIT_SUCCESS;
	return undecided || s.partial ? EXIT_PARTIAL : EXIT_FAILURE;
}

int server_check(const struct server_config *config)
{
	static const char *const found[] = { "absent", "good" };
	struct control *k = xzalloc(sizeof(*k));
	const struct fingerprint *fp = NULL;
	enum state_start how;
	struct export *e;
	struct disk *d;
	uint64_t size;
	bool beyond, known;
	int status = EXIT_SUCCESS;

	server_config = config;
	export_config = config->exports;
	e = export_new("");
	if (!e)
		bb_simple_error_msg_and_die("out of memory");
	export_enlist(e);
	d = &e->disk;
	d->adopt = config->adopt_bitmap;
	d->accept = config->accept_image;
	store_peek(d, config->image, config->bitmap, config->commit);
	check_exists(d);
	control_emit_string(k, "commit_file", d->commit_trouble ? d->commit_trouble : found[d->commit_found]);
	control_emit_commit_base(k, d);
	print(k);
	if (config->origin.host) {
		begin_origin(d);
		fp = origin_fingerprint(d->origin);
	}
	size = fp ? origin_size_bytes(d->origin) : own_size(d);
	how = store_decide(d, size, fp, false);
	beyond = emit_bits(k, d, how, size);
	if (store_was_switched(d, how, size))
		control_emit_string(k, "switched", "yes");
	print(k);
	store_check_room(d, size, file_bytes(d, FILE_IMAGE));
	known = store_load_written(d, how, size);
	store_check_content(d, how);
	if (beyond)
		bb_error_msg_and_die("'%s': bits are set past the end of the disk; a start ignores them, if this is the bitmap of this disk",
				     d->path[FILE_BITMAP]);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && fp)
		status = compare_and_tell(k, e, size, known);
	server_check_in_use(d);
	free(k);
	return status;
}
