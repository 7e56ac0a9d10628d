/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The header of the commit file on the disk: see struct state_header. */
#include "libbb.h"
#include "server/server.h"

const char *header_read(int fd, struct state_header *h)
{
	uint8_t raw[STATE_HEADER_BYTES];
	struct state_header copy;
	const char *why = NULL, *trouble;
	bool found = false;
	unsigned i;

	for (i = 0; i < STATE_COPIES; i++) {
		ssize_t n = pread(fd, raw, sizeof(raw), (off_t)i * STATE_COPY_BYTES);

		trouble = n < 0 ? strerror(errno) : state_header_decode(raw, (size_t)n, &copy);
		if (trouble) {
			why = why ? why : trouble;
		} else if (!found || copy.counter > h->counter) {
			*h = copy;
			found = true;
		}
	}
	return found ? NULL : why;
}

int header_write(int fd, const struct state_header *h)
{
	uint8_t raw[STATE_HEADER_BYTES];
	ssize_t n;

	state_header_encode(raw, h);
	n = pwrite(fd, raw, sizeof(raw), (off_t)((h->counter - 1) % STATE_COPIES * STATE_COPY_BYTES));
	if (n != (ssize_t)sizeof(raw))
		return n < 0 ? errno : EIO;
	if (fdatasync(fd) < 0)
		return errno;
	identity_stamp(fd, h->counter);
	return 0;
}

/* ---- while the server runs ------------------------------------------------------------ */

static struct export *export_of_job(struct job *j)
{
	return (struct export *)(void *)((char *)j - offsetof(struct export, save.job));
}

static void save_run(struct job *j)
{
	struct export *e = export_of_job(j);

	if (e->save.header.boot_id[0])
		identity_remember(e, &e->save.header);
	else /* a sync failed: this is urgent, and the disk may hang */
		memset(e->save.header.recent, 0, sizeof(e->save.header.recent));
	e->save.error = e->save.header.clean ? identity_leave(e, &e->save.header) : 0;
	if (!e->save.error)
		e->save.error = header_write(e->header_fd, &e->save.header);
}

static void save_done(struct job *j)
{
	struct export *e = export_of_job(j);

	e->save.busy = false;
	if (e->save.error) {
		e->header.counter--; /* the other copy is the only one that is known to be whole */
		core_sync_failed(&e->core, e->save.error);
	}
	if (e->save.error && !e->header.boot_id[0])
		bb_error_msg("a sync failed, and '%s' cannot tell the next start: do not restart this server",
			     e->path[FILE_COMMIT]);
	if (e->save.again)
		header_save(e);
	else if (e->origin)
		origin_header_saved(e->origin, e->save.error);
}

void header_save(struct export *e)
{
	e->save.again = e->save.busy;
	if (e->save.busy)
		return;
	e->save.busy = true;
	e->header.counter++;
	e->save.header = e->header;
	e->save.recents = e->core.recents;
	memcpy(e->save.header.recent, e->core.recent, sizeof(e->core.recent));
	e->save.job.run = save_run;
	e->save.job.done = save_done;
	e->save.job.class = JOB_SLOW;
	pool_submit(&e->save.job);
}

void header_finish(struct export *e)
{
	e->header.clean = 1;
	header_save(e);
}

void header_tick(struct export *e)
{
	const struct core *c = &e->core;

	if (c->commit.error && e->header.boot_id[0]) {
		e->header.boot_id[0] = '\0'; /* no boot has this id */
		header_save(e);
	} else if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && !c->commit.error && c->recents != e->save.recents && c->now_ms >= e->save.next_ms) {
		e->save.next_ms = c->now_ms + COMMIT_INTERVAL_MS;
		header_save(e);
	}
}
