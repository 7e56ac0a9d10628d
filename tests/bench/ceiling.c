/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * ceiling unix:PATH | PORT IMAGE: the least that an NBD server can do, as the limit of any.
 *
 * One thread. READs are answered with zeroes from memory, without a look at the image. WRITEs go from the socket
 * to a buffer and from there to the image, by pwrite(2). Nothing is checked, counted or shared fairly;
 * a client that does not take its replies stops everybody, and one that breaks the rules ends it.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	BATCH = 32, /* requests of one recvmsg(2) */
	EVENTS = 16,
	DATA_MAX = 32 << 20, /* of one request */
	CMD_READ = 0,
	CMD_WRITE = 1,
	CMD_DISC = 2,
	OPT_ABORT = 2,
	OPT_GO = 7,
	REP_ACK = 1,
	REP_INFO = 3,
};
static const uint32_t REP_ERR_UNSUP = 0x80000001;

struct request {
	uint32_t magic;
	uint16_t flags, type;
	uint64_t cookie, offset;
	uint32_t length;
} __attribute__((packed));

struct reply {
	uint32_t magic, error;
	uint64_t cookie;
} __attribute__((packed));

struct connection {
	int fd;
	union {
		struct request request[BATCH];
		char bytes[BATCH * sizeof(struct request)];
	} in;
	size_t have;        /* bytes of `in` */
	uint32_t missing;   /* bytes of the data of write, which `in` comes after; 0: there is none */
	struct request write;
	char *data;
};

static int image, epoll;
static uint64_t image_bytes;
static char zeroes[DATA_MAX];

static void __attribute__((noreturn)) die(const char *what)
{
	fprintf(stderr, "ceiling: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* ---- connecting ---------------------------------------------------------------------------- */

static int listen_at(const char *where)
{
	struct sockaddr_un local = { .sun_family = AF_UNIX };
	struct sockaddr_in tcp = { .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
	int is_unix = strncmp(where, "unix:", 5) == 0, on = 1, fd;

	if (is_unix)
		snprintf(local.sun_path, sizeof(local.sun_path), "%s", where + 5);
	else
		tcp.sin_port = htons((uint16_t)atoi(where));
	fd = socket(is_unix ? AF_UNIX : AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, is_unix ? (void *)&local : (void *)&tcp, is_unix ? sizeof(local) : sizeof(tcp)) < 0 || listen(fd, 512) < 0)
		die(where);
	return fd;
}

static void give(int fd, const void *p, size_t n)
{
	if (send(fd, p, n, MSG_NOSIGNAL) != (ssize_t)n)
		die("send");
}

static int take(int fd, void *p, size_t n)
{
	return !n || recv(fd, p, n, MSG_WAITALL) == (ssize_t)n;
}

static void option_reply(int fd, uint32_t option, uint32_t type, const void *data, uint32_t n)
{
	struct {
		uint64_t magic;
		uint32_t option, type, length;
	} __attribute__((packed)) r = { htobe64(0x3e889045565a9), option, htobe32(type), htobe32(n) };

	give(fd, &r, sizeof(r));
	if (n)
		give(fd, data, n);
}

/* Fixed newstyle; the export of any name. False: it has gone. */
static int shake_hands(int fd)
{
	const struct {
		char magic[16];
		uint16_t flags;
	} __attribute__((packed)) greeting = { "NBDMAGICIHAVEOPT", htobe16(3) };
	const struct {
		uint16_t type;
		uint64_t bytes;
		uint16_t flags;
	} __attribute__((packed)) info = { 0, htobe64(image_bytes), htobe16(1) };
	struct {
		uint64_t magic;
		uint32_t option, length;
	} __attribute__((packed)) o;
	char data[4096];

	give(fd, &greeting, sizeof(greeting));
	if (!take(fd, data, 4))
		return 0;
	for (;;) {
		if (!take(fd, &o, sizeof(o)) || be32toh(o.length) > sizeof(data) || !take(fd, data, be32toh(o.length)))
			return 0;
		if (be32toh(o.option) == OPT_GO)
			break;
		option_reply(fd, o.option, be32toh(o.option) == OPT_ABORT ? REP_ACK : REP_ERR_UNSUP, NULL, 0);
		if (be32toh(o.option) == OPT_ABORT)
			return 0;
	}
	option_reply(fd, o.option, REP_INFO, &info, sizeof(info));
	option_reply(fd, o.option, REP_ACK, NULL, 0);
	return 1;
}

static void begin(int listener)
{
	struct connection *c = calloc(1, sizeof(*c));
	struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
	int on = 1;

	c->fd = accept(listener, NULL, NULL);
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	c->data = malloc(DATA_MAX); /* of which only that takes memory which is used */
	if (c->fd < 0 || !c->data)
		die("a connection");
	if (shake_hands(c->fd)) {
		if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) < 0)
			die("epoll");
		return;
	}
	close(c->fd);
	free(c->data);
	free(c);
}

static void end(struct connection *c)
{
	close(c->fd);
	free(c->data);
	free(c);
}

/* ---- requests ------------------------------------------------------------------------------- */

static struct reply reply_to(const struct request *r)
{
	return (struct reply){ htobe32(0x67446698), 0, r->cookie };
}

static void send_all(int fd, struct iovec *v, size_t n)
{
	struct msghdr m = { .msg_iov = v, .msg_iovlen = n };

	while (m.msg_iovlen) {
		ssize_t sent = sendmsg(fd, &m, MSG_NOSIGNAL);

		if (sent < 0)
			die("sendmsg");
		while (m.msg_iovlen && (size_t)sent >= m.msg_iov->iov_len) {
			sent -= (ssize_t)m.msg_iov->iov_len;
			m.msg_iov++;
			m.msg_iovlen--;
		}
		if (sent) {
			m.msg_iov->iov_base = (char *)m.msg_iov->iov_base + sent;
			m.msg_iov->iov_len -= (size_t)sent;
		}
	}
}

/* Takes data of the current WRITE, and what comes after it. False: the client has gone. */
static int receive(struct connection *c)
{
	struct iovec v[] = {
		{ c->data + be32toh(c->write.length) - c->missing, c->missing },
		{ c->in.bytes + c->have, sizeof(c->in) - c->have },
	};
	struct msghdr m = { .msg_iov = c->missing ? v : v + 1, .msg_iovlen = c->missing ? 2 : 1 };
	ssize_t n = recvmsg(c->fd, &m, MSG_DONTWAIT);
	uint32_t data;

	if (n < 0 && errno == EAGAIN)
		return 1;
	if (n <= 0)
		return 0;
	data = n < (ssize_t)c->missing ? (uint32_t)n : c->missing;
	c->missing -= data;
	c->have += (size_t)n - data;
	return 1;
}

/* Does all that has come completely, and replies to it in one go. False: the client says goodbye. */
static int serve(struct connection *c)
{
	struct reply reply[BATCH + 1];
	struct iovec v[2 * BATCH + 2];
	size_t at = 0, n = 0, replies = 0;
	int goes_on = 1;

	while (!c->missing) {
		struct request *r = &c->write;
		uint32_t length = be32toh(r->length);

		if (r->magic) { /* the WRITE is complete */
			if (pwrite(image, c->data, length, (off_t)be64toh(r->offset)) != (ssize_t)length)
				die("pwrite");
			reply[replies] = reply_to(r);
			v[n++] = (struct iovec){ &reply[replies++], sizeof(*reply) };
			r->magic = 0;
		}
		if (c->have - at < sizeof(*r))
			break;
		memcpy(r, c->in.bytes + at, sizeof(*r));
		at += sizeof(*r);
		length = be32toh(r->length);
		if (length > DATA_MAX)
			die("a long request");
		if (be16toh(r->type) == CMD_WRITE) {
			size_t here = c->have - at < length ? c->have - at : length;

			memcpy(c->data, c->in.bytes + at, here);
			at += here;
			c->missing = length - (uint32_t)here;
			continue;
		}
		goes_on = be16toh(r->type) == CMD_READ;
		if (!goes_on)
			break;
		reply[replies] = reply_to(r);
		v[n++] = (struct iovec){ &reply[replies++], sizeof(*reply) };
		v[n++] = (struct iovec){ zeroes, length };
		r->magic = 0;
	}
	c->have -= at;
	memmove(c->in.bytes, c->in.bytes + at, c->have);
	send_all(c->fd, v, n);
	return goes_on;
}

int main(int argc, char **argv)
{
	struct epoll_event ready[EVENTS], e = { .events = EPOLLIN };
	int listener, i, n;

	if (argc != 3) {
		fputs("usage: ceiling unix:PATH | PORT IMAGE\n", stderr);
		return 1;
	}
	image = open(argv[2], O_RDWR | O_CLOEXEC);
	if (image < 0)
		die(argv[2]);
	image_bytes = (uint64_t)lseek(image, 0, SEEK_END);
	listener = listen_at(argv[1]);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	if (epoll < 0 || epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &e) < 0)
		die("epoll");
	for (;;) {
		n = epoll_wait(epoll, ready, EVENTS, -1);
		for (i = 0; i < n; i++) {
			struct connection *c = ready[i].data.ptr;

			if (!c)
				begin(listener);
			else if (!receive(c) || !serve(c))
				end(c);
		}
	}
}
