/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The export as /dev/nbdN, and what it has in common with /dev/ublkbN.
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
#include "device/ublk.h"
#include "reactor/loop.h"
#include "reactor/pool.h"
#include "server/device.h"
#include "server/server.h"
#include "storage/identity.h"

#include <poll.h>
#include <sys/syscall.h>

enum {
	AGAIN_MS = 5000,
	OPEN_MS = 5000,  /* an end waits so long for who just reads the device */
	LATE_MS = 10000, /* ... and for its child */
	FDS_MAX = 1024,
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
	char identifier[DEVICE_IDENTIFIER_BYTES];
	struct export *export;
	unsigned count; /* of lines */
	struct line lines[KERNEL_NBD_CONNECTIONS_MAX];
	struct timer again;
	struct event child; /* a process that has the device open; fd -1: there is none */
	uint64_t begun_ms;
	unsigned pid; /* whoever has connected it, as the kernel says: another one has another device */
	bool is_there, is_scanned, is_ending, has_ended;
	bool is_new; /* it was not taken over: whoever opens it waits for the scan */

	struct job job;
	bool busy; /* job is under way */
	int error; /* of job */
};

static struct kernel_nbd kernel; /* for one job at a time */
static struct serial_queue kernel_queue;
static struct device *devices;

/* ---- on a worker ------------------------------------------------------------------------------- */

/* Whether the device that is connected already serves what we serve. */
static bool is_ours(const struct device *d)
{
	char identifier[DEVICE_IDENTIFIER_BYTES];

	return d->device.identifier && kernel_nbd_identifier(d->device.index, identifier, sizeof(identifier)) &&
	       strcmp(identifier, d->device.identifier) == 0;
}

/* ... and that it is still the one that we have connected. */
static bool has_stayed(const struct device *d)
{
	unsigned pid = kernel_nbd_pid(d->device.index);

	return pid == d->pid || access("/sys/block", F_OK) < 0; /* that: sysfs has been mounted elsewhere since the start */
}

/* Gives the kernel its ends. The kernel says nothing of one that it has no use for: it closes it. It compares
 * identifiers, but for a device that has none. */
static int hand_over(struct device *d, const int *fds, unsigned n)
{
	int error;

	if (d->is_there) {
		error = has_stayed(d) ? kernel_nbd_reconfigure(&kernel, &d->device, fds, n) : EINVAL;
	} else {
		d->is_new = !kernel_nbd_pid(d->device.index);
		/* Before there are requests: Linux 6.12 waits until all are answered, which is for us to do. If it
		 * cannot be set, a lost connection costs 30 s. */
		d->device.keeps_timer = d->is_new && d->count == 1 && kernel_nbd_set(d->device.index, "queue/io_timeout", AGAIN_MS);
		if (d->is_new)
			error = kernel_nbd_connect(&kernel, &d->device, fds, n);
		else
			error = is_ours(d) ? kernel_nbd_reconfigure(&kernel, &d->device, fds, n) : EBUSY;
		d->pid = kernel_nbd_pid(d->device.index);
	}
	return error;
}

static struct device *device_of(struct job *j)
{
	return (struct device *)(void *)((char *)j - offsetof(struct device, job));
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

/* A reader gets errors when the device goes. So the kernel is asked to remove it when it is closed by the last of those
 * who have it open, and child() is the next. */
static void end_run(struct job *j)
{
	struct device *d = device_of(j);

	d->device.ends_on_close = true;
	d->error = has_stayed(d) ? kernel_nbd_reconfigure(&kernel, &d->device, NULL, 0) : 0;
}

static void disconnect_run(struct job *j)
{
	struct device *d = device_of(j);

	d->error = has_stayed(d) ? kernel_nbd_disconnect(&kernel, d->device.index) : 0;
}

/* ---- a process of its own ------------------------------------------------------------------------- */

/* Opens the device and closes it, and writes a byte if somebody else has it. Whoever opens a device that is new has its
 * partitions read, perhaps from an origin that is away. A process that waits for that cannot be killed, and keeps its
 * descriptors: if it were the server, nobody could take the device over, and the wait would have no end. */
static void NORETURN child(const struct device *d, int report)
{
	unsigned tries = d->is_ending ? OPEN_MS / DEVICE_TRY_MS : 0;
	int fd;

	dup2(report, STDIN_FILENO);
	for (fd = syscall(SYS_close_range, 1, ~0U, 0) == 0 ? 0 : FDS_MAX; fd; fd--) /* Linux 5.9 */
		close(fd);
	fd = open(d->path, d->is_ending ? O_RDONLY | O_EXCL : O_RDONLY); /* O_EXCL, of a block device: nobody has mounted it */
	if (fd >= 0)
		close(fd);
	else if (errno == EBUSY)
		tries = 1;
	while (tries && has_stayed(d)) {
		(void)poll(NULL, 0, DEVICE_TRY_MS);
		if (!--tries)
			write(STDIN_FILENO, "", 1);
	}
	_exit(0);
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

static void child_forget(struct device *d)
{
	if (d->child.fd < 0)
		return;
	event_remove(&d->child);
	close(d->child.fd);
	d->child.fd = -1;
}

/* ready() is called when it has reported, or ended. False: there is none. */
static bool child_begin(struct device *d, void (*ready)(struct event *e, uint32_t events))
{
	int report[2];
	pid_t pid;

	child_forget(d);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, report) < 0)
		return false;
	pid = bb_fork();
	if (pid == 0)
		child(d, report[1]);
	close(report[1]);
	d->child.fd = report[0];
	d->child.ready = ready;
	if (pid > 0 && event_add(&d->child, EPOLLIN))
		return true;
	close(report[0]);
	d->child.fd = -1;
	return false;
}

static struct device *device_of_child(struct event *e)
{
	return (struct device *)(void *)((char *)e - offsetof(struct device, child));
}

static struct device *device_of_timer(struct timer *t)
{
	return (struct device *)(void *)((char *)t - offsetof(struct device, again));
}

static void scan_ended(struct event *e, uint32_t events UNUSED_PARAM)
{
	struct device *d = device_of_child(e);

	d->is_scanned = true;
	child_forget(d);
}

static void end_done(struct job *j)
{
	struct device *d = device_of(j);

	d->busy = false;
	d->has_ended = true;
	if (d->error)
		bb_error_msg("'%s' cannot be disconnected: %s", d->path, strerror(d->error));
}

static void stay(struct device *d)
{
	timer_clear(&d->again);
	child_forget(d);
	d->has_ended = true;
	bb_error_msg("'%s' is in use and stays: %s", d->path, is_ours(d) ? "a server with the same options takes it over" : "disconnect it when nobody needs it");
}

static void child_late(struct timer *t)
{
	stay(device_of_timer(t));
}

static void child_ended(struct event *e, uint32_t events UNUSED_PARAM)
{
	struct device *d = device_of_child(e);
	char in_use;

	if (safe_read(e->fd, &in_use, 1) == 1) {
		stay(d);
		return;
	}
	timer_clear(&d->again);
	child_forget(d);
	submit(d, disconnect_run, end_done); /* if it is still there, it could not be opened */
}

static void end_child(struct job *j)
{
	struct device *d = device_of(j);

	if (d->error) {
		end_done(j);
	} else if (d->is_new && !d->is_scanned) { /* nobody has read anything, and the scan may have no end */
		submit(d, disconnect_run, end_done);
	} else if (child_begin(d, child_ended)) {
		d->busy = false;
		d->again.fire = child_late;
		timer_set(&d->again, loop_now_ms() + LATE_MS);
	} else {
		stay(d);
	}
}

/* With no job under way. */
static void end_begin(struct device *d)
{
	if (d->has_ended)
		return;
	if (d->is_there)
		submit(d, end_run, end_child);
	else
		d->has_ended = true;
}

static void line_lost(void *ctx)
{
	struct line *l = ctx;

	l->session = NULL;
	lines_fill(l->owner);
}

static const struct device *failed; /* the first that could not be connected */

static void fail(struct device *d)
{
	d->is_ending = d->has_ended = true;
	if (!failed)
		failed = d;
}

static void try_again(struct timer *t)
{
	lines_fill(device_of_timer(t));
}

/* It has ended, or is another one's. Any other error may pass. */
static bool is_gone(const struct device *d)
{
	return d->is_there && d->error == EINVAL;
}

static void there(struct device *d)
{
	d->is_there = true;
	if (!d->is_ending && !child_begin(d, scan_ended))
		d->is_scanned = true;
}

static void connect_done(struct job *j)
{
	struct device *d = device_of(j);
	struct line *l;
	bool lost = false;

	d->busy = false;
	for (l = d->lines; l < d->lines + d->count; l++) {
		if (l->ours >= 0) {
			l->session = session_begin(l->ours, d->export);
			l->ours = -1;
			if (l->session)
				session_tell(l->session, line_lost, l);
		}
		lost |= !l->session;
	}
	if (is_gone(d)) {
		bb_error_msg("'%s' has been disconnected", d->path);
		d->is_ending = d->has_ended = true;
		export_drop(d->export);
		return;
	}
	if (!d->is_there && d->lines[0].session)
		there(d);
	if (d->is_ending) {
		end_begin(d);
		return;
	}
	/* It may be that somebody just looks at it. */
	if (!d->is_there && ((d->error && d->error != EBUSY) || loop_now_ms() - d->begun_ms > DEVICE_BUSY_MS))
		fail(d);
	else if (lost)
		timer_set(&d->again, loop_now_ms() + DEVICE_TRY_MS);
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
			timer_set(&d->again, loop_now_ms() + DEVICE_TRY_MS);
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

static void open_kernel(void)
{
	int error = devices ? 0 : kernel_nbd_open(&kernel);

	if (error == ENOENT)
		bb_simple_error_msg_and_die("the kernel has no nbd devices: modprobe nbd");
	if (error)
		bb_error_msg_and_die("netlink: %s", strerror(error));
}

static struct device *device_new(const char *name, const char *path, int index, unsigned connections)
{
	struct device *d = xzalloc(sizeof(*d));
	struct line *l;

	d->name = name;
	d->path = path;
	d->device.index = (uint32_t)index;
	d->again.fire = try_again;
	d->child.fd = -1;
	d->count = connections;
	if (client_limits.sessions)
		client_limits.sessions += connections;
	for (l = d->lines; l < d->lines + d->count; l++) {
		l->owner = d;
		l->ours = l->kernels = -1;
	}
	d->next = devices;
	devices = d;
	return d;
}

void device_prepare(const char *name, const char *path, unsigned connections, bool again)
{
	int index = 0;

	if (ENABLE_FEATURE_XNBD_SERVER_UBLK && ublk_index(path) >= 0) {
		ublk_device_prepare(name, path);
		return;
	}
	open_kernel();
	if (!again)
		index = kernel_nbd_index(path);
	if (index < 0)
		bb_perror_msg_and_die("'%s' cannot be the device: it has to be one as /dev/nbd0" IF_FEATURE_XNBD_SERVER_UBLK(" or /dev/ublkb0"), path);
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && server_config->clear_bitmap && !again && kernel_nbd_pid((unsigned)index))
		bb_error_msg_and_die("'%s' is in use: what uses it would lose its disk by " IF_LONG_OPTS("--clear-bitmap") IF_NOT_LONG_OPTS("-c"), path);
	device_new(name, path, index, connections);
}

struct export *device_export(const char *name, const char *path)
{
	struct export *e = export_find(name, strlen(name));
	unsigned rest;

	if (!e)
		bb_error_msg_and_die("'%s' cannot be the device of '%s': there is no such export", path, name);
	rest = (unsigned)(e->nbd.size_bytes % 512);
	if (rest)
		bb_error_msg("'%s' lacks the last %u bytes of the disk: a device has whole sectors of 512", path, rest);
	export_hold(e); /* it may be removed, and its session's last connection lost */
	return e;
}

/* What --cow-target serves is gone with its server. */
const char *device_identify(const struct export *e, unsigned connections, char *to)
{
	if (e->disk.base_fd >= 0)
		return NULL;
	snprintf(to, DEVICE_IDENTIFIER_BYTES, "xnbd %llx %llu %s%s%u", (unsigned long long)identity_now(e->disk.fd[FILE_IMAGE]),
		 (unsigned long long)e->nbd.size_bytes, e->disk.words ? "proxy " : "",
		 e->nbd.transmission_flags & NBD_FLAG_READ_ONLY ? "readonly " : "", connections);
	return to;
}

static void describe(struct device *d, struct export *e)
{
	d->export = e;
	d->begun_ms = loop_now_ms();
	d->device.size_bytes = e->nbd.size_bytes;
	d->device.block_bytes = 512;
	d->device.transmission_flags = e->nbd.transmission_flags;
	d->device.dead_s = KERNEL_NBD_FOREVER_S;
	d->device.identifier = device_identify(e, d->count, d->identifier);
}

static void device_begin(struct device *d)
{
	struct export *e = device_export(d->name, d->path);

	describe(d, e);
	lines_fill(d);
}

void devices_begin(void)
{
	struct device *d;

	for (d = devices; d; d = d->next)
		device_begin(d);
	if (ENABLE_FEATURE_XNBD_SERVER_UBLK)
		ublk_devices_begin();
}

bool devices_have_failed(void)
{
	return failed || (ENABLE_FEATURE_XNBD_SERVER_UBLK && ublk_devices_have_failed());
}

void devices_die(void)
{
	const struct device *d = failed;

	if (ENABLE_FEATURE_XNBD_SERVER_UBLK && !d)
		ublk_devices_die();
	if (d->error && d->error != EBUSY)
		bb_error_msg_and_die("'%s' cannot be connected: %s", d->path, strerror(d->error));
	if (!d->pid)
		bb_error_msg_and_die("'%s' is in use: somebody has it open", d->path);
	bb_error_msg_and_die("'%s' is in use, by process %u or what it has begun: give the same image and options, choose another device, or disconnect it", d->path, d->pid);
}

bool devices_are_ready(void)
{
	const struct device *d = failed ? NULL : devices;

	while (d && (d->is_scanned || (d->is_there && loop_now_ms() - d->begun_ms > DEVICE_SCAN_MS)))
		d = d->next;
	return !d && (!ENABLE_FEATURE_XNBD_SERVER_UBLK || failed || ublk_devices_are_ready());
}

void devices_end(bool keep)
{
	struct device *d;

	if (ENABLE_FEATURE_XNBD_SERVER_UBLK)
		ublk_devices_end(keep);

	for (d = devices; d; d = d->next) {
		d->is_ending = true;
		timer_clear(&d->again);
		d->has_ended |= keep;
		if (!d->busy)
			end_begin(d);
	}
}

bool devices_have_ended(void)
{
	const struct device *d = devices;

	while (d && d->has_ended)
		d = d->next;
	return !d && (!ENABLE_FEATURE_XNBD_SERVER_UBLK || ublk_devices_have_ended());
}

/* ---- an exchange of the program --------------------------------------------------------------- */

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
static void device_put(const struct device *d)
{
	struct handed_device *r = handover_put(HANDED_DEVICE, NULL, 0);

	const struct device *other;

	if (d->busy || !d->is_there)
		handover.why = handover_busy;
	for (other = d->next; other; other = other->next) /* sessions are found by their export */
		if (other->export == d->export)
			handover.why = "two devices are of one export";
	r->is_new = d->is_new;
	r->is_scanned = d->is_scanned;
	r->pid = d->pid;
	r->index = d->device.index;
	r->export = d->is_ending ? NO_EXPORT : d->export->serial; /* not held any more: it was disconnected by somebody else */
}

static void device_get(struct device *d, const struct handed_device *r)
{
	struct export *e = export_by_serial(r->export);
	struct line *l;

	d->is_new = r->is_new;
	d->is_scanned = r->is_scanned;
	d->is_ending = d->has_ended = !e;
	d->pid = r->pid;
	d->device.index = r->index;
	if (!e)
		return;
	for (l = d->lines; l < d->lines + d->count && (l->session = session_claim(e)); l++)
		session_tell(l->session, line_lost, l);
	export_hold(e);
	describe(d, e);
	there(d); /* its partitions may not have been read to the end */
	lines_fill(d);
}

void devices_handover(void)
{
	struct device *d;

	if (ENABLE_FEATURE_XNBD_SERVER_UBLK && ublk_devices_are_there())
		handover.why = "/dev/ublkbN cannot be handed over: see --keep-device";
	for (d = devices; d; d = d->next) {
		const struct handed_device *r = handover.reads ? handover_get(HANDED_DEVICE) : NULL;

		if (r)
			device_get(d, r);
		else if (!handover.reads)
			device_put(d);
	}
}
#endif
