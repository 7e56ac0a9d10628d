/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The ends of a disk, in the commit file until the switch. */
//config:config FEATURE_XNBD_SERVER_COVER
//config:	bool "--cover (5.3 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY
//config:	help
//config:	Until the switch, the first and last bytes of the disk are in the commit
//config:	file, so that nothing finds the half-copied one: no partitions, labels,
//config:	UUIDs, physical volumes.
#include "libbb.h"
#include "nbd/nbd.h"
#include "storage/cover.h"
#include "storage/disk_switch.h"

#include <sys/ioctl.h>

enum {
	COPY_BYTES = 64 << 10,
	MARK_BYTES = SECTOR_BYTES,
	X_BLKRRPART = 0x125F, /* linux/fs.h: read the partition table again */
};

/* Text, for whoever looks at it with other tools; zeroes follow. No program may take it for something else. */
static const char mark_text[] = "Half-copied by xnbd-server: its first and last bytes are elsewhere until the switch, see --cover. ";

uint64_t cover_part(const struct disk *d, uint64_t offset, uint64_t *n)
{
	uint64_t at = cover_is_on(d) ? cover_place(d->header.size_bytes, offset, n) : UINT64_MAX;

	return at == UINT64_MAX ? at : d->commit_base + at;
}

bool cover_touches(const struct disk *d, uint64_t offset, uint64_t n)
{
	uint64_t part = n;

	if (!cover_is_on(d) || !n)
		return false;
	return cover_part(d, offset, &part) != UINT64_MAX || part < n;
}

/* With --root-storage, fd[FILE_COMMIT] of a device uses direct I/O: see resident.c, also for why pages must not be
 * larger than blocks. */
int cover_fd(const struct disk *d, const void *buf, uint64_t n, uint64_t offset)
{
	bool aligned = ((uintptr_t)buf | n | offset) % BLOCK_BYTES == 0 && getpagesize() <= BLOCK_BYTES;

	return aligned || d->cover_fd < 0 ? d->fd[FILE_COMMIT] : d->cover_fd;
}

/* The image without a cover, or zeroes behind its end. */
static int read_end(const struct disk *d, uint8_t *buf, uint64_t n, uint64_t offset, uint64_t have_bytes)
{
	uint64_t some = offset >= have_bytes ? 0 : have_bytes - offset < n ? have_bytes - offset : n;

	memset(buf + some, 0, n - some);
	return disk_transfer(d->fd[FILE_IMAGE], false, buf, some, offset);
}

/* Goes from the end of the disk to its beginning, one part after the other, so that the mark is the last to go. */
static uint64_t step_down(uint64_t size_bytes, uint64_t end, uint64_t *n)
{
	uint64_t first = end > cover_tail(size_bytes) ? cover_tail(size_bytes) : 0, start;

	if (!first && end > cover_head(size_bytes))
		end = cover_head(size_bytes);
	start = (end - 1) / COPY_BYTES * COPY_BYTES;
	start = start > first ? start : first;
	*n = end - start;
	return start;
}

uint64_t cover_mark(const struct disk *d)
{
	char text[MARK_BYTES];
	uint64_t id = 0;
	unsigned i;

	if (d->fd[FILE_IMAGE] < 0 || pread(d->fd[FILE_IMAGE], text, sizeof(text), 0) != (ssize_t)sizeof(text) ||
	    memcmp(text, mark_text, sizeof(mark_text) - 1) != 0)
		return 0;
	for (i = 0; i < 16; i++)
		id = id << 4 | ((unsigned)(text[sizeof(mark_text) - 1 + i] - 'a') & 15);
	return id;
}

static void write_mark(char *to, uint64_t id)
{
	unsigned i;

	memcpy(to, mark_text, sizeof(mark_text) - 1);
	for (i = 0; i < 16; i++)
		to[sizeof(mark_text) - 1 + i] = (char)('a' + (id >> (60 - 4 * i) & 15));
}

int cover_copy(struct disk *d, uint64_t size_bytes, uint64_t have_bytes)
{
	uint8_t *buf = xmalloc(COPY_BYTES);
	uint64_t end, n, part;
	int error = 0;

	for (end = size_bytes; !error && end; end -= n) {
		end = step_down(size_bytes, end, &n) + n;
		part = n;
		error = read_end(d, buf, n, end - n, have_bytes);
		if (!error)
			error = disk_transfer(d->fd[FILE_COMMIT], true, buf, n, d->commit_base + cover_place(size_bytes, end - n, &part));
	}
	free(buf);
	return error ? error : fdatasync(d->fd[FILE_COMMIT]) < 0 ? errno : 0;
}

int cover_rewrite(struct disk *d)
{
	uint64_t at = commit_cover_offset(d->header.size_bytes), end = commit_file_bytes(d->header.size_bytes, true), n;
	uint8_t *buf = xmalloc(COPY_BYTES);
	int error = 0;

	for (; !error && at < end; at += n) {
		n = end - at < COPY_BYTES ? end - at : COPY_BYTES;
		error = disk_transfer(d->fd[FILE_COMMIT], false, buf, n, d->commit_base + at);
		if (!error)
			error = disk_transfer(d->fd[FILE_COMMIT], true, buf, n, d->commit_base + at);
	}
	free(buf);
	return error;
}

/* The image itself, whatever covers it. */
static int image_transfer(struct disk *d, bool write, uint8_t *buf, uint64_t n, uint64_t offset)
{
	bool direct = d->direct_fd >= 0 && (n | offset) % d->direct_unit == 0;

	return disk_transfer(direct ? d->direct_fd : d->fd[FILE_IMAGE], write, buf, n, offset);
}

static bool is_hidden(const uint8_t *buf, uint64_t n, const char *mark, uint64_t mark_bytes)
{
	uint32_t rest = (uint32_t)(n - mark_bytes);

	return memcmp(buf, mark, mark_bytes) == 0 && nbd_zeroes(buf + mark_bytes, rest) == rest;
}

/* n bytes of it. known: those that look so already are. */
static int hide(struct disk *d, uint64_t offset, uint64_t n, bool known, bool *changed)
{
	char mark[MARK_BYTES] = { 0 };
	uint64_t mark_bytes = !offset && n >= MARK_BYTES ? MARK_BYTES : 0;
	uint8_t *buf = d->switching.buf;
	int error = image_transfer(d, false, buf, n, offset);

	write_mark(mark, d->header.cover);
	if (error || (known && is_hidden(buf, n, mark, mark_bytes)))
		return error;
	*changed = true;
	memset(buf, 0, n);
	memcpy(buf, mark, mark_bytes);
	return image_transfer(d, true, buf, n, offset);
}

/* Clients' FLUSHes sync the same open file, which tells once that it failed: 0 or errno. */
static int sync_image(struct disk *d)
{
	int error = fdatasync(d->fd[FILE_IMAGE]) < 0 ? errno : 0;

	d->switching.sync_failed |= error != 0;
	return error;
}

int cover_hide(struct disk *d, bool known)
{
	uint64_t size_bytes = d->header.size_bytes, head = cover_head(size_bytes), end, n;
	bool changed = false;
	/* The mark is there, durably, before anything else is not. */
	int error = hide(d, 0, head < COPY_BYTES ? head : COPY_BYTES, known, &changed);

	if (!error)
		error = sync_image(d);
	for (end = size_bytes; !error && end; end -= n) {
		end = step_down(size_bytes, end, &n) + n;
		error = hide(d, end - n, n, known, &changed);
	}
	/* Not only if something was changed: a start that was killed may have done that. */
	if (!error)
		error = sync_image(d);
	if (changed && d->is_device) /* the kernel forgets the partitions that were there; not all devices have any */
		(void)ioctl(d->fd[FILE_IMAGE], X_BLKRRPART, NULL);
	return error;
}

int cover_unmark(struct disk *d)
{
	uint8_t none[MARK_BYTES] = { 0 };
	int error = cover_mark(d) ? disk_transfer(d->fd[FILE_IMAGE], true, none, sizeof(none), 0) : 0;

	return error || fdatasync(d->fd[FILE_IMAGE]) == 0 ? error : errno;
}

/* ---- the switch --------------------------------------------------------------------------- */

bool cover_reserve(struct disk *d)
{
	if (!d->switching.buf)
		d->switching.buf = aligned_alloc(BLOCK_BYTES, COPY_BYTES);
	return d->switching.buf;
}

static struct disk *disk_of_uncover(struct job *j)
{
	return container_of(j, struct disk, switching.job);
}

static void uncover_run(struct job *j)
{
	struct disk *d = disk_of_uncover(j);
	uint64_t size_bytes = d->header.size_bytes, end, n;
	int error = 0;

	for (end = size_bytes; !error && end; end -= n) {
		uint8_t *buf = d->switching.buf;
		uint64_t at, part, pages;

		end = step_down(size_bytes, end, &n) + n;
		part = n;
		at = d->commit_base + cover_place(size_bytes, end - n, &part);
		pages = (n + BLOCK_BYTES - 1) & ~(uint64_t)(BLOCK_BYTES - 1);
		error = disk_transfer(cover_fd(d, buf, pages, at), false, buf, pages, at);
		if (!error)
			error = image_transfer(d, true, buf, n, end - n);
	}
	d->switching.error = error ? error : sync_image(d);
}

static void uncover_done(struct job *j)
{
	struct disk *d = disk_of_uncover(j);

	if (d->switching.sync_failed)
		core_sync_failed(d->core, d->switching.error);
	else if (!d->switching.error && core_has_failed(d->core)) /* the error may have been told to a FLUSH before */
		d->switching.error = EIO;
	disk_sync_end(d);
	if (d->switching.error)
		cover_again(d);
	else
		disk_switch_record(d);
}

static void hide_run(struct job *j)
{
	cover_hide(disk_of_uncover(j), true); /* as far as it can; a start does it again */
}

static void hide_done(struct job *j)
{
	struct disk *d = disk_of_uncover(j);

	if (d->switching.sync_failed)
		core_sync_failed(d->core, d->switching.error);
	disk_sync_end(d);
	disk_switch_end(d);
}

static void submit(struct disk *d, void (*run)(struct job *j), void (*done)(struct job *j))
{
	d->switching.step = SWITCH_COPIES;
	d->switching.sync_failed = false;
	d->switching.job.run = run;
	d->switching.job.done = done;
	d->switching.job.class = JOB_LONG; /* writes wait for it: what hangs elsewhere does not hold it up */
	disk_sync_begin(d, &d->switching.job);
}

void cover_lift(struct disk *d)
{
	submit(d, uncover_run, uncover_done);
}

void cover_again(struct disk *d)
{
	submit(d, hide_run, hide_done);
}
