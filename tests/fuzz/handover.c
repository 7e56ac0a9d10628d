/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * A server that takes another program's place, with a state that nobody has written.
 *
 * The input: two bytes for server and origin (script.h); 4 of the first: the one that goes on is xnbd-wrapper. Three for damage: an offset in the state, 16 bits, and what is there
 * exclusive-ored; 0: nothing. Then the records behind the first, which says the version: type, length of the bytes behind
 * the struct, 16 bits, the struct, these bytes. A descriptor is one of enum what; bools are 0 and 1.
 *
 * The server before has begun in good order, has served a client, and was killed. Whatever the state says, the next one
 * goes on, or ends with one line.
 */
#include "libbb.h"
#include "reactor/handover.h"
#include "script.h"
#include "secure/keys.h"
#include "world.h"

#include <sys/mman.h>
#include <sys/un.h>

enum { DAMAGE = 2, RECORDS = 5, STATE_MAX = 64 << 10, FDS_MAX = 64 };

enum what { FD_NONE, FD_NULL, FD_CLIENTS, FD_CONTROL, FD_SOCKET, FD_IMAGE, FD_BITMAP, FD_COMMIT, FD_KEYS, FD_DIRECTORY, FD_KINDS };

static const uint8_t *input;
static size_t input_bytes;
static unsigned starts;
static int handed[FDS_MAX]; /* not looked at yet */
static unsigned handed_count;

/* ---- descriptors --------------------------------------------------------------------------------- */

static int listener(const char *name)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);

	strcpy(a.sun_path, world_path(name));
	unlink(a.sun_path);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 8) < 0)
		finding("the fuzzer cannot listen");
	return fd;
}

/* One end; the other one is silent, and reads nothing. */
static int one_of_pair(void)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0)
		finding("the fuzzer has no sockets");
	return pair[0];
}

/* One of clients, and the origin's: as in secure/keys.c. */
static int keys(void)
{
	static const struct {
		uint32_t bytes, count;
		struct psk psk[2];
	} list = { sizeof(list), 1, { { 3, TLS_PSK_MAX, "bob", "l" }, { 5, TLS_PSK_MIN, "alice", "k" } } };
	int fd = memfd_create("keys", 0);

	if (fd < 0 || pwrite(fd, &list, sizeof(list), 0) != sizeof(list))
		finding("the fuzzer has no memory for keys");
	return fd;
}

/* Where the boot trace is. */
static int directory(void)
{
	char path[256];

	snprintf(path, sizeof(path), "%s", world_path("trace"));
	*strrchr(path, '/') = '\0';
	return open(path, O_RDONLY | O_DIRECTORY);
}

static int descriptor(enum what what)
{
	static const char *const files[] = { "image", "bitmap", "bitmap.commit" };

	switch (what) {
	case FD_NULL:
		return open("/dev/null", O_RDWR);
	case FD_CLIENTS:
		return listener("clients");
	case FD_CONTROL:
		return listener("control");
	case FD_SOCKET:
		return one_of_pair();
	case FD_IMAGE:
	case FD_BITMAP:
	case FD_COMMIT:
		return open(world_path(files[what - FD_IMAGE]), O_RDWR);
	case FD_KEYS:
		return keys();
	case FD_DIRECTORY:
		return directory();
	default:
		return -1;
	}
}

static int hand(uint32_t what)
{
	int fd = handed_count < FDS_MAX ? descriptor((enum what)(what % FD_KINDS)) : -1;

	if (fd >= 0)
		handed[handed_count++] = fd;
	return fd;
}

static bool is_handed(int fd)
{
	unsigned i;

	for (i = 0; i < handed_count; i++)
		if (handed[i] == fd) {
			handed[i] = handed[--handed_count];
			return true;
		}
	return false;
}

/* ---- the state ------------------------------------------------------------------------------------ */

static uint8_t state[STATE_MAX];
static size_t state_bytes;

static void put_record(unsigned type, const uint8_t *p, size_t more_bytes)
{
	const struct handed_kind *k = &handed_kinds[type];
	uint32_t head[2] = { type, (uint32_t)more_bytes };
	uint8_t *to = state + state_bytes;
	unsigned i;

	memset(to, 0, 8 + k->bytes + more_bytes + 8);
	memcpy(to, head, sizeof(head));
	memcpy(to + 8, p, k->bytes + more_bytes);
	for (i = 0; i < k->fds; i++) {
		uint32_t fd;

		memcpy(&fd, to + 8 + 4 * i, 4);
		fd = (uint32_t)hand(fd);
		memcpy(to + 8 + 4 * i, &fd, 4);
	}
	for (i = 0; i < k->bools; i++)
		to[8 + 4 * k->fds + i] &= 1;
	state_bytes += (8 + k->bytes + more_bytes + 8) & ~(size_t)7;
}

static void make_state(void)
{
	const uint8_t *p = input + RECORDS, *end = input + input_bytes;
	size_t at = (size_t)input[DAMAGE] << 8 | input[DAMAGE + 1];

	state_bytes = 0;
	put_record(HANDED_TEXT, (const uint8_t *)HANDOVER_VERSION, sizeof(HANDOVER_VERSION) - 1);
	while (end - p >= 3) {
		unsigned type = p[0] % HANDED_TYPES;
		size_t more = (size_t)p[1] << 8 | p[2], bytes = handed_kinds[type].bytes;

		p += 3;
		if ((size_t)(end - p) < bytes)
			break;
		if (more > (size_t)(end - p) - bytes)
			more = (size_t)(end - p) - bytes;
		if (state_bytes + bytes + more + 32 > STATE_MAX)
			break;
		put_record(type, p, more);
		p += bytes + more;
	}
	if (at < state_bytes)
		state[at] ^= input[DAMAGE + 2];
	state[state_bytes++] = 1; /* it was tried */
}

static bool begin(void)
{
	char text[12];
	int fd;

	if (!starts++)
		return false;
	handed_count = 0;
	make_state();
	fd = memfd_create("state", 0);
	if (fd < 0 || pwrite(fd, state, state_bytes, 0) != (ssize_t)state_bytes)
		finding("the fuzzer has no memory for a state");
	snprintf(text, sizeof(text), "%d", fd);
	setenv("XNBD_HANDOVER", text, 1);
	world_peers.handed = is_handed;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	/* A client reads 8 KiB; then the server is killed. */
	static const char client[] = "\0\0\0\1IHAVEOPT\0\0\0\1\0\0\0\0"
		"\x25\x60\x95\x13\0\0\0\0\0\0\0\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\x20\0|*|.|*|!";
	uint8_t script[SCRIPT_HEAD + sizeof(client) - 1];

	if (n < RECORDS)
		return 0;
	script_wrapper = data[0] & SERVER_OLDSTYLE;
	input = data;
	input_bytes = n;
	starts = 0;
	memset(script, 0, SCRIPT_HEAD);
	script[SCRIPT_SERVER] = data[0] & (SERVER_PROXY | SERVER_READONLY | SERVER_POOR | SERVER_HOLD | SERVER_SLOW);
	script[SCRIPT_ORIGIN] = data[1];
	memcpy(script + SCRIPT_HEAD, client, sizeof(client) - 1);
	script_begin = begin;
	script_run(script, sizeof(script), 'a');
	unsetenv("XNBD_HANDOVER");
	return 0;
}
