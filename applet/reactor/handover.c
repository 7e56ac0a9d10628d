/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Writes and reads the state that is handed over to another program. */
#include "libbb.h"
#include "reactor/handover.h"

#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

struct record {
	uint32_t type, more_bytes;
	uint8_t data[];
};

enum {
	ROOM_BYTES_MIN = 4096,
	/* linux/memfd.h and fcntl.h */
	X_MFD_EXEC = 0x10, /* Linux 6.3 */
	X_F_ADD_SEALS = 1033,
	X_F_SEAL_SHRINK = 2,
};

const struct handed_kind handed_kinds[HANDED_TYPES] = {
	[HANDED_NUMBER] = { sizeof(uint64_t), 0, 0 },
	[HANDED_FD] = { sizeof(int32_t), 1, 0 },
	[HANDED_PATH] = { sizeof(struct handed_path), 0, 0 },
	[HANDED_EXPORT] = { sizeof(struct handed_export), 6, 4 },
	[HANDED_PROXY] = { sizeof(struct handed_proxy), 0, 0 },
	[HANDED_CONTROL] = { sizeof(struct handed_control), 1, 8 },
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

void handover_die(void)
{
	bb_simple_error_msg_and_die("the handed-over state has another version");
}

void memory_free(struct memory *m)
{
	if (m->map)
		munmap(m->map, m->bytes);
	close(m->fd);
	m->map = NULL;
}

void *memory_new(struct memory *m, size_t bytes)
{
	void *p;

	m->bytes = bytes;
	m->fd = memfd_create(applet_name, MFD_CLOEXEC | MFD_ALLOW_SEALING | X_MFD_EXEC);
	if (m->fd < 0)
		m->fd = memfd_create(applet_name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
	p = ftruncate(m->fd, (off_t)bytes) < 0 ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, 0);
	syscall(SYS_fcntl, m->fd, X_F_ADD_SEALS, X_F_SEAL_SHRINK); /* or whoever is tried could kill us. fcntl(2) is 0.4 KB of libc */
	m->map = p == MAP_FAILED ? NULL : p;
	return m->map;
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
