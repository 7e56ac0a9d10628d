/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The export as /dev/nbdN.
 *
 * What the kernel has sent on a connection that is lost, and is not answered yet, it sends again when its
 * own timer fires, AGAIN_MS after it was sent first: by then there is a new connection. (The timer of a
 * request on a connection that stands only writes a line to its log: drivers/block/nbd.c,
 * nbd_xmit_timeout(). With several connections it closes the connection of that request instead, which is
 * then replaced, so there the timer keeps its 30 s.) What is sent again may be a write that the core is still busy
 * with: the core answers what overlaps in its order.
 */
#include "libbb.h"
#include "client/client.h"
#include "device/kernel_nbd.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "server/device.h"

#include <sys/file.h>
#include <sys/sysmacros.h>

enum {
	AGAIN_MS = 5000,
	TRY_MS = 100,    /* the kernel may not have noticed yet that a connection is lost */
	BUSY_MS = 3000,  /* a start tries for so long: then somebody else has the device */
	LOCK_MS = 5000,  /* an end waits so long for who looks at the device */
	SCAN_MS = 5000,  /* a start waits so long for partitions: their table may be at the origin, which may be away */
	IDENTIFIER_BYTES = 80,
};

/* A connection of a device. */
struct line {
	struct device *owner;
	struct session *session; /* NULL: lost */
	int ours, kernels;       /* the ends of a socket pair, while they are handed over; else -1 */
};

struct device {
	const char *name, *path; /* of the export, of the device */
	struct device *next;
	struct kernel_nbd_device device;
	char identifier[IDENTIFIER_BYTES];
	struct export *export;
	unsigned count; /* of lines */
	struct line lines[KERNEL_NBD_CONNECTIONS_MAX];
	struct timer again;
	uint64_t begun_ms;
	bool is_there, is_scanned, is_ending, has_ended;

	struct job job, scan;
	bool busy; /* job is under way */
	/* of job */
	bool in_use;
	int error;
};

static struct kernel_nbd kernel; /* for one job at a time */
static struct serial_queue kernel_queue;
static struct device *devices;

/* ---- on a worker ------------------------------------------------------------------------------- */

/* How long a request waits before its timer fires. If it cannot be set, a lost connection costs 30 s. */
static void set_timer(const struct device *d)
{
	char path[64], text[16];
	int fd;

	snprintf(path, sizeof(path), "/sys/block/nbd%u/queue/io_timeout", d->device.index);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	snprintf(text, sizeof(text), "%u", AGAIN_MS);
	full_write(fd, text, strlen(text));
	close(fd);
}

/* Whether the device that is connected already serves what we serve. */
static bool is_ours(const struct device *d)
{
	char identifier[IDENTIFIER_BYTES];

	return d->device.identifier && kernel_nbd_identifier(d->device.index, identifier, sizeof(identifier)) &&
	       strcmp(identifier, d->device.identifier) == 0;
}

/* Gives the kernel its ends. The kernel says nothing of one that it has no use for: it closes it. */
static int hand_over(const struct device *d, const int *fds, unsigned n)
{
	int error;

	if (!d->is_there && !kernel_nbd_pid(d->device.index))
		error = kernel_nbd_connect(&kernel, &d->device, fds, n);
	else if (d->is_there || is_ours(d))
		error = kernel_nbd_reconfigure(&kernel, &d->device, fds, n);
	else
		error = EBUSY;
	if (!error && d->count == 1)
		set_timer(d);
	return error;
}

static struct device *device_of(struct job *j)
{
	return (struct device *)(void *)((char *)j - offsetof(struct device, job));
}

static struct device *device_of_scan(struct job *j)
{
	return (struct device *)(void *)((char *)j - offsetof(struct device, scan));
}

static void connect_run(struct job *j)
{
	struct device *d = device_of(j);
	int fds[KERNEL_NBD_CONNECTIONS_MAX];
	struct line *l;
	unsigned n = 0;

	for (l = d->lines; l < d->lines + d->count; l++)
		if (l->kernels >= 0)
			fds[n++] = l->kernels;
	d->error = hand_over(d, fds, n);
	for (l = d->lines; l < d->lines + d->count; l++) {
		char byte;

		if (l->kernels < 0)
			continue;
		close(l->kernels);
		l->kernels = -1;
		if (d->error || recv(l->ours, &byte, 1, MSG_PEEK | MSG_DONTWAIT) == 0) {
			close(l->ours);
			l->ours = -1;
		}
	}
}

/* Whoever opens a device that is new has its partitions read. */
static void scan_run(struct job *j)
{
	int fd = open(device_of_scan(j)->path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
}

/* A reader gets errors when the device goes. udev, which looks at each new device, holds a shared lock meanwhile, and
 * leaves alone what is locked (systemd.io/BLOCK_DEVICE_LOCKING). */
static bool lock(int fd)
{
	const struct timespec step = { .tv_nsec = TRY_MS * 1000000 };
	unsigned left;

	for (left = LOCK_MS / TRY_MS; flock(fd, LOCK_EX | LOCK_NB) < 0; left--) {
		if (errno != EWOULDBLOCK || left == 0)
			return false;
		nanosleep(&step, NULL);
	}
	return true;
}

static void end_run(struct job *j)
{
	struct device *d = device_of(j);
	int fd = open(d->path, O_RDONLY | O_EXCL | O_CLOEXEC); /* of a block device: nobody has mounted it */

	d->in_use = fd < 0 ? errno == EBUSY : !lock(fd);
	d->error = d->in_use ? 0 : kernel_nbd_disconnect(&kernel, d->device.index);
	if (fd >= 0)
		close(fd);
}

/* ---- the loop's thread ---------------------------------------------------------------------------- */

static void lines_fill(struct device *d);

static void submit(struct device *d, void (*run)(struct job *), void (*done)(struct job *))
{
	d->busy = true;
	d->job.run = run;
	d->job.done = done;
	d->job.class = JOB_SLOW;
	d->job.queue = &kernel_queue;
	pool_submit(&d->job);
}

static void end_done(struct job *j)
{
	struct device *d = device_of(j);

	d->busy = false;
	d->has_ended = true;
	if (d->in_use)
		bb_error_msg("'%s' is in use and stays: a server with the same options takes it over", d->path);
	if (d->error)
		bb_error_msg("'%s' cannot be disconnected: %s", d->path, strerror(d->error));
}

static void scan_done(struct job *j)
{
	device_of_scan(j)->is_scanned = true;
}

static void line_lost(void *ctx)
{
	struct line *l = ctx;

	l->session = NULL;
	lines_fill(l->owner);
}

static void NORETURN die_unconnected(const struct device *d)
{
	if (d->error && d->error != EBUSY)
		bb_error_msg_and_die("'%s' cannot be connected: %s", d->path, strerror(d->error));
	bb_error_msg_and_die("'%s' is in use, by process %u or what it has begun: choose another, or disconnect it", d->path, kernel_nbd_pid(d->device.index));
}

static void try_again(struct timer *t)
{
	lines_fill((struct device *)(void *)((char *)t - offsetof(struct device, again)));
}

static void connect_done(struct job *j)
{
	struct device *d = device_of(j);
	struct line *l;
	bool lost = false;

	d->busy = false;
	if (d->error && !d->is_there)
		die_unconnected(d);
	for (l = d->lines; l < d->lines + d->count; l++) {
		if (l->ours >= 0) {
			l->session = session_begin(l->ours, d->export);
			l->ours = -1;
			if (l->session)
				session_tell(l->session, line_lost, l);
		}
		lost |= !l->session;
	}
	if (d->is_ending) {
		if (!d->has_ended)
			submit(d, end_run, end_done);
		return;
	}
	if (d->error) {
		bb_error_msg("'%s' has been disconnected: %s", d->path, strerror(d->error));
		d->is_ending = d->has_ended = true;
		return;
	}
	if (!d->is_there && d->lines[0].session) {
		d->is_there = true;
		d->scan.run = scan_run;
		d->scan.done = scan_done;
		d->scan.class = JOB_SLOW;
		pool_submit(&d->scan);
	}
	if (!d->is_there && loop_now_ms() - d->begun_ms > BUSY_MS)
		die_unconnected(d);
	if (lost)
		timer_set(&d->again, loop_now_ms() + TRY_MS);
}

/* A new pair of sockets for each that is lost. */
static void lines_fill(struct device *d)
{
	struct line *l;
	bool any = false;
	int pair[2];

	if (d->busy || d->is_ending)
		return;
	for (l = d->lines; l < d->lines + d->count; l++) {
		if (l->session)
			continue;
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
			timer_set(&d->again, loop_now_ms() + TRY_MS);
			break;
		}
		l->ours = pair[0];
		l->kernels = pair[1];
		any = true;
	}
	if (any)
		submit(d, connect_run, connect_done);
}

/* ---- for the server ------------------------------------------------------------------------------------ */

void device_prepare(const char *name, const char *path, unsigned connections)
{
	struct device *d = xzalloc(sizeof(*d));
	int error = devices ? 0 : kernel_nbd_open(&kernel);
	struct line *l;
	int index;

	if (error == ENOENT)
		bb_simple_error_msg_and_die("the kernel has no nbd devices: modprobe nbd");
	if (error)
		bb_error_msg_and_die("netlink: %s", strerror(error));
	index = kernel_nbd_index(path);
	if (index < 0)
		bb_perror_msg_and_die("'%s' cannot be the device: it has to be one as /dev/nbd0", path);
	d->name = name;
	d->path = path;
	d->device.index = (uint32_t)index;
	d->again.fire = try_again;
	d->count = connections;
	for (l = d->lines; l < d->lines + d->count; l++) {
		l->owner = d;
		l->ours = l->kernels = -1;
	}
	d->next = devices;
	devices = d;
}

/* What is served, as long as the machine runs: no other image can have this. What --cow-target serves is gone
 * with its server. */
static const char *identify(struct device *d)
{
	const struct export *e = d->export;
	struct stat st;

	if (e->disk.base_fd >= 0 || fstat(e->disk.fd[FILE_IMAGE], &st) < 0)
		return NULL;
	if (S_ISBLK(st.st_mode))
		st.st_ino = 0;
	else
		st.st_rdev = st.st_dev;
	snprintf(d->identifier, sizeof(d->identifier), "xnbd %u:%u/%llu %llu", major(st.st_rdev), minor(st.st_rdev),
		 (unsigned long long)st.st_ino, (unsigned long long)e->nbd.size_bytes);
	return d->identifier;
}

static void device_begin(struct device *d)
{
	struct export *e = export_find(d->name, strlen(d->name));
	unsigned rest;

	if (!e)
		bb_error_msg_and_die("'%s' cannot be the device of '%s': there is no such export", d->path, d->name);
	rest = (unsigned)(e->nbd.size_bytes % 512);
	if (rest)
		bb_error_msg("'%s' lacks the last %u bytes of the disk: a device has whole sectors of 512", d->path, rest);
	d->export = e;
	d->begun_ms = loop_now_ms();
	d->device.size_bytes = e->nbd.size_bytes;
	d->device.block_bytes = 512;
	d->device.transmission_flags = e->nbd.transmission_flags;
	d->device.dead_s = KERNEL_NBD_FOREVER_S;
	d->device.identifier = identify(d);
	lines_fill(d);
}

void devices_begin(void)
{
	struct device *d;

	for (d = devices; d; d = d->next)
		device_begin(d);
}

bool devices_are_ready(void)
{
	const struct device *d = devices;

	while (d && (d->is_scanned || (d->is_there && loop_now_ms() - d->begun_ms > SCAN_MS)))
		d = d->next;
	return !d;
}

void devices_end(bool keep)
{
	struct device *d;

	for (d = devices; d; d = d->next) {
		d->is_ending = true;
		timer_clear(&d->again);
		d->has_ended |= keep;
		if (!d->has_ended && !d->busy)
			submit(d, end_run, end_done);
	}
}

bool devices_have_ended(void)
{
	const struct device *d = devices;

	while (d && d->has_ended)
		d = d->next;
	return !d;
}
