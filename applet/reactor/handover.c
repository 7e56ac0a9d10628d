/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* What is handed over to another program: how it is written, and read. */
#include "libbb.h"
#include "reactor/handover.h"

#include <limits.h>
#include <sys/ioctl.h>

enum {
	KIND_NUMBER = 'n',
	KIND_BYTES = 'b',
	KIND_FD = 'f',
	FIELD_BYTES = 1 + 8, /* the kind and a number, or how many bytes follow */
	ROOM_BYTES_MIN = 4096,
};

/* Room for n more bytes. NULL: there is none. */
static uint8_t *extend(struct handover *h, size_t n)
{
	size_t room = h->room ? h->room : ROOM_BYTES_MIN;
	uint8_t *p;

	if (h->bad)
		return NULL;
	while (room - h->count < n)
		room *= 2;
	if (room != h->room) {
		p = bb_grow(h->bytes, h->count, room);
		if (!p) {
			h->bad = true;
			return NULL;
		}
		h->bytes = p;
		h->room = room;
	}
	p = h->bytes + h->count;
	h->count += n;
	return p;
}

static void put_field(struct handover *h, uint8_t kind, uint64_t number)
{
	uint8_t *p = extend(h, FIELD_BYTES);

	if (!p)
		return;
	*p++ = kind;
	memcpy(p, &number, sizeof(number)); /* nobody reads it but another program of this machine */
}

void handover_put(struct handover *h, uint64_t number)
{
	put_field(h, KIND_NUMBER, number);
}

void handover_put_bytes(struct handover *h, const void *p, size_t n)
{
	uint8_t *to;

	put_field(h, KIND_BYTES, n);
	to = extend(h, n);
	if (to && n)
		memcpy(to, p, n);
}

void handover_put_string(struct handover *h, const char *s)
{
	handover_put_bytes(h, s, s ? strlen(s) : 0);
}

void handover_put_fd(struct handover *h, int fd)
{
	int *fds = fd < 0 || h->bad ? NULL : bb_grow(h->fds, h->fd_count * sizeof(*fds), (h->fd_count + 1) * sizeof(*fds));

	put_field(h, KIND_FD, (uint64_t)(int64_t)fd);
	if (fd < 0)
		return;
	if (!fds) {
		h->bad = true;
		return;
	}
	h->fds = fds;
	h->fds[h->fd_count++] = fd;
}

void handover_keep_fds(const struct handover *h, bool keep)
{
	unsigned i;

	for (i = 0; i < h->fd_count; i++)
		(void)ioctl(h->fds[i], keep ? FIONCLEX : FIOCLEX);
}

static uint64_t get_field(struct handover *h, uint8_t kind)
{
	uint64_t number;

	if (h->bad || h->count - h->at < FIELD_BYTES || h->bytes[h->at] != kind) {
		h->bad = true;
		return 0;
	}
	memcpy(&number, h->bytes + h->at + 1, sizeof(number));
	h->at += FIELD_BYTES;
	return number;
}

uint64_t handover_get(struct handover *h)
{
	return get_field(h, KIND_NUMBER);
}

uint32_t handover_get_number(struct handover *h, uint32_t most)
{
	uint64_t number = handover_get(h);

	h->bad |= number > most;
	return h->bad ? 0 : (uint32_t)number;
}

const uint8_t *handover_get_bytes(struct handover *h, size_t *n, size_t most)
{
	uint64_t length = get_field(h, KIND_BYTES);
	const uint8_t *p = h->bytes + h->at;

	h->bad |= length > most || length > h->count - h->at;
	*n = h->bad ? 0 : (size_t)length;
	h->at += *n;
	return p;
}

char *handover_get_string(struct handover *h)
{
	size_t n;
	const uint8_t *p = handover_get_bytes(h, &n, INT_MAX);
	char *s;

	h->bad |= memchr(p, '\0', n) != NULL;
	if (!n || h->bad)
		return NULL;
	s = xzalloc(n + 1);
	memcpy(s, p, n);
	return s;
}

int handover_get_fd(struct handover *h)
{
	int64_t fd = (int64_t)get_field(h, KIND_FD);

	h->bad |= fd < -1 || fd > INT_MAX || (fd >= 0 && !h->trial && ioctl((int)fd, FIOCLEX) < 0);
	return h->bad ? -1 : (int)fd;
}

void handover_free(struct handover *h)
{
	free(h->bytes);
	free(h->fds);
	memset(h, 0, sizeof(*h));
}
