/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Writes and reads the state that is handed over to another program. */
#include "libbb.h"
#include "reactor/handover.h"

#include <sys/ioctl.h>

struct record {
	uint32_t type, more_bytes;
	uint8_t data[];
};

enum { ROOM_BYTES_MIN = 4096 };

const struct handed_kind handed_kinds[HANDED_TYPES] = {
	[HANDED_NUMBER] = { sizeof(uint64_t), 0, 0 },
	[HANDED_FD] = { sizeof(int32_t), 1, 0 },
	[HANDED_PATH] = { sizeof(struct handed_path), 0, 0 },
	[HANDED_EXPORT] = { sizeof(struct handed_export), 6, 4 },
	[HANDED_PROXY] = { sizeof(struct handed_proxy), 0, 0 },
	[HANDED_CONTROL] = { sizeof(struct handed_control), 1, 5 },
	[HANDED_DEVICE] = { sizeof(struct handed_device), 0, 2 },
	[HANDED_SESSION] = { sizeof(struct handed_session), 1, 10 },
	[HANDED_REPLY] = { sizeof(struct handed_command), 0, 4 },
	[HANDED_REQUEST] = { sizeof(struct handed_command), 0, 4 },
	[HANDED_PIECE] = { sizeof(struct handed_command), 0, 4 },
};

struct handover handover;
const char handover_busy[] = "something else is just being done: try again";

_Static_assert(sizeof(struct handed_export) <= sizeof(struct handed_command) && sizeof(struct handed_session) <= sizeof(struct handed_command), "the room without memory");

/* Of a record, with what is behind it. */
static size_t record_bytes(unsigned type, size_t more_bytes)
{
	return (sizeof(struct record) + handed_kinds[type].bytes + more_bytes + 8) & ~(size_t)7;
}

/* ---- writing ---------------------------------------------------------------------------------- */

void *handover_put(enum handed type, const void *more, size_t n)
{
	static struct handed_command none; /* without memory; no struct is longer */
	size_t bytes = record_bytes(type, n), room = handover.room;
	struct record *r;
	uint8_t *p;

	while (room - handover.count < bytes)
		room = room * 2 + ROOM_BYTES_MIN;
	if (room != handover.room) {
		p = bb_grow(handover.bytes, handover.count, room);
		if (!p) {
			handover.why = "out of memory";
			return &none;
		}
		handover.bytes = p;
		handover.room = room;
	}
	r = (struct record *)(void *)(handover.bytes + handover.count);
	memset(r, 0, bytes);
	r->type = type;
	r->more_bytes = (uint32_t)n;
	if (n)
		memcpy(r->data + handed_kinds[type].bytes, more, n);
	handover.count += bytes;
	return r->data;
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* The next one that is of type `first`, or of any type up to `last`; NULL: it is another one, or the end. */
static struct record *next(unsigned first, unsigned last)
{
	struct record *r = (struct record *)(void *)(handover.bytes + handover.at);

	if (handover.at == handover.count || r->type < first || r->type > last)
		return NULL;
	handover.at += record_bytes(r->type, r->more_bytes);
	return r;
}

void *handover_get(enum handed type)
{
	struct record *r = next(type, type);

	if (!r)
		return NULL;
	handover.more = r->data + handed_kinds[type].bytes;
	handover.more_bytes = r->more_bytes;
	return r->data;
}

void handover_skip(enum handed first)
{
	while (next(first, HANDED_TYPES))
		;
}

/* ---- both ------------------------------------------------------------------------------------- */

static void value(enum handed type, void *p)
{
	void *r = handover.reads ? handover_get(type) : handover_put(type, NULL, 0);

	if (r)
		memcpy(handover.reads ? p : r, handover.reads ? r : p, handed_kinds[type].bytes);
}

void handover_number(uint64_t *n)
{
	value(HANDED_NUMBER, n);
}

void handover_fd(int *fd)
{
	value(HANDED_FD, fd);
}

void handover_text(char **s)
{
	if (!handover.reads)
		handover_put(HANDED_TEXT, *s, *s ? strlen(*s) : 0);
	else if (handover_get(HANDED_TEXT) && handover.more_bytes)
		*s = xstrdup(handover.more);
}

/* ---- all of them ------------------------------------------------------------------------------ */

static bool is_whole(const struct record *r, size_t bytes)
{
	return bytes >= sizeof(*r) && r->type < HANDED_TYPES && r->more_bytes < bytes && record_bytes(r->type, r->more_bytes) <= bytes &&
	       !r->data[handed_kinds[r->type].bytes + r->more_bytes];
}

bool handover_walk(const unsigned request)
{
	size_t at = handover.at;
	unsigned i;

	while (at != handover.count) {
		const struct record *r = (const struct record *)(const void *)(handover.bytes + at);
		const int32_t *fd = (const int32_t *)(const void *)r->data;

		if (!is_whole(r, handover.count - at))
			return false;
		for (i = 0; i < handed_kinds[r->type].fds; i++, fd++)
			if (*fd != -1 && request && ioctl(*fd, request) < 0)
				return false;
		for (i = 0; i < handed_kinds[r->type].bools; i++)
			if (((const uint8_t *)fd)[i] > 1)
				return false;
		at += record_bytes(r->type, r->more_bytes);
	}
	return true;
}
