/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The file of a boot trace: core/trace.h tells what is in it.
 *
 * It is written every few seconds as long as there is something new, so that it is there whatever becomes of the
 * machine; by a worker, since its disk may be slow, and never synced: it may be the very disk that is served. A lost
 * trace is simply recorded again.
 */
#include "libbb.h"
#include "core/trace.h"
#include "reactor/handover.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "storage/paths.h"
#include "storage/trace_file.h"

enum { WRITE_MS = 5000 };

struct recording {
	struct job job;
	struct timer timer;
	struct disk *disk; /* NULL: it is not begun */
	int dir;               /* a switch_root(8) takes paths away, but not this */
	const char *name;
	char *temporary;
	char *text;            /* of TRACE_BYTES_MAX; the worker's while it is busy */
	size_t bytes;
	int error;
	bool busy;
};

/* ---- recording ---------------------------------------------------------------------- */

/* name is copied; dir: the descriptor of its directory, owned. */
static struct recording *recording_new(const char *name, int dir)
{
	struct recording *r = xzalloc(sizeof(*r));

	r->name = xstrdup(name);
	r->temporary = xasprintf("%s.new", name);
	r->text = xmalloc(TRACE_BYTES_MAX);
	r->dir = dir;
	return r;
}

struct recording *record_open(const char *path)
{
	char *dir = xpath_absolute(path);
	char *slash = strrchr(dir, '/');
	struct recording *r = recording_new(slash + 1, -1);

	slash[slash == dir] = '\0';
	r->dir = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* of an O_PATH, nothing could be told to handover_walk() */
	if (!*r->name)
		errno = EISDIR;
	if (r->dir < 0 || !*r->name)
		bb_perror_msg_and_die("cannot write '%s'", path);
	free(dir);
	return r;
}

static void write_run(struct job *j)
{
	struct recording *r = (struct recording *)j;
	int fd = openat(r->dir, r->temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);

	r->error = 0;
	errno = ENOSPC; /* a short write sets none */
	if (fd < 0 || full_write(fd, r->text, r->bytes) != (ssize_t)r->bytes ||
	    renameat(r->dir, r->temporary, r->dir, r->name) < 0)
		r->error = errno;
	if (fd < 0)
		return;
	if (r->error) /* it may be the disk's last room */
		unlinkat(r->dir, r->temporary, 0);
	close(fd);
}

static void write_done(struct job *j)
{
	struct recording *r = (struct recording *)j;

	r->busy = false;
	if (!r->error)
		return;
	bb_error_msg("'%s' cannot be written, nothing is recorded any more: %s", r->name, strerror(r->error));
	core_record_end(r->disk->core);
}

static void write_begin(struct recording *r)
{
	if (r->busy)
		return;
	r->bytes = core_record_text(r->disk->core, r->text);
	if (!r->bytes)
		return;
	r->busy = true;
	pool_submit(&r->job);
}

static void timer_fired(struct timer *t)
{
	struct recording *r = container_of(t, struct recording, timer);

	write_begin(r);
	if (core_is_recording(r->disk->core))
		timer_set(t, loop_now_ms() + WRITE_MS);
}

void record_begin(struct recording *r, struct disk *d, const struct trace_run *run, unsigned runs)
{
	if (!core_record(d->core, run, runs))
		bb_simple_error_msg_and_die("out of memory");
	r->disk = d;
	r->job.run = write_run;
	r->job.done = write_done;
	r->job.class = JOB_SLOW;
	r->timer.fire = timer_fired;
	timer_set(&r->timer, loop_now_ms() + WRITE_MS);
}

void record_end(struct recording *r)
{
	if (!r->disk)
		return;
	timer_clear(&r->timer);
	write_begin(r);
}

bool record_is_busy(const struct recording *r)
{
	return r->busy;
}

/* ---- prefetch ----------------------------------------------------------------------- */

/* NULL, or why not. Somebody else's file: nothing in it is trusted. */
static const char *read_trace(struct disk *d, const char *path, char *text, struct trace_run *run)
{
	int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : full_read(fd, text, TRACE_BYTES_MAX + 1);
	const char *why = n < 0 ? strerror(errno) : NULL;
	unsigned runs;

	if (fd >= 0)
		close(fd);
	if (!why)
		why = n > TRACE_BYTES_MAX ? "it is too long" : trace_decode(text, (size_t)n, core_size_bytes(d->core), run, &runs);
	if (!why && !core_prefetch(d->core, run, runs))
		why = "out of memory";
	return why;
}

/* A machine boots without it too, only later: so nothing here is worth an end. */
void prefetch_begin(struct disk *d, const char *path)
{
	char *text = xmalloc(TRACE_BYTES_MAX + 1);
	struct trace_run *run = xmalloc(TRACE_RUNS_MAX * sizeof(*run));
	const char *why = read_trace(d, path, text, run);

	if (why)
		bb_error_msg("boot trace '%s' is not used: %s", path, why);
	free(run);
	free(text);
}

/* ---- for another program in this process --------------------------------------------- */

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
/* What was read stays where it is. */
static void runs_handover(const struct disk *d, const struct trace_run **run, unsigned *runs)
{
	if (!handover.reads) {
		handover_put(HANDED_TEXT, *run, *run ? *runs * sizeof(**run) : 0);
	} else if (handover_get(HANDED_TEXT)) {
		*run = handover.more;
		*runs = (unsigned)(handover.more_bytes / sizeof(**run));
		if (!trace_fits(*run, *runs, core_size_bytes(d->core)))
			handover_die();
	}
}

void trace_handover(struct recording **r, struct disk *d, const char *path)
{
	unsigned runs;
	const struct trace_run *run = core_recorded(d->core, &runs);
	int dir = run ? (*r)->dir : -1;

	handover_fd(&dir);
	runs_handover(d, &run, &runs);
	if (handover.reads && path && dir >= 0) {
		const char *slash = strrchr(path, '/');

		*r = recording_new(slash ? slash + 1 : path, dir);
		record_begin(*r, d, run, runs);
	}
	run = core_prefetched(d->core, &runs);
	runs_handover(d, &run, &runs);
	if (handover.reads)
		core_prefetch(d->core, run, runs);
}
#endif
