/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The kernel calls of a device, which may block: jobs for a worker, and a child process.
 *
 * The kernel resends the unanswered requests of a lost connection when its own request timer fires, AGAIN_MS after the
 * first transmission; by then there is a new connection. (The timer of a request on a connection that stands only
 * writes a line to its log: drivers/block/nbd.c, nbd_xmit_timeout(). With several connections it closes the connection
 * of that request instead, which is then replaced, so there the timer keeps its 30 s.) What is resent may be a
 * write that the core is still busy with: the core answers what overlaps in its order.
 */
#include "libbb.h"
#include "server/device_nbd.h"

#include <poll.h>
#include <sys/syscall.h>

enum {
	AGAIN_MS = 5000,
	OPEN_MS = 5000, /* how long an end waits for a process that only reads the device */
	FDS_MAX = 1024,
};

struct kernel_nbd device_kernel;

/* ---- on a worker ------------------------------------------------------------------------------- */

bool device_is_ours(const struct device *d)
{
	char identifier[DEVICE_IDENTIFIER_BYTES];

	return d->device.identifier && kernel_nbd_identifier(d->device.index, identifier, sizeof(identifier)) &&
	       strcmp(identifier, d->device.identifier) == 0;
}

bool device_has_stayed(const struct device *d)
{
	return kernel_nbd_has_stayed(d->device.index, d->pid);
}

/* Gives the kernel its ends. The kernel says nothing of one that it has no use for: it closes it. It compares
 * identifiers, but for a device that has none. */
static int hand_over(struct device *d, const int *fds, unsigned n)
{
	int error;

	if (d->is_there) {
		error = device_has_stayed(d) ? kernel_nbd_reconfigure(&device_kernel, &d->device, fds, n) : EINVAL;
	} else {
		d->is_new = !kernel_nbd_pid(d->device.index);
		/* Before there are requests: Linux 6.12 waits until all are answered, which is for us to do. If it
		 * cannot be set, a lost connection costs 30 s. */
		d->device.keeps_timer = d->is_new && d->count == 1 && kernel_nbd_set(d->device.index, "queue/io_timeout", AGAIN_MS);
		if (d->is_new)
			error = kernel_nbd_connect(&device_kernel, &d->device, fds, n);
		else
			error = device_is_ours(d) ? kernel_nbd_reconfigure(&device_kernel, &d->device, fds, n) : EBUSY;
		d->pid = kernel_nbd_pid(d->device.index);
	}
	return error;
}

void device_connect_run(struct job *j)
{
	struct device *d = device_of_job(j);
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
void device_end_run(struct job *j)
{
	struct device *d = device_of_job(j);

	d->device.ends_on_close = true;
	d->error = device_has_stayed(d) ? kernel_nbd_reconfigure(&device_kernel, &d->device, NULL, 0) : 0;
}

void device_disconnect_run(struct job *j)
{
	struct device *d = device_of_job(j);

	d->error = device_has_stayed(d) ? kernel_nbd_disconnect(&device_kernel, d->device.index) : 0;
}

/* ---- a process of its own ------------------------------------------------------------------------- */

void device_child_alone(int fd)
{
	int other;

	dup2(fd, STDIN_FILENO);
	for (other = syscall(SYS_close_range, 1, ~0U, 0) == 0 ? 0 : FDS_MAX; other; other--) /* Linux 5.9 */
		close(other);
}

/* Opens the device and closes it, and writes a byte if somebody else has it. Whoever opens a device that is new has its
 * partitions read, perhaps from an origin that is away. A process that waits for that cannot be killed, and keeps its
 * descriptors: if it were the server, nobody could take the device over, and the wait would have no end. */
static void NORETURN child(const struct device *d, int report)
{
	unsigned tries = d->is_ending ? OPEN_MS / DEVICE_TRY_MS : 0;
	int fd;

	device_child_alone(report);
	fd = open(d->path, d->is_ending ? O_RDONLY | O_EXCL : O_RDONLY); /* O_EXCL, of a block device: nobody has mounted it */
	if (fd >= 0)
		close(fd);
	else if (errno == EBUSY)
		tries = 1;
	while (tries && device_has_stayed(d)) {
		(void)poll(NULL, 0, DEVICE_TRY_MS);
		if (!--tries)
			write(STDIN_FILENO, "", 1);
	}
	_exit(0);
}

void device_child_forget(struct device *d)
{
	if (d->child.fd < 0)
		return;
	event_remove(&d->child);
	close(d->child.fd);
	d->child.fd = -1;
}

bool device_child_begin(struct device *d, void (*ready)(struct event *e, uint32_t events))
{
	int report[2];
	pid_t pid;

	device_child_forget(d);
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
