/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-client: the process that stays with a device. With --persist the kernel tells it of each connection that is lost,
 * and requests wait for the one that it brings. What was in flight is resent when the kernel's timer fires (see
 * server/device_kernel.c, which does the same from within a server).
 *
 * This process must not need the device to bring it back: addresses are looked up at the start, and with --swap its
 * memory is locked.
 */
//config:config FEATURE_XNBD_CLIENT_PERSIST
//config:	bool "--persist and --recovery-command (1.7 kb)"
//config:	default y
//config:	depends on XNBD_CLIENT
//config:	help
//config:	Lost connections are replaced, and the device waits for that; or a
//config:	command is run.
//kbuild:lib-$(CONFIG_XNBD_CLIENT) += xnbd_client_keep.o
#include "libbb.h"
#include "xnbd_client.h"

#include <netinet/tcp.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/wait.h>

enum {
	RETRY_MS = 1000,
	POLL_MS = 2000, /* how often a follower sees whether the device is still connected */
};

/* ---- its beginning --------------------------------------------------------------------------------- */

void client_lock_memory(void)
{
	xlock_memory();
	/* Only safer: the kernel then makes no memory for us by writing to the device. */
	prctl(X_PR_SET_IO_FLUSHER, 1, 0, 0, 0);
	if (!set_oom_score("-1000"))
		bb_simple_perror_msg("oom_score_adj");
}

bool client_divide(const struct client *c)
{
	pid_t pid = xfork();

	if (c->stay ? !pid : pid > 0)
		return false;
	name_storage_daemon();
	if (c->swap)
		client_lock_memory(); /* of each process */
	if (ENABLE_FEATURE_XNBD_TLS)
		servers_lock();
	return true;
}

void client_to_background(const struct client *c)
{
	int fd;

	if (c->stay)
		return;
	setsid();
	if (chdir("/") < 0)
		bb_simple_perror_msg("/");
	null_fd(STDIN_FILENO);
	null_fd(STDOUT_FILENO);
	null_fd(STDERR_FILENO);
	fd = open("/dev/kmsg", O_WRONLY | O_CLOEXEC);
	if (fd >= 0) {
		dup2(fd, STDERR_FILENO);
		close(fd);
	}
}

/* ---- a lost connection ---------------------------------------------------------------------------- */

void client_prepare_socket(const struct client *c, int fd)
{
	const unsigned dead_ms = 20000;

	if (!c->persist)
		return;
	endpoint_keep(fd, 5);
	setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &dead_ms, sizeof(dead_ms));
}

/* How many connections of a device are lost, by descriptors that were kept: the kernel shuts its end of such a one down. */
static unsigned count_lost(const struct attachment *a)
{
	unsigned i, lost = 0;

	for (i = 0; i < a->count; i++) {
		struct pollfd p = { .fd = a->fds[i] };

		lost += poll(&p, 1, 0) > 0 && p.revents & POLLHUP;
	}
	return lost;
}

/* Nothing that waits for the device waits any more: it gets an error. Then what was ordered for this case. */
static int recover(const struct attachment *a)
{
	const struct client *c = a->c;

	bb_error_msg("'%s' has lost its server, %s:%s", c->path, a->server->host, a->server->port);
	kernel_nbd_disconnect(&client_kernel, a->device.index);
	if (c->reboot && reboot(RB_AUTOBOOT) < 0)
		bb_simple_perror_msg("cannot reboot");
	if (c->recovery) {
		char *argv[] = { (char *)"sh", (char *)"-c", (char *)c->recovery, NULL };

		execv("/bin/sh", argv);
		bb_simple_perror_msg("cannot run '/bin/sh'");
	}
	return 1;
}

/* A connection to s for the device. False: server_error tells. */
static bool refill_from(struct attachment *a, struct server *s)
{
	struct nbd_client_handshake h = { .simple = true };
	int fd = server_dial(s, &h), error;

	if (fd < 0)
		return false;
	if (!client_is_same_disk(a, &h)) {
		server_hang_up(fd);
		return false;
	}
	client_prepare_socket(a->c, fd);
	error = kernel_nbd_reconfigure(&client_kernel, &a->device, &fd, 1);
	close(fd);
	a->is_gone = error == EINVAL;
	a->server = s;
	snprintf(server_error, sizeof(server_error), "%s", error ? strerror(error) : "");
	return !error;
}

/* refill_from(), and what is wrong is told once. */
static bool try_server(struct attachment *a, struct server *s)
{
	if (refill_from(a, s))
		return true;
	if (strncmp(s->told, server_error, sizeof(s->told) - 1) != 0) {
		snprintf(s->told, sizeof(s->told), "%s", server_error);
		bb_error_msg("'%s' has lost a connection. %s:%s: %s; trying on", a->c->path, s->host, s->port, server_error);
	}
	return false;
}

/* One more connection; as long as others are there, to the same server. */
static bool refill(struct attachment *a, unsigned lost)
{
	struct server *s;

	if (lost < a->count)
		return try_server(a, a->server);
	for (s = servers; s->host && !a->is_gone; s++)
		if (try_server(a, s))
			return true;
	return false;
}

static void forget_told(const struct attachment *a)
{
	struct server *s;

	for (s = servers; s->host; s++)
		s->told[0] = '\0';
	bb_error_msg("'%s' is connected again, to %s:%s", a->c->path, a->server->host, a->server->port);
}

/* Without sysfs only the kernel itself can tell whether the device has ended; with an identifier it also knows whose it
 * is. */
static bool has_ended(const struct attachment *a)
{
	if (!kernel_nbd_has_stayed(a->device.index, a->pid))
		return true;
	return a->device.identifier && !kernel_nbd_pid(a->device.index) && kernel_nbd_reconfigure(&client_kernel, &a->device, NULL, 0) == EINVAL;
}

int client_follow(struct attachment *a)
{
	struct pollfd p = { .fd = client_events.fd, .events = POLLIN };
	unsigned lost = 0;
	bool failed = false;

	for (;;) {
		/* Only --persist does something about a part of the connections. */
		bool is_due = lost && (a->c->persist || lost == a->count);

		waitpid(-1, NULL, WNOHANG); /* of client_divide() */
		if (poll(&p, 1, !is_due ? POLL_MS : failed ? RETRY_MS : CLIENT_NOTICE_MS) > 0) {
			int index = kernel_nbd_lost(&client_events);

			if (index == (int)a->device.index)
				lost++;
			if (index == KERNEL_NBD_SOME || lost > a->count) /* to replace one that stands is harmless */
				lost = a->count;
		} else if (has_ended(a)) {
			return 0;
		} else if (!a->c->persist && lost == a->count) {
			lost = count_lost(a);
			if (lost == a->count)
				return recover(a);
		} else if (ENABLE_FEATURE_XNBD_CLIENT_PERSIST && a->c->persist && lost) {
			bool done = refill(a, lost);

			if (a->is_gone)
				return 0;
			if (done && failed)
				forget_told(a);
			lost -= done;
			failed = !done;
		}
	}
}
