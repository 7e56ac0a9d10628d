/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * lean [OPTIONS] unix:PATH | PORT: an NBD client that uses little processor time itself.
 *
 *   -w         WRITE instead of READ
 *   -c N       connections (1)
 *   -d N       requests in flight on each of them (1)
 *   -b BYTES   of each request (4096)
 *   -s SECONDS (1)
 *   -k N       so many connections more: each asks for one READ of 32 MiB and takes no reply
 *   -r BYTES   only the first so many of the disk are asked for
 *   -e NAME    of the export; else the default one
 *   -t         READs over TCP: replies are taken with MSG_TRUNC, which copies nothing, and counted
 *              by their bytes: each is taken for that to the oldest request of its connection
 *
 * One thread. Of each connection that is ready, all that has arrived is taken with one
 * recv(2), and all requests that have become possible leave with one sendmsg(2). Data is not
 * looked at. Offsets are random multiples of BYTES. The second line of the output has keys and
 * values: requests, bytes, seconds, cpu_s (of this client), p50_us, p99_us, p999_us, max_us.
 * Bytes are those of data that have left or come, so that requests of 32 MiB count before they
 * are complete.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include <endian.h>

enum {
	BUF_BYTES = 256 << 10, /* of one recv */
	IOV_MAX_USED = 128,
	EVENTS = 64,
	STUCK_BYTES = 32 << 20,
	REPLY_BYTES = 16,
	REPLY_MAGIC = 0x67446698,
	REQUEST_MAGIC = 0x25609513,
	CMD_READ = 0,
	CMD_WRITE = 1,
	BUCKETS = 64 * 16, /* of latencies: 16 for each power of two nanoseconds */
};

struct request {
	uint32_t magic;
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint32_t length;
} __attribute__((packed));

struct slot {
	struct request request;
	uint64_t begun_ns;
};

struct connection {
	int fd;
	int wants_out;
	struct slot *slot;   /* depth of them; the cookie is the index */
	unsigned *queue;     /* slots to be sent, a ring of depth + 1 */
	unsigned first, end; /* of the queue */
	uint64_t sent;       /* bytes of the first of them that have left */
	unsigned char reply[REPLY_BYTES];
	unsigned have;   /* bytes of the reply's header */
	uint64_t data;   /* bytes of its data that are still to come */
	uint64_t uncounted; /* -t: bytes that are not a whole reply yet */
	uint64_t oldest; /* ... of the requests in flight: its slot, if there were slots without end */
};

static const char *export_name = "";
static int is_write, truncates;
static unsigned connections = 1, depth = 1, stuck;
static uint32_t block = 4096;
static uint64_t disk_bytes, range_bytes = UINT64_MAX;
static double seconds = 1;

static int ending; /* nothing more is asked */
static uint64_t in_flight;
static uint64_t requests, bytes, bucket[BUCKETS], max_ns, now;
static unsigned char buf[BUF_BYTES];
static unsigned char *payload;
static int epoll;

static void __attribute__((noreturn)) __attribute__((format(printf, 1, 2))) die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fputs("lean: ", stderr);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static uint64_t chance(void)
{
	static uint64_t x = 88172645463325252ULL;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

/* ---- latencies ------------------------------------------------------------------------- */

static void note(uint64_t ns)
{
	unsigned power = 63 - (unsigned)__builtin_clzll(ns | 16);

	bucket[power * 16 + ((ns >> (power - 4)) & 15)]++;
	if (ns > max_ns)
		max_ns = ns;
}

/* In microseconds: what so large a part of all requests did not exceed. */
static double percentile(double part)
{
	uint64_t wanted = (uint64_t)(part * (double)requests), seen = 0;
	unsigned i;

	for (i = 0; i < BUCKETS; i++) {
		seen += bucket[i];
		if (seen > wanted)
			return (double)((uint64_t)(17 + i % 16) << (i / 16 - 4)) / 1000;
	}
	return (double)max_ns / 1000;
}

/* ---- connecting ------------------------------------------------------------------------- */

static int connect_to(const char *where)
{
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	struct sockaddr_in tcp = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int is_unix = strncmp(where, "unix:", 5) == 0, on = 1, fd;

	if (is_unix)
		snprintf(local.sun_path, sizeof(local.sun_path), "%s", where + 5);
	else
		tcp.sin_port = htons((uint16_t)atoi(where));
	fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, is_unix ? (void *)&local : (void *)&tcp, is_unix ? sizeof(local) : sizeof(tcp)) < 0)
		die("%s: %s", where, strerror(errno));
	if (!is_unix)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void take(int fd, void *p, size_t n)
{
	if (n && recv(fd, p, n, MSG_WAITALL) != (ssize_t)n) /* one of nothing would wait */
		die("the server hung up");
}

static void give(int fd, const void *p, size_t n)
{
	if (send(fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
		die("send: %s", strerror(errno));
}

/* Fixed newstyle, NBD_OPT_GO, simple replies. */
static void handshake(int fd)
{
	struct {
		uint32_t flags;
		uint64_t magic;
		uint32_t option, length, name_bytes;
	} __attribute__((packed)) go = { htobe32(1), htobe64(0x49484156454F5054ULL), htobe32(7), 0, 0 };
	static const uint16_t no_infos;
	struct {
		uint64_t magic;
		uint32_t option, type, length;
	} __attribute__((packed)) reply;
	unsigned char greeting[18], info[4096];
	size_t name_bytes = strlen(export_name);
	uint64_t size;

	go.name_bytes = htobe32((uint32_t)name_bytes);
	go.length = htobe32((uint32_t)(sizeof(go.name_bytes) + name_bytes + sizeof(no_infos)));
	take(fd, greeting, sizeof(greeting));
	give(fd, &go, sizeof(go));
	give(fd, export_name, name_bytes);
	give(fd, &no_infos, sizeof(no_infos));
	for (;;) {
		take(fd, &reply, sizeof(reply));
		if (be32toh(reply.length) > sizeof(info))
			die("an option reply is too long");
		take(fd, info, be32toh(reply.length));
		if (be32toh(reply.type) == 1) /* NBD_REP_ACK */
			return;
		if (be32toh(reply.type) != 3) /* NBD_REP_INFO */
			die("the export is refused: %#x", be32toh(reply.type));
		memcpy(&size, info + 2, sizeof(size));
		if (info[0] == 0 && info[1] == 0) /* NBD_INFO_EXPORT */
			disk_bytes = be64toh(size);
	}
}

/* ---- requests --------------------------------------------------------------------------- */

static void ask(struct connection *c, unsigned i)
{
	struct slot *s = &c->slot[i];

	if (ending)
		return;
	in_flight++;
	s->request.magic = htobe32(REQUEST_MAGIC);
	s->request.flags = 0;
	s->request.type = htobe16(is_write ? CMD_WRITE : CMD_READ);
	s->request.cookie = i;
	s->request.offset = htobe64(chance() % (range_bytes / block) * block);
	s->request.length = htobe32(block);
	s->begun_ns = now;
	c->queue[c->end] = i;
	c->end = (c->end + 1) % (depth + 1);
}

static uint64_t wire_bytes(void)
{
	return sizeof(struct request) + (is_write ? block : 0);
}

static int gather(const struct connection *c, struct iovec *v)
{
	uint64_t sent = c->sent;
	unsigned i;
	int n = 0;

	for (i = c->first; i != c->end && n < IOV_MAX_USED - 1; i = (i + 1) % (depth + 1)) {
		struct slot *s = &c->slot[c->queue[i]];

		if (sent < sizeof(s->request)) {
			v[n].iov_base = (char *)&s->request + sent;
			v[n++].iov_len = sizeof(s->request) - sent;
			sent = 0;
		} else {
			sent -= sizeof(s->request);
		}
		if (is_write) {
			v[n].iov_base = payload + sent;
			v[n++].iov_len = block - sent;
		}
		sent = 0;
	}
	return n;
}

static void watch(struct connection *c, int out)
{
	struct epoll_event e = { .events = EPOLLIN | (out ? EPOLLOUT : 0), .data.ptr = c };

	if (c->wants_out == out)
		return;
	c->wants_out = out;
	if (epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &e) < 0)
		die("epoll: %s", strerror(errno));
}

static void send_all(struct connection *c)
{
	struct iovec v[IOV_MAX_USED];
	struct msghdr m = { .msg_iov = v };

	while (c->first != c->end) {
		ssize_t n;

		m.msg_iovlen = (size_t)gather(c, v);
		n = sendmsg(c->fd, &m, MSG_DONTWAIT | MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			die("send: %s", strerror(errno));
		if (is_write)
			bytes += (uint64_t)n;
		c->sent += (uint64_t)n;
		while (c->first != c->end && c->sent >= wire_bytes()) {
			c->sent -= wire_bytes();
			c->first = (c->first + 1) % (depth + 1);
		}
	}
	watch(c, c->first != c->end);
}

/* ---- replies ------------------------------------------------------------------------------ */

static void done(struct connection *c)
{
	uint64_t i;

	memcpy(&i, c->reply + 8, sizeof(i));
	in_flight--;
	if (!ending) {
		note(now - c->slot[i].begun_ns);
		requests++;
	}
	ask(c, (unsigned)i);
}

static void header(struct connection *c)
{
	uint32_t word[2];
	uint64_t i;

	memcpy(word, c->reply, sizeof(word));
	memcpy(&i, c->reply + 8, sizeof(i));
	if (be32toh(word[0]) != REPLY_MAGIC || i >= depth)
		die("not a reply");
	if (word[1])
		die("error %u", be32toh(word[1]));
	c->data = is_write ? 0 : block;
	if (!c->data) {
		c->have = 0;
		done(c);
	}
}

static void parse(struct connection *c, const unsigned char *p, size_t n)
{
	while (n) {
		size_t step;

		if (c->data) {
			step = n < c->data ? n : c->data;
			c->data -= step;
			bytes += step;
			if (!c->data) {
				c->have = 0;
				done(c);
			}
		} else {
			step = REPLY_BYTES - c->have < n ? REPLY_BYTES - c->have : n;
			memcpy(c->reply + c->have, p, step);
			c->have += (unsigned)step;
			if (c->have == REPLY_BYTES)
				header(c);
		}
		p += step;
		n -= step;
	}
}

/* Without a look: nothing of them is there. An error reply is shorter, so the end would wait for ever. */
static void count_replies(struct connection *c, size_t n)
{
	c->uncounted += n;
	for (; c->uncounted >= REPLY_BYTES + (uint64_t)block; c->uncounted -= REPLY_BYTES + (uint64_t)block) {
		uint64_t i = c->oldest++ % depth;

		memcpy(c->reply + 8, &i, sizeof(i));
		bytes += block;
		done(c);
	}
}

static void receive_all(struct connection *c)
{
	ssize_t n = recv(c->fd, buf, sizeof(buf), MSG_DONTWAIT | (truncates ? MSG_TRUNC : 0));

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		die("the server hung up: %s", n ? strerror(errno) : "end of file");
	if (truncates)
		count_replies(c, (size_t)n);
	else
		parse(c, buf, (size_t)n);
}

/* ---- from the beginning to the end ---------------------------------------------------------- */

static void begin(struct connection *c, const char *where)
{
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };

	c->fd = connect_to(where);
	handshake(c->fd);
	c->slot = calloc(depth, sizeof(*c->slot));
	c->queue = calloc(depth + 1, sizeof(*c->queue));
	if (!c->slot || !c->queue || epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) < 0)
		die("no memory, or no epoll");
}

static uint64_t stuck_bytes(void)
{
	return disk_bytes < STUCK_BYTES ? disk_bytes : STUCK_BYTES;
}

static int begin_stuck(const char *where)
{
	struct request r = { htobe32(REQUEST_MAGIC), 0, htobe16(CMD_READ), 0, 0, 0 };
	int fd = connect_to(where);

	handshake(fd);
	r.length = htobe32((uint32_t)stuck_bytes());
	give(fd, &r, sizeof(r));
	return fd;
}

static void turn(int timeout_ms)
{
	struct epoll_event ready[EVENTS];
	int i, n = epoll_wait(epoll, ready, EVENTS, timeout_ms);

	now = now_ns();
	for (i = 0; i < n; i++) {
		struct connection *c = ready[i].data.ptr;

		if (ready[i].events & ~(unsigned)EPOLLOUT)
			receive_all(c);
		send_all(c);
	}
}

static void run(struct connection *all)
{
	uint64_t end;
	unsigned i, k;

	now = now_ns();
	end = now + (uint64_t)(seconds * 1e9);
	for (i = 0; i < connections; i++) {
		for (k = 0; k < depth; k++)
			ask(&all[i], k);
		send_all(&all[i]);
	}
	while (now < end || !requests) /* one at least: a rate needs it */
		turn(now < end ? (int)((end - now) / 1000000) + 1 : -1);
}

/* In good order: a server whose client hangs up in the middle may not be the same afterwards
 * (an assertion of nbdkit 1.32). */
static void end_all(const struct connection *all, const int *stuck_fd)
{
	static const struct request disc = { .magic = 0x13956025, .type = 0x0200 }; /* as on the wire */
	uint64_t left;
	unsigned i;

	ending = 1;
	while (in_flight)
		turn(-1);
	for (i = 0; i < connections; i++)
		give(all[i].fd, &disc, sizeof(disc));
	for (i = 0; i < stuck; i++) {
		for (left = stuck_bytes() + REPLY_BYTES; left;) {
			ssize_t n = recv(stuck_fd[i], buf, left < sizeof(buf) ? left : sizeof(buf), 0);

			if (n <= 0)
				die("a client that took no reply for a while gets none");
			left -= (uint64_t)n;
		}
		give(stuck_fd[i], &disc, sizeof(disc));
	}
}

static void report(uint64_t begun_ns)
{
	struct rusage r;

	getrusage(RUSAGE_SELF, &r);
	printf("requests %llu bytes %llu seconds %.6f cpu_s %.6f p50_us %.1f p99_us %.1f p999_us %.1f max_us %.1f\n",
	       (unsigned long long)requests, (unsigned long long)bytes, (double)(now - begun_ns) / 1e9,
	       (double)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) + (double)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1e6,
	       percentile(0.5), percentile(0.99), percentile(0.999), (double)max_ns / 1000);
}

int main(int argc, char **argv)
{
	struct connection *all;
	const char *where;
	uint64_t begun_ns;
	int *stuck_fd;
	unsigned i;
	int o;

	while ((o = getopt(argc, argv, "wtc:d:b:e:s:k:r:")) != -1) {
		switch (o) {
		case 'w': is_write = 1; break;
		case 't': truncates = 1; break;
		case 'c': connections = (unsigned)atoi(optarg); break;
		case 'd': depth = (unsigned)atoi(optarg); break;
		case 'b': block = (uint32_t)atol(optarg); break;
		case 'e': export_name = optarg; break;
		case 'r': range_bytes = strtoull(optarg, NULL, 10); break;
		case 's': seconds = atof(optarg); break;
		case 'k': stuck = (unsigned)atoi(optarg); break;
		default: die("unknown option");
		}
	}
	if (optind != argc - 1 || !connections || !depth || !block)
		die("usage: lean [-wt] [-c N] [-d N] [-b BYTES] [-s SECONDS] [-k N] [-r BYTES] [-e NAME] unix:PATH | PORT");
	if (is_write)
		truncates = 0;
	where = argv[optind];
	all = calloc(connections, sizeof(*all));
	stuck_fd = calloc(stuck + 1, sizeof(*stuck_fd));
	payload = malloc(block);
	epoll = epoll_create1(0);
	if (!all || !stuck_fd || !payload || epoll < 0)
		die("no memory");
	memset(payload, 0x5a, block);
	for (i = 0; i < stuck; i++)
		stuck_fd[i] = begin_stuck(where);
	for (i = 0; i < connections; i++)
		begin(&all[i], where);
	if (range_bytes > disk_bytes)
		range_bytes = disk_bytes;
	if (range_bytes < block)
		die("the disk is smaller than a request");
	puts("connected");
	fflush(stdout);
	begun_ns = now_ns();
	run(all);
	report(begun_ns);
	end_all(all, stuck_fd);
	return 0;
}
