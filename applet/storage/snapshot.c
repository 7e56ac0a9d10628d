/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * SIGUSR1: a copy of the image as it is at one moment, DISK_IMAGE.TIME.
 *
 * While it is made nothing is written to the image: writes wait. Where the file system
 * shares blocks between files (FICLONE) that is a moment, else as long as the copy takes.
 */
//config:config FEATURE_XNBD_SERVER_SNAPSHOT
//config:	bool "SIGUSR1 makes a snapshot (1.3 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	A copy of the image of a target as it is at one moment.
#include "libbb.h"
#include "reactor/loop.h"
#include "storage/holes.h"
#include "storage/snapshot.h"

#include <limits.h>
#include <sys/ioctl.h>

enum { COPY_BYTES = 256 << 10 };

/* linux/fs.h: kernel headers are not needed for one number. */
#define X_FICLONE _IOW(0x94, 9, int)

static struct snapshot {
	struct job job;
	struct freeze freeze;
	struct disk *disk; /* NULL: none is under way */
	char path[PATH_MAX + 32], unfinished[PATH_MAX + 40]; /* what has no room here the kernel does not open either */
	int error;
	struct commit_waiter commit;
} snapshot;

/* Data of [offset, end), a hole stays one. 0 or errno. */
static int copy_data(int from, int to, uint8_t *buf, uint64_t offset, uint64_t end)
{
	int error = 0;

	while (!error && offset < end) {
		uint64_t step = end - offset < COPY_BYTES ? end - offset : COPY_BYTES;

		error = disk_transfer(from, false, buf, step, offset);
		if (!error)
			error = disk_transfer(to, true, buf, step, offset);
		offset += step;
	}
	return error;
}

static int copy(int from, bool holes, int to, uint64_t size)
{
	uint8_t *buf = malloc(COPY_BYTES);
	uint64_t data = 0, end;
	int error = !buf ? ENOMEM : ftruncate(to, (off_t)size) < 0 ? errno : 0;

	for (; !error && (data = holes_data(from, holes, data)) < size; data = end) {
		end = holes_data_end(from, holes, data);
		error = copy_data(from, to, buf, data, end < size ? end : size);
	}
	free(buf);
	return error;
}

/* The file of the first second from now on that has none: snapshots may be made faster, and a clock may be set back. Who has
 * the name of the unfinished one has the other one, too: nobody else makes it a file. -1 with errno. */
static int open_new(struct snapshot *s)
{
	unsigned long long t = (unsigned long long)time(NULL);
	int fd;

	do {
		snprintf(s->path, sizeof(s->path), "%s.%llu", s->disk->path[FILE_IMAGE], t++);
		stpcpy(stpcpy(s->unfinished, s->path), ".new");
		fd = open(s->unfinished, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
		if (fd >= 0 && access(s->path, F_OK) == 0) {
			close(fd);
			unlink(s->unfinished);
			fd = -1;
			errno = EEXIST;
		}
	} while (fd < 0 && errno == EEXIST);
	return fd;
}

static void snapshot_run(struct job *j)
{
	struct snapshot *s = (struct snapshot *)j;
	int from = s->disk->fd[FILE_IMAGE];
	int to = open_new(s);

	if (!s->error && to < 0)
		s->error = errno;
	if (!s->error && ioctl(to, X_FICLONE, from) < 0)
		s->error = copy(from, s->disk->holes_known, to, core_size_bytes(s->disk->core));
	if (!s->error && (fsync(to) < 0 || rename(s->unfinished, s->path) < 0))
		s->error = errno;
	if (s->error && to >= 0)
		unlink(s->unfinished);
	if (to >= 0)
		close(to);
}

static void snapshot_done(struct job *j)
{
	struct snapshot *s = (struct snapshot *)j;
	struct disk *d = s->disk;

	if (s->error)
		bb_error_msg("snapshot '%s': %s", s->path, strerror(s->error));
	s->disk = NULL;
	core_thaw(d->core, &s->freeze);
}

static void synced(struct commit_waiter *w UNUSED_PARAM, int error)
{
	snapshot.error = error;
	pool_submit(&snapshot.job);
}

/* The core syncs, as for a FLUSH: the kernel tells an error to one of two syncs, and the other would be a lie. */
static void frozen(struct freeze *f UNUSED_PARAM)
{
	core_commit(snapshot.disk->core, &snapshot.commit);
}

/* Missing blocks, after a switch by force, would be zeroes in the copy: wrong bytes. Clients with another size have a core of their
 * own, which is not frozen, and write to the same file. */
static bool can_be_copied(const struct disk *d)
{
	return d->core && !core_is_proxy(d->core) && map_is_complete(core_map(d->core)) && !d->is_device && d->base_fd < 0 && !d->twin;
}

void snapshot_begin(struct disk *d)
{
	struct snapshot *s = &snapshot;

	if (!can_be_copied(d)) {
		bb_simple_error_msg("no snapshot: it is made of the image of a target, when that is a regular file and complete, and no client has another size of it");
		return;
	}
	if (s->disk)
		return; /* one is being made */
	s->disk = d;
	s->commit.done = synced;
	s->job.run = snapshot_run;
	s->job.done = snapshot_done;
	s->job.class = JOB_SLOW;
	s->freeze.frozen = frozen;
	core_freeze(d->core, &s->freeze);
	core_tick(d->core, loop_now_ms()); /* for the commit, if it is frozen already */
}

bool snapshot_is_busy(void)
{
	return snapshot.disk;
}
