/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The export as /dev/nbdN: its start, its connections. */
//config:config FEATURE_XNBD_SERVER_DEVICE
//config:	bool "--device (14 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	The disk is /dev/nbdN of this machine, which outlives a server that
//config:	is killed: the next one takes it over, and what waits for it goes on.
#include "libbb.h"
#include "client/client.h"
#include "reactor/loop.h"
#include "server/device_nbd.h"
#include "server/server.h"

struct device *devices;

static struct serial_queue kernel_queue; /* one job at a time uses device_kernel */

void device_submit(struct device *d, void (*run)(struct job *), void (*done)(struct job *))
{
	d->busy = true;
	d->job.run = run;
	d->job.done = done;
	d->job.class = JOB_SLOW;
	d->job.queue = &kernel_queue;
	pool_submit(&d->job);
}

static void scan_ended(struct event *e, uint32_t events UNUSED_PARAM)
{
	struct device *d = device_of_child(e);

	d->is_scanned = true;
	device_child_forget(d);
}

/* Somebody else has disconnected it. */
static void let_go(struct device *d)
{
	bb_error_msg("'%s' has been disconnected", d->path);
	d->is_ending = d->has_ended = true;
	timer_clear(&d->again);
	export_drop(d->export);
}

/* The kernel sends a DISC only to end the device. A device that is still open can be connected again: it must not be,
 * as Linux before 6.14 would do it. */
void device_line_lost(void *ctx)
{
	struct line *l = ctx;
	struct device *d = l->owner;

	d->is_disconnected |= session_was_disconnected(l->session);
	l->session = NULL;
	if (d->is_disconnected && !d->busy && !d->is_ending)
		let_go(d);
	else
		device_lines_fill(d);
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
	device_lines_fill(device_of_timer(t));
}

/* It has ended, or is another one's. Any other error may pass. */
static bool is_gone(const struct device *d)
{
	return d->is_there && (d->error == EINVAL || d->is_disconnected);
}

void device_there(struct device *d)
{
	d->is_there = true;
	if (!d->is_ending && !device_child_begin(d, scan_ended))
		d->is_scanned = true;
}

static void connect_done(struct job *j)
{
	struct device *d = device_of_job(j);
	struct line *l;
	bool lost = false;

	d->busy = false;
	for (l = d->lines; l < d->lines + d->count; l++) {
		if (l->ours >= 0) {
			l->session = session_begin(l->ours, d->export);
			l->ours = -1;
			if (l->session)
				session_tell(l->session, device_line_lost, l);
		}
		lost |= !l->session;
	}
	if (is_gone(d)) {
		let_go(d);
		return;
	}
	if (!d->is_there && d->lines[0].session)
		device_there(d);
	if (d->is_ending) {
		device_end_begin(d);
		return;
	}
	/* It may be that somebody just looks at it. */
	if (!d->is_there && ((d->error && d->error != EBUSY) || loop_now_ms() - d->begun_ms > DEVICE_BUSY_MS))
		fail(d);
	else if (lost)
		timer_set(&d->again, loop_now_ms() + DEVICE_TRY_MS);
}

void device_lines_fill(struct device *d)
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
		device_submit(d, device_connect_run, connect_done);
}

/* ---- for the server ------------------------------------------------------------------------------------ */

static void open_kernel(unsigned connections)
{
	int error;

	if (connections == 1 && !kernel_nbd_is_since(5, 7))
		bb_simple_error_msg_and_die("/dev/nbdN with one connection needs Linux 5.7: earlier kernels do not resend requests in flight");
	error = devices ? 0 : kernel_nbd_open(&device_kernel);
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
	open_kernel(connections);
	if (!again)
		index = kernel_nbd_index(path);
	if (index < 0)
		bb_perror_msg_and_die("'%s' is not a device such as /dev/nbd0" IF_FEATURE_XNBD_SERVER_UBLK(" or /dev/ublkb0"), path);
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && server_config->clear_bitmap && !again && kernel_nbd_pid((unsigned)index))
		bb_error_msg_and_die("'%s' is in use: what uses it would lose its disk by " IF_LONG_OPTS("--clear-bitmap") IF_NOT_LONG_OPTS("-c"), path);
	device_new(name, path, index, connections);
}

void device_describe(struct device *d, struct export *e)
{
	d->export = e;
	d->begun_ms = loop_now_ms();
	d->device.size_bytes = e->nbd.size_bytes;
	d->device.block_bytes = device_block_bytes(e);
	d->device.transmission_flags = e->nbd.transmission_flags;
	d->device.dead_s = KERNEL_NBD_FOREVER_S;
	d->device.identifier = device_identify(e, d->count, d->identifier);
}

static void device_begin(struct device *d)
{
	struct export *e = device_export(d->name, d->path);

	device_describe(d, e);
	device_lines_fill(d);
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
	bb_error_msg_and_die("'%s' is in use by process %u or a child of it: use the same image and options or another device, or disconnect it", d->path, d->pid);
}

bool devices_are_ready(void)
{
	const struct device *d = failed ? NULL : devices;

	while (d && (d->is_scanned || (d->is_there && loop_now_ms() - d->begun_ms > DEVICE_SCAN_MS)))
		d = d->next;
	return !d && (!ENABLE_FEATURE_XNBD_SERVER_UBLK || failed || ublk_devices_are_ready());
}
