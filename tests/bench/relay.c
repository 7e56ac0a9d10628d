/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * relay LISTEN CONNECT MICROSECONDS: a link with a delay, between two Unix sockets.
 *
 * What comes in goes out so much later, as over a long wire: the wire holds many bytes
 * at a time, and its width is not limited but by WIRE_BYTES. One process a connection.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { WIRE_BYTES = 16 << 20, PIECES = 1 << 14, PIECE_BYTES = 256 << 10 };

/* What came with one read, and when it is to go. */
struct piece {
	uint64_t due_ns;
	size_t end; /* counted from the beginning of the connection */
};

/* One direction. The bytes first..last are on the wire, in a ring. */
struct wire {
	int from, to;
	char *bytes;
	size_t first, last;
	struct piece pieces[PIECES];
	unsigned piece_first, piece_last;
	int closed;
};

static uint64_t delay_ns;

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static size_t room(const struct wire *w)
{
	size_t at = w->last % WIRE_BYTES;
	size_t n = WIRE_BYTES - (w->last - w->first);

	if (n > WIRE_BYTES - at)
		n = WIRE_BYTES - at;
	if (n > PIECE_BYTES)
		n = PIECE_BYTES;
	return w->piece_last - w->piece_first == PIECES || w->closed ? 0 : n;
}

static void take(struct wire *w)
{
	ssize_t n = recv(w->from, w->bytes + w->last % WIRE_BYTES, room(w), MSG_DONTWAIT);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		w->closed = 1;
		return;
	}
	w->last += (size_t)n;
	w->pieces[w->piece_last++ % PIECES] = (struct piece){ now_ns() + delay_ns, w->last };
}

/* The bytes that are due. */
static size_t due(struct wire *w, uint64_t now)
{
	size_t end = w->first;
	unsigned i;

	for (i = w->piece_first; i != w->piece_last && w->pieces[i % PIECES].due_ns <= now; i++)
		end = w->pieces[i % PIECES].end;
	return end - w->first;
}

static void give(struct wire *w, size_t n)
{
	size_t at = w->first % WIRE_BYTES;
	ssize_t sent;

	if (n > WIRE_BYTES - at)
		n = WIRE_BYTES - at;
	sent = send(w->to, w->bytes + at, n, MSG_DONTWAIT | MSG_NOSIGNAL);
	if (sent < 0 && errno != EAGAIN && errno != EINTR)
		exit(0);
	if (sent <= 0)
		return;
	w->first += (size_t)sent;
	while (w->piece_first != w->piece_last && w->pieces[w->piece_first % PIECES].end <= w->first)
		w->piece_first++;
}

/* For how long nothing will be due. */
static int64_t idle_ns(const struct wire *w, uint64_t now)
{
	uint64_t at;

	if (w->piece_first == w->piece_last)
		return 1000000000;
	at = w->pieces[w->piece_first % PIECES].due_ns;
	return at > now ? (int64_t)(at - now) : 1000000000; /* what is due waits for POLLOUT */
}

static void carry(int a, int b)
{
	static struct wire wires[2];
	int i;

	wires[0].from = wires[1].to = a;
	wires[0].to = wires[1].from = b;
	for (i = 0; i < 2; i++) {
		wires[i].bytes = malloc(WIRE_BYTES);
		if (!wires[i].bytes)
			fail("malloc");
	}
	while (!(wires[0].closed && wires[0].first == wires[0].last) &&
	       !(wires[1].closed && wires[1].first == wires[1].last)) {
		struct pollfd p[2] = { { .fd = a }, { .fd = b } };
		uint64_t now = now_ns();
		int64_t wait = 1000000000;
		struct timespec t;

		for (i = 0; i < 2; i++) {
			int64_t idle = idle_ns(&wires[i], now);

			p[i].events |= room(&wires[i]) ? POLLIN : 0;
			p[!i].events |= due(&wires[i], now) ? POLLOUT : 0;
			wait = idle < wait ? idle : wait;
		}
		t.tv_sec = wait / 1000000000;
		t.tv_nsec = wait % 1000000000;
		if (ppoll(p, 2, &t, NULL) < 0 && errno != EINTR)
			fail("ppoll");
		for (i = 0; i < 2; i++) {
			size_t n;

			if (p[i].revents & (POLLIN | POLLHUP | POLLERR) && room(&wires[i]))
				take(&wires[i]);
			n = due(&wires[i], now_ns());
			if (n)
				give(&wires[i], n);
		}
	}
	exit(0);
}

static struct sockaddr_un address(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	if (strlen(path) >= sizeof(a.sun_path)) {
		fprintf(stderr, "relay: %s: too long for a socket\n", path);
		exit(1);
	}
	strcpy(a.sun_path, path);
	return a;
}

int main(int argc, char **argv)
{
	struct sockaddr_un here, there;
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);

	if (argc != 4) {
		fprintf(stderr, "usage: relay LISTEN CONNECT MICROSECONDS\n");
		return 1;
	}
	delay_ns = strtoull(argv[3], NULL, 10) * 1000;
	here = address(argv[1]);
	there = address(argv[2]);
	signal(SIGCHLD, SIG_IGN);
	if (bind(listener, (struct sockaddr *)&here, sizeof(here)) < 0 || listen(listener, 64) < 0)
		fail(argv[1]);
	for (;;) {
		int client = accept(listener, NULL, NULL);
		int server;

		if (client < 0)
			continue;
		if (fork() == 0) {
			close(listener);
			server = socket(AF_UNIX, SOCK_STREAM, 0);
			if (connect(server, (struct sockaddr *)&there, sizeof(there)) < 0)
				fail(argv[2]);
			carry(client, server);
		}
		close(client);
	}
}
