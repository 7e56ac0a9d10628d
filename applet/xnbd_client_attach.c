/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-client: from servers to a device. By netlink the device needs no process; what may stay with it all the same is in
 * xnbd_client_keep.c.
 */
//kbuild:lib-$(CONFIG_XNBD_CLIENT) += xnbd_client_attach.o
#include "libbb.h"
#include "xnbd_client.h"

#include <poll.h>

enum {
	RETRY_MS = 1000,
	BUSY_MS = 3000,  /* whoever looks at a device, as udev does, keeps it busy for a moment */
	AGAIN_MS = 5000, /* as in server/device_kernel.c */
};

struct kernel_nbd client_kernel, client_events;

/* ---- servers --------------------------------------------------------------------------------- */

int client_dial(const struct client *c, struct nbd_client_handshake *h, struct server **s)
{
	unsigned round;
	int fd;

	for (round = 1;; round++) {
		for (*s = servers; (*s)->host; (*s)++) {
			fd = server_dial(*s, h);
			if (fd >= 0)
				return fd;
			if (round == c->retries || (!c->retries && round == 1))
				bb_error_msg("%s:%s: %s", (*s)->host, (*s)->port, server_error);
		}
		if (round == c->retries)
			xfunc_die();
		(void)poll(NULL, 0, RETRY_MS);
	}
}

/* What the kernel will be told of the export; dies of what it cannot be told. */
static void describe(struct attachment *a, const struct nbd_client_handshake *h)
{
	struct kernel_nbd_device *d = &a->device;
	const char *host = a->server->host, *port = a->server->port;

	d->block_bytes = a->c->block_bytes ? a->c->block_bytes : h->min_block > 512 ? h->min_block : 512;
	if (h->min_block > d->block_bytes || d->block_bytes > 4096)
		bb_error_msg_and_die("%s:%s: it needs a block size of %u; a device has %s", host, port, h->min_block,
				     d->block_bytes > 4096 ? "at most 4096" : "what was given");
	if (!h->size_bytes || h->size_bytes % d->block_bytes)
		bb_error_msg_and_die("%s:%s: its size, %llu bytes, is not a multiple of the block size, %u", host, port,
				     (unsigned long long)h->size_bytes, d->block_bytes);
	a->size_bytes = d->size_bytes = h->size_bytes;
	a->max_payload = h->max_payload;
	d->transmission_flags = (uint16_t)(h->transmission_flags | (a->c->readonly ? NBD_FLAG_READ_ONLY : 0));
	d->timeout_s = a->c->timeout_s;
	if (ENABLE_FEATURE_XNBD_CLIENT_PERSIST && a->c->persist)
		d->dead_s = KERNEL_NBD_FOREVER_S;
}

static void dial_all(struct attachment *a)
{
	struct nbd_client_handshake h = { .simple = true };
	unsigned wanted = a->c->connections;

	a->fds[a->count++] = client_dial(a->c, &h, &a->server);
	describe(a, &h);
	if (wanted > 1 && !(a->device.transmission_flags & (NBD_FLAG_CAN_MULTI_CONN | NBD_FLAG_READ_ONLY))) {
		bb_error_msg("%s:%s: one connection, not %u: the server lacks CAN_MULTI_CONN", a->server->host,
			     a->server->port, wanted);
		wanted = 1;
	}
	if (wanted > 1) /* the kernel insists */
		a->device.transmission_flags |= NBD_FLAG_CAN_MULTI_CONN;
	while (a->count < wanted) {
		int fd = server_dial(a->server, &h);

		if (fd < 0 || !client_is_same_disk(a, &h))
			bb_error_msg_and_die("%s:%s: connection %u: %s", a->server->host, a->server->port, a->count + 1, server_error);
		a->fds[a->count++] = fd;
	}
	while (wanted)
		client_prepare_socket(a->c, a->fds[--wanted]);
}

static void close_all(struct attachment *a)
{
	unsigned i;

	for (i = 0; i < a->count; i++)
		close(a->fds[i]);
}

void client_scan(const struct attachment *a)
{
	int fd = open(a->c->path, O_RDONLY | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
}

void client_die_busy(const struct attachment *a)
{
	bb_error_msg_and_die("'%s' is connected already, by process %u", a->c->path, kernel_nbd_pid(a->device.index));
}

void client_die_unconnected(const struct attachment *a, int error)
{
	if (error == EBUSY && kernel_nbd_pid(a->device.index))
		client_die_busy(a);
	bb_error_msg_and_die("'%s' cannot be connected: %s", a->c->path, strerror(error));
}

/* ---- by netlink ---------------------------------------------------------------------------------------- */

bool client_netlink(struct kernel_nbd *k)
{
	int error = kernel_nbd_open(k);

	if (error && error != ENOENT)
		bb_error_msg_and_die("netlink: %s", strerror(error));
	return !error;
}

void client_set_limits(struct attachment *a)
{
	static const char file[] = "queue/max_sectors_kb";
	const struct client *c = a->c;
	unsigned longest = kernel_nbd_get(a->device.index, file) << 10;

	if (a->max_payload < longest)
		kernel_nbd_set(a->device.index, file, a->max_payload >> 10);
	else if (longest)
		a->max_payload = longest;
	/* If it cannot be set, a lost connection costs 30 s. */
	a->device.keeps_timer = c->persist && a->count == 1 && !c->timeout_s && kernel_nbd_set(a->device.index, "queue/io_timeout", AGAIN_MS);
}

static int connect_device(struct attachment *a)
{
	unsigned long long end_ms = monotonic_ms() + BUSY_MS;
	bool persists = ENABLE_FEATURE_XNBD_CLIENT_PERSIST && a->c->persist;
	int error;

	if (kernel_nbd_pid(a->device.index))
		return persists && client_is_ours(a) ? kernel_nbd_reconfigure(&client_kernel, &a->device, a->fds, a->count) : EBUSY;
	client_set_limits(a);
	if (persists)
		client_identify(a);
	for (;;) {
		error = kernel_nbd_connect(&client_kernel, &a->device, a->fds, a->count);
		if (error != EBUSY || kernel_nbd_pid(a->device.index) || monotonic_ms() > end_ms)
			return error;
		(void)poll(NULL, 0, CLIENT_NOTICE_MS);
	}
}

static int attach_by_netlink(struct attachment *a)
{
	const struct client *c = a->c;
	bool follows = c->stay || (ENABLE_FEATURE_XNBD_CLIENT_PERSIST && (c->persist || c->recovery || c->reboot));
	int error;

	if (follows) {
		client_netlink(&client_events);
		error = kernel_nbd_subscribe(&client_events);
		if (error)
			bb_error_msg_and_die("netlink: %s", strerror(error));
	}
	error = connect_device(a);
	if (error)
		client_die_unconnected(a, error);
	a->pid = kernel_nbd_pid(a->device.index);
	if (c->persist || !follows)
		close_all(a);
	if (follows && client_divide(c)) {
		client_to_background(c);
		return client_follow(a);
	}
	client_scan(a);
	return 0;
}

int client_attach(const struct client *c)
{
	struct attachment a = { .c = c };
	bool netlink;

	a.device.index = client_index(c->path);
	netlink = !c->use_ioctl && client_netlink(&client_kernel);
	if (!netlink && !ENABLE_FEATURE_XNBD_CLIENT_IOCTL)
		bb_error_msg_and_die("'%s': the kernel has no netlink for nbd", c->path);
	if (!c->persist && kernel_nbd_pid(a.device.index))
		client_die_busy(&a);
	if (c->swap)
		client_lock_memory();
	dial_all(&a);
	if (netlink || !ENABLE_FEATURE_XNBD_CLIENT_IOCTL)
		return attach_by_netlink(&a);
	return client_attach_by_ioctl(&a);
}
