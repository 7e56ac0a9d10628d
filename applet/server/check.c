/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * --check: do image, bitmap and commit file belong together, and to this origin?
 *
 * They are looked at with the steps of a start (store.c), which die with the line that a
 * start would die with. Nothing is changed. With an origin, what is local is compared with
 * it, by the core, as a proxy's that no client uses.
 */
#include "libbb.h"
#include "reactor/buf.h"
#include "control/control.h"
#include "reactor/loop.h"
#include "reactor/pool.h"

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

/* The bits that a start of this kind would take. *beyond: there are more of them than
 * blocks, in the file at least (map_init() clears them). */
static struct map bits(struct export *e, enum state_start how, uint64_t size_bytes, bool *beyond)
{
	uint64_t blocks = map_blocks(size_bytes);
	struct map m;

	store_load(e, how, size_bytes);
	if (blocks % MAP_WORD_BLOCKS && e->words[blocks / MAP_WORD_BLOCKS] >> (blocks % MAP_WORD_BLOCKS))
		*beyond = true;
	if (!map_init(&m, size_bytes, e->words, false))
		bb_simple_error_msg_and_die("out of memory");
	map_free(&m);
	return m;
}

/* Nothing that a start would call a new cache. */
static void check_exists(const struct export *e)
{
	if (e->fd[FILE_BITMAP] < 0 && e->fd[FILE_COMMIT] < 0)
		bb_error_msg_and_die("'%s': no such file, and no commit file beside it: a start would begin a new cache",
				     e->path[FILE_BITMAP]);
	if (e->fd[FILE_IMAGE] < 0)
		bb_error_msg_and_die("'%s': no such file, but there is a bitmap: find the image, or remove '%s' to begin a new cache",
				     e->path[FILE_IMAGE], e->path[FILE_BITMAP]);
}

/* As far as the files tell; an image may be larger than its disk. */
static uint64_t own_size(struct export *e)
{
	uint64_t size = store_bytes(e, FILE_IMAGE);

	if (e->commit_found == COMMIT_GOOD)
		return e->header.size_bytes;
	if (e->commit_found == COMMIT_ABSENT && store_bytes(e, FILE_BITMAP) != map_bytes(size))
		bb_error_msg_and_die("'%s' has no commit file, and is not of a disk as large as '%s': give the origin, which knows how large the disk is",
				     e->path[FILE_BITMAP], e->path[FILE_IMAGE]);
	return size;
}

/* Returns whether bits are set that are of no block. */
static bool say_bits(struct control *k, struct export *e, enum state_start how, uint64_t size_bytes)
{
	static const char *const starts[] = { "new", "adopt", "both", "commit" };
	enum state_start every = e->fd[FILE_COMMIT] < 0 ? START_ADOPT : e->fd[FILE_BITMAP] < 0 ? START_COMMIT : START_BOTH;
	bool beyond = false;
	uint64_t all = bits(e, every, size_bytes, &beyond).local;
	uint64_t committed = e->fd[FILE_COMMIT] < 0 ? 0 : bits(e, START_COMMIT, size_bytes, &beyond).local;
	struct map m = bits(e, how, size_bytes, &beyond); /* the last: e->words is what a start has */

	control_say_cache(k, e, size_bytes, &m);
	control_say_number(k, "committed", committed);
	control_say_number(k, "uncommitted", all - committed);
	control_say_string(k, "start", starts[how]);
	return beyond;
}

static void begin_origin(struct export *e)
{
	loop_init(false);
	pool_start(WORKERS, false, NULL);
	buf_init(server_config->max_buf_bytes);
	server_reach_origin(e, true);
}

/* Its core compares what is local, but for what clients have written. */
static void compare(struct export *e, uint64_t size_bytes)
{
	struct core *c = &e->core;

	e->header_fd = -1;
	fingerprint_add(&e->header.fingerprint, origin_fingerprint(e->origin));
	if (!export_begin(e, size_bytes, false))
		bb_simple_error_msg_and_die("out of memory");
	c->commit.image_dirty = false; /* no need to sync it */
	origin_start(e->origin);
	if (core_verify(c, server_config->rate_bytes))
		bb_simple_error_msg_and_die("out of memory");
	while (c->verify.state == JOB_RUNNING) {
		origin_turn(e->origin);
		pool_flush(false);
		loop_once(core_deadline(c));
		core_tick(c, loop_now_ms);
	}
}

/* Returns the exit status: as of xnbd-bgctl --verify. Where it is not known who has written
 * what, all is compared: what is equal is good, whoever it was; what differs may be good. */
static int compare_and_tell(struct control *k, struct export *e, uint64_t size_bytes, bool known)
{
	bool good, undecided;
	const char *text;

	if (!known)
		memset(e->written, 0, (size_t)written_bytes(size_bytes));
	compare(e, size_bytes);
	good = control_verdict(&e->core, &text);
	undecided = !known && e->core.verify.different;
	control_say_string(k, "record", known ? "good" : "unknown");
	control_say_verify(k, &e->core);
	print(k);
	bb_error_msg("'%s': %s%s", e->path[FILE_IMAGE], text, undecided ? "; or clients have written them: that is not known" : "");
	if (good)
		return EXIT_SUCCESS;
	return undecided || core_verify_is_partial(&e->core) ? EXIT_PARTIAL : EXIT_FAILURE;
}

int server_check(const struct server_config *config)
{
	static const char *const found[] = { "absent", "good", "damaged" };
	struct control *k = xzalloc(sizeof(*k));
	const struct fingerprint *fp = NULL;
	enum state_start how;
	struct export *e;
	uint64_t size;
	bool beyond, known;
	int status = EXIT_SUCCESS;

	server_config = config;
	e = export_new("");
	if (!e)
		bb_simple_error_msg_and_die("out of memory");
	export_enlist(e);
	e->adopt = config->adopt_bitmap;
	e->accept = config->accept_image;
	store_peek(e, config->image, config->bitmap);
	check_exists(e);
	control_say_string(k, "commit_file", e->commit_trouble ? e->commit_trouble : found[e->commit_found]);
	print(k);
	if (config->origin_host) {
		begin_origin(e);
		fp = origin_fingerprint(e->origin);
	}
	size = fp ? origin_size_bytes(e->origin) : own_size(e);
	how = store_decide(e, size, fp, false);
	beyond = say_bits(k, e, how, size);
	print(k);
	store_check_room(e, size, store_bytes(e, FILE_IMAGE));
	known = store_load_written(e, how, size);
	store_check_content(e, how);
	if (beyond)
		bb_error_msg_and_die("'%s': bits are set past the end of the disk; a start ignores them, if this is the bitmap of this disk",
				     e->path[FILE_BITMAP]);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && fp)
		status = compare_and_tell(k, e, size, known);
	free(k);
	return status;
}
