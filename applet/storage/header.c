/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The header of the commit file on the disk: see struct state_header. */
#include "libbb.h"
#include "reactor/loop.h"
#include "storage/disk_switch.h"
#include "storage/header.h"
#include "storage/identity.h"

const char *header_read(int fd, uint64_t base, struct state_header *h)
{
	uint8_t raw[STATE_HEADER_BYTES];
	struct state_header copy;
	const char *why = NULL, *trouble;
	bool found = false, unread = false;
	unsigned i;

	/* A copy whose sync has failed is in memory alone, and the next write would overwrite the only one on the disk. */
	posix_fadvise(fd, (off_t)base, COMMIT_HEADER_BYTES, POSIX_FADV_DONTNEED);
	for (i = 0; i < STATE_COPIES; i++) {
		ssize_t n = pread(fd, raw, sizeof(raw), (off_t)(base + (uint64_t)i * STATE_COPY_BYTES));

		unread |= n < 0;
		trouble = n < 0 ? strerror(errno) : state_header_decode(raw, (size_t)n, &copy);
		if (trouble) {
			why = why ? why : trouble;
		} else if (!found || copy.counter > h->counter) {
			*h = copy;
			found = true;
		}
	}
	if (found && unread) { /* that may be the newer one, and say that a sync failed */
		h->boot_id[0] = '\0'; /* as header_tick() */
		h->clean = 0;
	}
	return found ? NULL : why;
}

/* Writes the copy's bytes from `from` on, and syncs. 0 or errno. On the image's device the first sync may fail for pages of the
 * image, and is told once: then the header is written again. */
static int write_copy(int fd, uint64_t base, const struct state_header *h, size_t from)
{
	unsigned tries = base ? 2 : 1;
	uint8_t raw[STATE_COPY_BYTES] __attribute__((aligned(STATE_COPY_BYTES))) = { 0 }; /* as O_DIRECT wants it */
	ssize_t n;

	state_header_encode(raw, h);
	do {
		n = pwrite(fd, raw + from, sizeof(raw) - from, (off_t)(base + (h->counter - 1) % STATE_COPIES * STATE_COPY_BYTES + from));
		if (n != (ssize_t)(sizeof(raw) - from))
			return n < 0 ? errno : EIO;
		if (fdatasync(fd) == 0)
			return 0;
	} while (--tries);
	return errno;
}

int header_announce(int fd, uint64_t base, const struct state_header *h)
{
	return write_copy(fd, base, h, SECTOR_BYTES);
}

int header_write(int fd, uint64_t base, const struct state_header *h)
{
	int error = write_copy(fd, base, h, 0);

	if (!error)
		identity_stamp(fd, h->counter);
	return error;
}

void header_untold(const struct disk *d)
{
	bb_error_msg("a sync failed, and '%s' cannot record it: do not restart this server", d->path[FILE_COMMIT]);
}

int header_tell(struct disk *d, bool same_boot)
{
	struct state_header *h = &d->header;

	if (!same_boot)
		h->boot_id[0] = '\0'; /* as header_tick() */
	memset(h->recent, 0, sizeof(h->recent));
	h->clean = 0;
	h->counter++;
	return header_write(d->fd[FILE_COMMIT], d->commit_base, h);
}

/* ---- while the server runs ------------------------------------------------------------ */

static struct disk *disk_of_job(struct job *j)
{
	return container_of(j, struct disk, save.write.job);
}

static void save_run(struct job *j)
{
	struct disk *d = disk_of_job(j);
	struct state_header *h = &d->save.header;

	if (h->clean && identity_leave(d, h)) { /* the last sync of all: who starts next is told as by header_tick() */
		h->clean = 0;
		h->boot_id[0] = '\0';
	}
	if (h->boot_id[0])
		identity_remember(d, h);
	else /* a sync failed: this is urgent, and the disk may hang */
		memset(h->recent, 0, sizeof(h->recent));
	d->save.error = header_write(d->header_fd, d->commit_base, h);
}

static void save_done(struct job *j)
{
	struct disk *d = disk_of_job(j);
	bool again = repeated_end(&d->save.write);

	if (d->save.error) {
		d->header.counter--; /* the other copy is the only one that is known to be whole */
		if (d->switching.step != SWITCH_REPEATS)
			core_sync_failed(d->core, d->save.error);
	}
	if (d->save.error && !d->header.boot_id[0])
		header_untold(d);
	disk_switch_saved(d);
	if (again && d->header_fd >= 0)
		header_save(d);
	else if (!d->save.write.busy && d->header_saved) /* else disk_switch_saved() has more to save */
		d->header_saved(d, d->save.error);
}

void header_save(struct disk *d)
{
	if (d->header_fd < 0 || !repeated_begin(&d->save.write))
		return;
	d->header.counter++;
	d->save.header = d->header;
	d->save.recents = core_recent(d->core, d->save.header.recent);
	/* A switch waits for it, and clients' writes for that: so it does not wait for what hangs elsewhere. */
	d->save.write.job.queue = &d->queues[JOB_LONG][0];
	repeated_submit(&d->save.write, JOB_LONG, save_run, save_done);
}

void header_finish(struct disk *d)
{
	d->header.clean = 1;
	header_save(d);
}

void header_tick(struct disk *d)
{
	bool failed = core_sync_has_failed(d->core);

	if (failed && d->header.boot_id[0]) {
		d->header.boot_id[0] = '\0'; /* no boot has this id */
		header_save(d);
	} else if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && !failed && core_recent(d->core, NULL) != d->save.recents && loop_now_ms() >= d->save.next_ms) {
		d->save.next_ms = loop_now_ms() + COMMIT_INTERVAL_MS;
		header_save(d);
	}
	if (failed && !d->save.write.busy)
		core_sync_told(d->core);
}
