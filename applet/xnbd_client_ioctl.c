/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* xnbd-client: devices of kernels without netlink for nbd. They need a process. */
//config:config FEATURE_XNBD_CLIENT_IOCTL
//config:	bool "Kernels without netlink (740 bytes)"
//config:	default y
//config:	depends on XNBD_CLIENT
//config:	help
//config:	Devices are connected by ioctl(2) if the kernel is older than 4.12.
//kbuild:lib-$(CONFIG_FEATURE_XNBD_CLIENT_IOCTL) += xnbd_client_ioctl.o
#include "libbb.h"
#include "xnbd_client.h"

#include <poll.h>
#include <sys/wait.h>

enum { START_MS = 5000 }; /* from the first ioctl(2) to a device */

/* Until the device is there, or its process has ended. The kernel shows the size a moment before it can be asked for
 * partitions. */
static int await_device(const struct attachment *a)
{
	unsigned long long end_ms = monotonic_ms() + START_MS;

	while (!kernel_nbd_pid(a->device.index) || !kernel_nbd_get(a->device.index, "size")) {
		if (monotonic_ms() > end_ms || waitpid(-1, NULL, WNOHANG) > 0)
			return 1;
		(void)poll(NULL, 0, 20);
	}
	(void)poll(NULL, 0, CLIENT_NOTICE_MS);
	client_scan(a);
	return 0;
}

int client_attach_by_ioctl(struct attachment *a)
{
	const struct client *c = a->c;
	int fd, error;

	if (ENABLE_FEATURE_XNBD_CLIENT_PERSIST && (c->persist || c->recovery || c->reboot))
		bb_error_msg_and_die("'%s': to notice a lost connection needs netlink, from Linux 4.12 on", c->path);
	if (kernel_nbd_pid(a->device.index))
		client_die_busy(a);
	if (!client_divide(c))
		return await_device(a);
	client_set_limits(a);
	fd = open(c->path, O_RDWR | O_CLOEXEC);
	error = fd < 0 ? errno : kernel_nbd_ioctl_connect(fd, &a->device, a->fds, a->count);
	if (error)
		client_die_unconnected(a, error);
	client_to_background(c);
	error = kernel_nbd_ioctl_run(fd);
	if (error)
		bb_error_msg("'%s': %s", c->path, strerror(error));
	else /* the kernel does not say which of the two it was */
		bb_error_msg("'%s' has ended", c->path);
	return error != 0;
}
