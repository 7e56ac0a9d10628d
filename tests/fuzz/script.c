/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A server's life, as a script tells it. */
#include "libbb.h"
#include "client_check.h"
#include "script.h"
#include "origin_peer.h"
#include "server/server.h"
#include "world.h"

#include <signal.h>
#include <sys/un.h>

enum { CLIENTS = 3, CONTROLS = 2, ORIGINS = 4, MARK = 3, BLOCK = 4096, STOP_MS = 3000, PATIENCE_MS = 70000 };

static const uint64_t sizes[] = { 75 * BLOCK + 434, 0, 1, BLOCK, BLOCK + 1, 17 * BLOCK, 1 << 20, (3 << 20) + 512 };

static const uint8_t *script, *script_end;
static uint8_t head[SCRIPT_HEAD];
static char who;        /* says what follows */
static bool disturbed;  /* the origin or the disk did not behave: a server may end with 1 */
static bool foreign;    /* the origin was another disk, once */
static bool told;       /* the end is near: nobody waits any more for an answer */
static bool patient;    /* somebody was given time for his answer */
static bool all_left;   /* the clients have hung up at the end */
static bool over;       /* nothing more is done by the script */

static struct channel clients[CLIENTS], controls[CONTROLS];
static struct origin_peer origins[ORIGINS]; /* the newest first */
static int origin_listener;

void (*script_files)(uint64_t size_bytes);
bool (*script_begin)(void);
bool script_wrapper;

/* ---- who speaks ------------------------------------------------------------------------ */

static void connect_if_not(struct channel *c, const char *path, bool keeps)
{
	if (c->fd < 0)
		channel_open(c, channel_connect(world_path(path)), keeps);
}

static struct channel *speaker(void)
{
	switch (who) {
	case 'a':
	case 'b':
	case 'c':
		connect_if_not(&clients[who - 'a'], "clients", true);
		return &clients[who - 'a'];
	case 'k':
	case 'l':
		connect_if_not(&controls[who - 'k'], "control", false);
		return &controls[who - 'k'];
	default:
		disturbed = true;
		return &origins[who - 'o'].channel;
	}
}

static void say_anything(unsigned kib)
{
	uint8_t block[1024];

	memset(block, 0x5a, sizeof(block));
	while (kib--)
		channel_say(speaker(), block, sizeof(block));
}

/* ---- what happens ---------------------------------------------------------------------- */

static void origins_answer(void)
{
	unsigned i;

	for (i = 0; i < ORIGINS; i++)
		while (origins[i].channel.fd >= 0 && origin_peer_step(&origins[i], true))
			;
}

static void hang_up(void)
{
	unsigned i;

	disturbed = true;
	for (i = 0; i < ORIGINS; i++)
		channel_close(&origins[i].channel);
}

/* The time stands until the program waits. */
static void pass(uint64_t ms)
{
	world_pass_until_ms = world_ms + ms;
}

static void happen(char what)
{
	switch (what) {
	case 'a':
	case 'b':
	case 'c':
	case 'k':
	case 'l':
	case 'o':
	case 'p':
		who = what;
		break;
	case '#':
		if (script < script_end)
			say_anything(*script++);
		break;
	case 'w':
		speaker()->end = true;
		break;
	case 'x':
		client_check(speaker());
		channel_close(speaker());
		break;
	case 'u':
		speaker()->unread = !speaker()->unread;
		break;
	case 'm':
		pass(100);
		break;
	case 't':
		pass(1000);
		break;
	case 'T':
		pass(35000);
		break;
	case 's':
		raise(SIGUSR2);
		break;
	case 'd':
		world_disk_full = !world_disk_full;
		disturbed = true;
		break;
	case 'f':
		world_sync_fails = !world_sync_fails;
		disturbed = true;
		break;
	case 'j':
	case 'J':
		pool_step(what == 'J');
		break;
	case 'R':
		origins_answer();
		break;
	case 'h':
		hang_up();
		break;
	case 'y':
		disturbed = foreign = client_disk.unknown = true;
		peer_disk.nbd.size_bytes ^= BLOCK;
		break;
	case 'z':
		disturbed = foreign = client_disk.unknown = true;
		peer_disk.other = !peer_disk.other;
		break;
	case '!':
		world_kill();
	}
}

/* What follows, up to the next mark, or that. */
static bool script_step(void)
{
	static const char mark[MARK + 1] = "|*|";
	size_t n = (size_t)(script_end - script);
	const uint8_t *next = memmem(script, n, mark, MARK);

	if (!n)
		return false;
	if (next == script && n > MARK) {
		script += MARK + 1;
		happen((char)script[-1]);
		return true;
	}
	n = next && next != script ? (size_t)(next - script) : n;
	channel_say(speaker(), script, n);
	script += n;
	return true;
}

static void origin_accept(void)
{
	int fd = accept4(origin_listener, NULL, NULL, SOCK_NONBLOCK);
	struct origin_peer oldest = origins[ORIGINS - 1];

	if (fd < 0)
		return;
	channel_close(&oldest.channel);
	memmove(origins + 1, origins, (ORIGINS - 1) * sizeof(*origins));
	origins[0] = oldest;
	origin_peer_begin(&origins[0], fd);
}

static void client_left(struct channel *c)
{
	client_check(c);
	channel_close(c);
}

/* Who has asked has an answer, now that nothing is going on; or when somebody has lost the
 * memory that he kept from others. */
static bool clients_end(void)
{
	bool all = true;
	unsigned i;

	for (i = 0; i < CLIENTS; i++)
		all &= client_check(&clients[i]);
	patient = !all && !disturbed && !patient;
	if (patient)
		pass(PATIENCE_MS);
	else if (!all && !disturbed)
		finding("a request without an answer");
	return patient;
}

/* A server that is to be started again is left by its clients before it is told to end. */
static bool clients_leave(void)
{
	unsigned i;

	if (told)
		return false;
	if (clients_end())
		return true;
	told = true;
	all_left = head[SCRIPT_SERVER] & SERVER_AGAIN;
	for (i = 0; i < CLIENTS && all_left; i++)
		channel_close(&clients[i]);
	return all_left;
}

static bool step(void)
{
	bool did = false;
	unsigned i;

	origin_accept();
	for (i = 0; i < CLIENTS; i++)
		did |= channel_step(&clients[i]);
	for (i = 0; i < CONTROLS; i++)
		did |= channel_step(&controls[i]);
	for (i = 0; i < ORIGINS; i++)
		did |= origin_peer_step(&origins[i], false);
	if (did)
		return true;
	for (i = 0; i < CLIENTS; i++)
		if (clients[i].hung_up)
			client_left(&clients[i]);
	for (i = 0; i < CONTROLS; i++)
		if (controls[i].hung_up)
			channel_close(&controls[i]);
	return (!over && script_step()) || pool_step(false) || clients_leave();
}

/* ---- the files ------------------------------------------------------------------------- */

void script_put_file(const char *name, const void *p, size_t n, uint64_t offset)
{
	int fd = open(world_path(name), O_WRONLY | O_CREAT, 0600);

	if (fd < 0 || pwrite(fd, p, n, (off_t)offset) != (ssize_t)n)
		finding("the fuzzer cannot write its own files");
	close(fd);
}

/* A target's disk; or a cache that has it all, and says so of every second pair of blocks. */
static void put_image(uint64_t size)
{
	uint64_t words[16];

	script_put_file("image", origin_bytes(), size, 0);
	memset(words, 0x33, sizeof(words));
	if (head[SCRIPT_SERVER] & SERVER_PROXY)
		script_put_file("bitmap", words, (size_t)(size + 64 * BLOCK - 1) / (64 * BLOCK) * 8, 0);
}

size_t script_read_file(const char *name, void *to, size_t room)
{
	int fd = open(world_path(name), O_RDONLY);
	ssize_t n = fd < 0 ? 0 : pread(fd, to, room, 0);

	if (fd >= 0)
		close(fd);
	return n < 0 ? 0 : (size_t)n;
}

/* The image after its last sync: what a power cut would leave of it. */
static uint8_t durable[ORIGIN_BYTES_MAX];

static void synced(int fd)
{
	struct stat image, it;

	if (!(head[SCRIPT_SERVER] & SERVER_READONLY))
		return; /* nobody will ask */
	if (stat(world_path("image"), &image) == 0 && fstat(fd, &it) == 0 && image.st_ino == it.st_ino)
		script_read_file("image", durable, sizeof(durable));
}

/* Each block whose bit is in the file is as on the origin. */
static void check_blocks(uint64_t size, const uint8_t *image, const char *file, uint64_t first_bit, const char *why)
{
	static uint8_t bits[COMMIT_HEADER_BYTES + 8192];
	uint64_t end = 8 * script_read_file(file, bits, sizeof(bits));
	uint64_t at;

	for (at = 0; at < size; at += BLOCK) {
		uint64_t bit = first_bit + at / BLOCK;
		size_t n = size - at < BLOCK ? (size_t)(size - at) : BLOCK;

		if (bit < end && bits[bit / 8] >> bit % 8 & 1 && memcmp(image + at, origin_bytes() + at, n) != 0)
			finding(why);
	}
}

/* Rules 1 and 2, where clients could not write: what is local is the origin's, what is
 * committed also after a power cut. */
static void check_disk(uint64_t size)
{
	static uint8_t image[ORIGIN_BYTES_MAX];
	size_t have = script_read_file("image", image, sizeof(image));

	if (head[SCRIPT_SERVER] & SERVER_PROXY) {
		if (have < size)
			memset(image + have, 0, size - have);
		check_blocks(size, image, "bitmap", 0, "a block that is said to be here is wrong");
		check_blocks(size, durable, "bitmap.commit", 8 * COMMIT_HEADER_BYTES, "a block was committed before it was synced");
	} else if (have != size || memcmp(image, origin_bytes(), have) != 0) {
		finding("a target's disk has changed, and nobody could write");
	}
}

/* ---- lives ------------------------------------------------------------------------------- */

static void origin_prepare(uint64_t size)
{
	uint8_t how = head[SCRIPT_ORIGIN], more = head[SCRIPT_MORE];

	memset(&peer_disk, 0, sizeof(peer_disk));
	peer_disk.nbd.name = "";
	peer_disk.nbd.size_bytes = size;
	peer_disk.nbd.transmission_flags = NBD_FLAG_HAS_FLAGS | (how & ORIGIN_MULTI ? NBD_FLAG_CAN_MULTI_CONN : 0);
	peer_disk.nbd.min_block = how & ORIGIN_UNIT ? 4 * BLOCK : 1;
	peer_disk.nbd.preferred_block = how & ORIGIN_UNIT ? 4 * BLOCK : BLOCK;
	peer_disk.nbd.max_payload = more & MORE_SMALL ? 5 * BLOCK : NBD_PAYLOAD_MAX;
	peer_disk.nbd.allocation = !(how & ORIGIN_NO_STATUS);
	peer_disk.structured = !(how & ORIGIN_SIMPLE);
	peer_disk.sick = how & ORIGIN_SICK;
	peer_disk.by_hand = more & MORE_BY_HAND;
	peer_disk.by_self = more & MORE_VERIFIED ? 32 : 0;
	peer_disk.leaves = (more & MORE_LEAVES) * 8U;
}

static void clients_prepare(uint64_t size)
{
	uint8_t how = head[SCRIPT_SERVER];

	client_disk.size_bytes = size;
	client_disk.readonly = how & SERVER_READONLY;
	client_disk.oldstyle = how & SERVER_OLDSTYLE;
	client_disk.proxy = how & SERVER_PROXY;
	client_disk.unknown = head[SCRIPT_MORE] & MORE_BY_HAND;
}

static void origin_listen(void)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	strcpy(a.sun_path, world_path("origin"));
	unlink(a.sun_path);
	origin_listener = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	if (bind(origin_listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(origin_listener, 8) < 0)
		finding("the fuzzer cannot listen");
}

static void channels_reset(void)
{
	unsigned i;

	/* Their descriptors were closed with the life before. */
	for (i = 0; i < CLIENTS; i++)
		clients[i].fd = -1;
	for (i = 0; i < CONTROLS; i++)
		controls[i].fd = -1;
	for (i = 0; i < ORIGINS; i++)
		origins[i].channel.fd = -1;
}

static int serve(void *arg)
{
	char origin[200];
	uint8_t how = head[SCRIPT_SERVER];
	struct server_config c = {
		.image = world_path("image"),
		.unix_path = world_path("clients"),
		.max_buf_bytes = how & SERVER_POOR ? 64 << 10 : 4 << 20,
		.limits.requests = how & SERVER_POOR ? 3 : 1000,
		.limits.sessions = 2,
		.limits.oldstyle = how & SERVER_OLDSTYLE,
		.exports.hold_s = how & SERVER_HOLD ? 5 : 0,
		.exports.readonly = how & SERVER_READONLY,
	};

	(void)arg;
	applet_name = "xnbd-server";
	world_peers.step = step;
	world_peers.synced = synced;
	pool_slow = how & SERVER_SLOW;
	if (how & SERVER_PROXY) {
		origin_listen();
		snprintf(origin, sizeof(origin), "unix:%s", world_path("origin"));
		c.origin.host = origin;
		c.origin.port = "-";
		c.origin.name = "";
		c.bitmap = world_path("bitmap");
		c.control = world_path("control");
		if (script_begin) /* another program goes on with it */
			c.record = world_path("trace");
	}
	if (script_begin && script_begin()) {
		disturbed = client_disk.unknown = true;
		if (script_wrapper) {
			applet_name = "xnbd-wrapper";
			c.image = c.bitmap = c.record = NULL;
		}
	}
	return server_run(&c);
}

/* On what the last life has left, which must be enough. */
static int live(bool must_begin)
{
	int status;

	channels_reset();
	disturbed = foreign || (head[SCRIPT_MORE] & (MORE_LEAVES | MORE_BY_HAND));
	all_left = told = patient = false;
	status = life(serve, NULL);
	if (must_begin && !disturbed && status == 1)
		finding("a server cannot begin on what another has left");
	if (status == 0 && all_left && world_ms >= world_told_ms + STOP_MS)
		finding("at its end it waits for requests that nobody has");
	return status;
}

int script_run(const uint8_t *data, size_t n, char channel)
{
	uint64_t size;
	int status;

	if (n < SCRIPT_HEAD)
		return 0;
	memcpy(head, data, SCRIPT_HEAD);
	script = data + SCRIPT_HEAD;
	script_end = data + n;
	who = channel;
	over = foreign = false;
	size = sizes[head[SCRIPT_ORIGIN] & ORIGIN_SIZE];
	origin_prepare(size);
	clients_prepare(size);
	world_sweep();
	if (!(head[SCRIPT_SERVER] & SERVER_PROXY) || (head[SCRIPT_SERVER] & SERVER_CACHE))
		put_image(size);
	if (script_files)
		script_files(size);
	memset(durable, 0, size);
	script_read_file("image", durable, sizeof(durable));
	status = live(false);
	while (status == LIFE_KILLED)
		status = live(true);
	over = true;
	if (status == 0 && (head[SCRIPT_SERVER] & SERVER_AGAIN))
		live(true);
	if (status == 0 && !foreign && !client_disk.unknown && (head[SCRIPT_SERVER] & SERVER_READONLY) && !(head[SCRIPT_MORE] & MORE_BY_HAND))
		check_disk(size);
	return status;
}
