/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-bgctl with a server of xNBD 0.4: the binary control protocol, and what such a server
 * leaves to its control tool: the count of local blocks, the copy, the connection to a new origin.
 */
//config:config FEATURE_XNBD_BGCTL_BINARY
//config:	bool "Servers of xNBD (24 kb)"
//config:	default n
//config:	depends on XNBD_BGCTL && !NOMMU
//config:	help
//config:	Also controls an xnbd-server of xNBD 0.4, which speaks another
//config:	protocol: with libc's resolver, if nothing else needs it.
//kbuild:lib-$(CONFIG_FEATURE_XNBD_BGCTL_BINARY) += xnbd_bgctl_xnbd04.o
#include "libbb.h"
#include "xnbd_bgctl.h"

#include <signal.h>
#include <sys/mman.h>

enum {
	XNBD04_QUERY_STATUS = 1,
	XNBD04_REGISTER_FD = 2,
	XNBD04_REGISTER_FORWARDER_FD = 3,
	XNBD04_DETECT_SWITCH = 5,

	XNBD04_TEXT_BYTES = 4096,
	XNBD04_RUN_BLOCKS = 31,   /* longest request, unless told otherwise */
	XNBD04_OUTSTANDING = 128, /* requests; they and their replies fit in the buffers of sockets */
	XNBD04_HANDSHAKE_S = 15,

	NBD_REQUEST_MAGIC = 0x25609513,
	NBD_REPLY_MAGIC = 0x67446698,
	NBD_CMD_DISC = 2,
	NBD_CMD_CACHE = 5,
};

/* As the server has it in memory. */
struct xnbd04_status {
	int64_t disk_size;
	char image[XNBD04_TEXT_BYTES];
	char bitmap[XNBD04_TEXT_BYTES];
	int32_t pid;
	char host[XNBD04_TEXT_BYTES];
	char port[XNBD04_TEXT_BYTES];
	size_t buf_limit, queue_limit, buf_used, queue_used;
};
_Static_assert(offsetof(struct xnbd04_status, buf_limit) == (12 + 4 * XNBD04_TEXT_BYTES + sizeof(size_t) - 1) / sizeof(size_t) * sizeof(size_t),
	       "the same in control/control_xnbd04.c");

struct xnbd04 {
	const char *path; /* of the control socket */
	struct xnbd04_status status;
	const uint64_t *words; /* the bitmap: block i is bit i % 64 of word i / 64 */
	uint64_t blocks, local;
	uint64_t next; /* none before it is to be asked for */
	unsigned outstanding;
	uint64_t refused; /* requests */
};

struct xnbd04_request {
	uint32_t magic, type;
	uint64_t cookie, offset;
	uint32_t length;
} PACKED;

struct xnbd04_reply {
	uint32_t magic, error;
	uint64_t cookie;
} PACKED;

/* Sends a command over a new connection, and returns that for what the command needs next. */
static int xnbd04_command(const struct xnbd04 *o, uint32_t command)
{
	int fd = bgctl_connect(o->path);

	send(fd, &command, sizeof(command), MSG_NOSIGNAL);
	return fd;
}

/* The server closes it when what was asked is done. */
static void xnbd04_wait(int fd)
{
	char byte;

	while (safe_read(fd, &byte, 1) > 0)
		;
}

static void xnbd04_count(struct xnbd04 *o)
{
	uint64_t i, word;

	o->local = 0;
	for (i = 0; i * 64 < o->blocks; i++) {
		word = o->words[i];
		if (o->blocks - i * 64 < 64) /* what is behind the last block tells nothing */
			word &= ((uint64_t)1 << (o->blocks % 64)) - 1;
		for (; word; word &= word - 1)
			o->local++;
	}
}

/* Maps the server's bitmap, in which it goes on setting bits. A relative path is taken from our own
 * directory. */
static void xnbd04_map(struct xnbd04 *o)
{
	uint64_t bytes = (o->blocks + 63) / 64 * 8;
	struct stat st;
	int fd = open(o->status.bitmap, O_RDONLY | O_NONBLOCK | O_NOCTTY); /* the server may name anything */

	if (fd < 0 || fstat(fd, &st) < 0)
		bb_perror_msg_and_die("bitmap %s", o->status.bitmap);
	if (!bytes || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != bytes || bytes > SIZE_MAX)
		bb_error_msg_and_die("bitmap %s: not one of a disk of %llu bytes", o->status.bitmap,
				     (unsigned long long)o->status.disk_size);
	o->words = mmap(NULL, (size_t)bytes, PROT_READ, MAP_SHARED, fd, 0);
	if (o->words == MAP_FAILED)
		bb_perror_msg_and_die("bitmap %s", o->status.bitmap);
	close(fd);
	xnbd04_count(o);
}

static void xnbd04_open(struct xnbd04 *o)
{
	struct xnbd04_status *s = &o->status;
	int fd = xnbd04_command(o, XNBD04_QUERY_STATUS);

	bgctl_set_timeout(fd, QUERY_TIMEOUT_S);
	if (full_read(fd, s, sizeof(*s)) != sizeof(*s) || s->disk_size < 0)
		bb_error_msg_and_die("%s: the answer is not one of xnbd-server", o->path);
	close(fd);
	s->image[XNBD04_TEXT_BYTES - 1] = s->bitmap[XNBD04_TEXT_BYTES - 1] = '\0';
	s->host[XNBD04_TEXT_BYTES - 1] = s->port[XNBD04_TEXT_BYTES - 1] = '\0';
	o->blocks = ((uint64_t)s->disk_size + BLOCK_BYTES - 1) / BLOCK_BYTES;
	xnbd04_map(o);
}

static unsigned xnbd04_permille(const struct xnbd04 *o)
{
	return (unsigned)(o->local * 1000 / o->blocks);
}

/* The same lines as a server of ours, as far as this one tells. */
static void xnbd04_query(const struct xnbd04 *o)
{
	const struct xnbd04_status *s = &o->status;
	unsigned permille = xnbd04_permille(o);
	char *text = xasprintf("mode proxy\npid %u\ncache_image %s\nbitmap %s\ndisk_size %llu\nblock_size %u\n"
			       "blocks %llu\ncached %llu\npercent %u.%u%%\nstate %scomplete\norigin_host %s\n"
			       "origin_port %s\nin_flight %llu\nbuffer_used %llu\nbuffer_limit %llu\n",
			       (unsigned)s->pid, s->image, s->bitmap, (unsigned long long)s->disk_size, BLOCK_BYTES,
			       (unsigned long long)o->blocks, (unsigned long long)o->local, permille / 10, permille % 10,
			       o->local == o->blocks ? "" : "in", s->host, s->port, (unsigned long long)s->queue_used,
			       (unsigned long long)s->buf_used, (unsigned long long)s->buf_limit);
	size_t n = strlen(text);
	char *line, *end;

	for (line = text; (end = strchr(line, '\n')); line = end + 1)
		bgctl_make_printable(line, (size_t)(end - line));
	if (full_write(STDOUT_FILENO, text, n) != (ssize_t)n)
		bb_simple_perror_msg_and_die("write error");
	free(text);
}

static void xnbd04_send(int fd, uint32_t type, uint64_t offset, uint64_t length)
{
	struct xnbd04_request r;

	r.magic = SWAP_BE32(NBD_REQUEST_MAGIC);
	r.type = SWAP_BE32(type);
	r.cookie = UINT64_MAX;
	r.offset = SWAP_BE64(offset);
	r.length = SWAP_BE32((uint32_t)length);
	/* That it has gone is found by reading. */
	send(fd, &r, sizeof(r), MSG_NOSIGNAL);
}

static bool xnbd04_is_local(const struct xnbd04 *o, uint64_t block)
{
	return o->words[block / 64] >> (block % 64) & 1;
}

/* Requests the next missing blocks. False: there are none. */
static bool xnbd04_request_next(struct xnbd04 *o, int fd, unsigned run_blocks)
{
	uint64_t first = o->next, end, offset, length;

	while (first < o->blocks && xnbd04_is_local(o, first))
		first++;
	for (end = first; end < o->blocks && end - first < run_blocks && !xnbd04_is_local(o, end);)
		end++;
	o->next = end;
	if (first == end)
		return false;
	offset = first * BLOCK_BYTES;
	length = (end - first) * BLOCK_BYTES;
	if (length > (uint64_t)o->status.disk_size - offset)
		length = (uint64_t)o->status.disk_size - offset;
	xnbd04_send(fd, NBD_CMD_CACHE, offset, length);
	o->outstanding++;
	return true;
}

static void xnbd04_receive_reply(struct xnbd04 *o, int fd)
{
	struct xnbd04_reply r;

	if (full_read(fd, &r, sizeof(r)) != sizeof(r) || r.magic != SWAP_BE32(NBD_REPLY_MAGIC))
		bb_error_msg_and_die("%s: connection lost; run this again to continue", o->path);
	o->refused += r.error != 0;
	o->outstanding--;
}

/* The state of the copy, as a server of ours sends it. */
static void xnbd04_show(struct progress *p, const struct xnbd04 *o, uint64_t found, unsigned long long began_ms)
{
	unsigned long long ms = monotonic_ms() - began_ms + 1;
	unsigned permille = xnbd04_permille(o);
	char percent[16];

	p->blocks = o->blocks;
	p->cached = o->local;
	p->found = found;
	p->rate = (o->local - found) * BLOCK_BYTES * 1000 / ms;
	strcpy(p->origin, "up"); /* such a server does not tell */
	snprintf(percent, sizeof(percent), "%u.%u%%", permille / 10, permille % 10);
	bgctl_progress_line(p, "percent", percent);
}

/* Requests every missing block over a session of our own. */
static void xnbd04_copy(struct xnbd04 *o, int fd, int control, unsigned run_blocks, unsigned opt)
{
	struct progress progress;
	unsigned long long began_ms = monotonic_ms(), shown_ms = began_ms;
	uint64_t found = o->local;
	char byte;

	if (opt & OPT_PROGRESS)
		bgctl_progress_begin(&progress);
	while ((o->outstanding < XNBD04_OUTSTANDING && xnbd04_request_next(o, fd, run_blocks)) || o->outstanding) {
		if (o->outstanding == XNBD04_OUTSTANDING || o->next == o->blocks)
			xnbd04_receive_reply(o, fd);
		if ((opt & OPT_PROGRESS) && monotonic_ms() - shown_ms >= 200) {
			shown_ms = monotonic_ms();
			xnbd04_count(o);
			xnbd04_show(&progress, o, found, began_ms);
		}
	}
	xnbd04_send(fd, NBD_CMD_DISC, 0, 0);
	if (safe_read(control, &byte, 1) != 1)
		bb_error_msg_and_die("%s: connection lost; run this again to continue", o->path);
	xnbd04_count(o);
	if (opt & OPT_PROGRESS) {
		xnbd04_show(&progress, o, found, began_ms);
		bgctl_progress_end(&progress);
	}
}

static void xnbd04_cache_all(struct xnbd04 *o, unsigned run_blocks, unsigned opt)
{
	int fd[2], control, null;

	if (socketpair(AF_UNIX, SOCK_STREAM, 0, fd) < 0)
		bb_simple_perror_msg_and_die("socketpair");
	control = xnbd04_command(o, XNBD04_REGISTER_FD);
	bgctl_send_fd(control, "", 1, fd[1]);
	if ((opt & OPT_CACHE_ALL2) && !(opt & OPT_PROGRESS)) {
		/* This server has no copy of its own: a child of ours stays behind. */
		if (xfork() > 0)
			exit(EXIT_SUCCESS);
		setsid();
		null = open("/dev/null", O_RDWR);
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
	}
	xnbd04_copy(o, fd[0], control, run_blocks, opt);
	if (o->refused || o->local != o->blocks)
		bb_error_msg_and_die("%s: %llu blocks are still missing, %llu requests were refused", o->path,
				     (unsigned long long)(o->blocks - o->local), (unsigned long long)o->refused);
}

/* Whether PID is the peer's of this Unix socket, as far as can be told: the peer is in our pid namespace, so that its pids are
 * valid here, and may itself send the process a signal. Else who listens there could have root end any process. */
static bool xnbd04_is_peers(int fd, int pid)
{
	struct stat ours, theirs;
	struct ucred peer;
	socklen_t n = sizeof(peer);
	char path[32];

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/ns/pid", (int)peer.pid); /* 0: a process that we cannot see */
	if (stat(path, &theirs) < 0 || stat("/proc/self/ns/pid", &ours) < 0 || theirs.st_ino != ours.st_ino || theirs.st_dev != ours.st_dev)
		return false;
	snprintf(path, sizeof(path), "/proc/%d", pid);
	return peer.uid == 0 || (stat(path, &theirs) == 0 && theirs.st_uid == peer.uid);
}

static void xnbd04_switch(const struct xnbd04 *o, unsigned opt)
{
	int fd;

	if (o->local != o->blocks && !(opt & OPT_FORCE))
		bb_error_msg_and_die("%s: %llu of %llu blocks are missing: run --cache-all first, or --force to do without them",
				     o->path, (unsigned long long)(o->blocks - o->local), (unsigned long long)o->blocks);
	fd = xnbd04_command(o, XNBD04_DETECT_SWITCH);
	if (!xnbd04_is_peers(fd, o->status.pid))
		bb_error_msg_and_die("%s: process %d is of another pid namespace or user: send it SIGUSR2 there", o->path, (int)o->status.pid);
	if (o->status.pid <= 0 || kill(o->status.pid, SIGUSR2) < 0)
		bb_perror_msg_and_die("%s: process %d", o->path, (int)o->status.pid);
	xnbd04_wait(fd);
}

static void read_exactly(int fd, void *to, size_t n)
{
	if (full_read(fd, to, n) != (ssize_t)n)
		bb_simple_error_msg_and_die("the new origin does not answer like an NBD server; the old one stays");
}

/* "Oldstyle negotiation"; or "Newstyle negotiation" with nothing but EXPORT_NAME, which
 * every such server knows. Returns the size of the disk in bytes. */
static uint64_t origin_handshake(int fd, const char *name)
{
	struct {
		char magic[8];
		uint64_t style;
	} PACKED greeting;
	struct {
		uint32_t flags;
		char magic[8];
		uint32_t option, length;
	} PACKED query;
	uint16_t flags;
	uint64_t size;
	char rest[4 + 124];
	size_t n = strlen(name);

	read_exactly(fd, &greeting, sizeof(greeting));
	if (memcmp(greeting.magic, "NBDMAGIC", 8) != 0)
		memset(&greeting, 0, sizeof(greeting));
	if (greeting.style == SWAP_BE64(0x0000420281861253ULL)) {
		if (n)
			bb_simple_error_msg_and_die("the new origin has no names: leave --exportname out");
		read_exactly(fd, &size, sizeof(size));
		read_exactly(fd, rest, 4 + 124);
		return SWAP_BE64(size);
	}
	if (memcmp(&greeting.style, "IHAVEOPT", 8) != 0)
		bb_simple_error_msg_and_die("the new origin is not an NBD server; the old one stays");
	read_exactly(fd, &flags, sizeof(flags));
	query.flags = flags & SWAP_BE16(1) ? SWAP_BE32(1) : 0; /* FIXED_NEWSTYLE */
	memcpy(query.magic, "IHAVEOPT", 8);
	query.option = SWAP_BE32(1); /* NBD_OPT_EXPORT_NAME */
	query.length = SWAP_BE32((uint32_t)n);
	send(fd, &query, sizeof(query), MSG_NOSIGNAL);
	send(fd, name, n, MSG_NOSIGNAL);
	if (full_read(fd, &size, sizeof(size)) != sizeof(size))
		bb_error_msg_and_die("the new origin has no export '%s'; the old one stays", name);
	read_exactly(fd, rest, 2 + 124);
	return SWAP_BE64(size);
}

static void xnbd04_reconnect(const struct xnbd04 *o, const char *host, const char *port, const char *name)
{
	int control, fd;

	if (!port)
		bb_error_msg_and_die("%s: a server of xNBD takes no URI: write REMOTE_HOST REMOTE_PORT", o->path);
	fd = strncmp(host, "unix:", 5) == 0 ? bgctl_connect(host + 5)
					    : create_and_connect_stream_or_die(host, (int)xatou_range(port, 1, 65535));
	bgctl_set_timeout(fd, XNBD04_HANDSHAKE_S);
	if (origin_handshake(fd, name ? name : "") != (uint64_t)o->status.disk_size)
		bb_simple_error_msg_and_die("the new origin is refused: it serves a disk of another size; the old one stays");
	bgctl_set_timeout(fd, 0);
	control = xnbd04_command(o, XNBD04_REGISTER_FORWARDER_FD);
	bgctl_send_fd(control, "", 1, fd);
	xnbd04_wait(control);
}

int bgctl_xnbd04(unsigned opt, const struct arguments *a)
{
	struct xnbd04 *o = xzalloc(sizeof(*o));

	o->path = a->argv[0];
	if (opt & OPT_VERIFY)
		bb_error_msg_and_die("%s: a server of xNBD does not know what clients have written", o->path);
	if (opt & (OPT_PAUSE | OPT_RESUME | OPT_CANCEL))
		bb_error_msg_and_die("%s: a server of xNBD has no copy of its own", o->path);
	if (opt & OPT_HOLD)
		bb_error_msg_and_die("%s: a server of xNBD cannot be told how long requests wait", o->path);
	if (opt & (OPT_CLIENTS | OPT_METRICS | OPT_WATCH))
		bb_error_msg_and_die("%s: a server of xNBD counts nothing", o->path);
	xnbd04_open(o);
	if (opt & OPT_QUERY)
		xnbd04_query(o);
	if (opt & (OPT_CACHE_ALL | OPT_CACHE_ALL2))
		xnbd04_cache_all(o, a->blocks ? xatou_range(a->blocks, 1, 65536) : XNBD04_RUN_BLOCKS, opt);
	if (opt & OPT_SWITCH)
		xnbd04_switch(o, opt);
	if (opt & OPT_RECONNECT)
		xnbd04_reconnect(o, a->argv[1], a->argv[2], a->name);
	free(o);
	return EXIT_SUCCESS;
}
