/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The other end of a socket. */
#include "channel.h"
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

void channel_open(struct channel *c, int fd, bool keeps)
{
	c->fd = fd;
	c->unread = c->hung_up = c->end = c->lost = false;
	c->out_bytes = c->in_bytes = c->log_bytes = 0;
	if (!c->out)
		c->out = malloc(CHANNEL_BYTES);
	if (keeps && !c->in) {
		c->in = malloc(CHANNEL_BYTES);
		c->log = malloc(CHANNEL_BYTES);
	}
}

int channel_connect(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(a.sun_path, path);
	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0)
		return fd;
	close(fd);
	return -1;
}

void channel_close(struct channel *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

void channel_say(struct channel *c, const void *p, size_t n)
{
	if (c->fd < 0 || n > CHANNEL_BYTES - c->out_bytes)
		return;
	memcpy(c->out + c->out_bytes, p, n);
	c->out_bytes += n;
	if (!c->log || n > CHANNEL_BYTES - c->log_bytes) {
		c->lost = true;
		return;
	}
	memcpy(c->log + c->log_bytes, p, n);
	c->log_bytes += n;
}

static bool channel_send(struct channel *c)
{
	ssize_t n;

	if (!c->out_bytes)
		return false;
	n = send(c->fd, c->out, c->out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0) {
		c->out_bytes = 0; /* it has hung up */
		return true;
	}
	c->out_bytes -= (size_t)n;
	memmove(c->out, c->out + n, c->out_bytes);
	return true;
}

static bool channel_receive(struct channel *c)
{
	static uint8_t waste[64 << 10];
	bool keeps = c->in && c->in_bytes < CHANNEL_BYTES;
	uint8_t *to = keeps ? c->in + c->in_bytes : waste;
	size_t room = keeps ? CHANNEL_BYTES - c->in_bytes : sizeof(waste);
	ssize_t n;

	if (c->unread || c->hung_up)
		return false;
	n = recv(c->fd, to, room, MSG_DONTWAIT);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		c->hung_up = true;
	if (n > 0 && keeps)
		c->in_bytes += (size_t)n;
	else if (n > 0)
		c->lost = true;
	return n >= 0;
}

bool channel_step(struct channel *c)
{
	bool did;

	if (c->fd < 0)
		return false;
	did = channel_send(c);
	did |= channel_receive(c);
	if (c->end && !c->out_bytes) {
		shutdown(c->fd, SHUT_WR);
		c->end = false;
		did = true;
	}
	return did;
}

void channel_take(struct channel *c, size_t n)
{
	c->in_bytes -= n;
	memmove(c->in, c->in + n, c->in_bytes);
}
