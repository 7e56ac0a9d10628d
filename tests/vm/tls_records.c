/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Records that a peer may send beside plain data, and those that it must not, at 127.0.0.1:
 *   tls_records server PORT BACKEND KEY MODE [BYTES]   TLS in front of an NBD server in the clear at port BACKEND
 *   tls_records client PORT KEY MODE                   says what the server does about it
 * KEY, of alice, is in hexadecimal. MODE, of the server: "tickets" and "padding" all the time, or once on each connection, after
 * BYTES to the client: "update", "flip" or "close". Of the client, at once: "update", "flip", "close", "ticket",
 * "alert", "type" or "empty".
 */
#include "tls/tls.h"

#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

static struct tls t;
static uint8_t key[TLS_PSK_MAX];
static size_t key_len;
static const char *mode;

static void die(const char *why)
{
	fprintf(stderr, "tls_records: %s\n", why);
	exit(1);
}

static bool is_mode(const char *name)
{
	return !strcmp(mode, name);
}

static void put_all(int to, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		ssize_t n = send(to, p, len, MSG_NOSIGNAL);

		if (n <= 0)
			exit(0);
		p += n;
		len -= (size_t)n;
	}
}

static void get_all(int from, void *data, size_t len)
{
	uint8_t *p = data;

	while (len) {
		ssize_t n = recv(from, p, len, 0);

		if (n <= 0)
			exit(0);
		p += n;
		len -= (size_t)n;
	}
}

static int dial(const char *port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		die("connect");
	return fd;
}

static const uint8_t *lookup(void *ctx, const uint8_t *wanted, size_t len, size_t *psk_len)
{
	(void)ctx;
	*psk_len = key_len;
	return len == 5 && !memcmp(wanted, "alice", 5) ? key : NULL;
}

static void handshake(int fd, bool server)
{
	uint8_t random[TLS_RANDOM_BYTES], out[TLS_HANDSHAKE_OUT_MAX], in;
	size_t len = 0, used, out_len;
	enum tls_progress p;

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		die("random");
	if (server)
		tls_begin_server(&t, lookup, NULL, random);
	else
		tls_begin_client(&t, (const uint8_t *)"alice", 5, key, key_len, random);
	while ((p = tls_handshake(&t, &in, len, &used, out, &out_len)) != TLS_DONE) {
		put_all(fd, out, out_len);
		if (p == TLS_FAILED)
			die(tls_reason(&t));
		get_all(fd, &in, 1);
		len = 1;
	}
	put_all(fd, out, out_len);
}

static void send_record(int fd, uint8_t type, const void *data, size_t len, bool flip)
{
	static uint8_t out[TLS_DATA_MAX + TLS_OVERHEAD];
	size_t n = tls_seal(&t, type, out, data, len);

	out[n - 1] ^= flip;
	put_all(fd, out, n);
}

/* Of one, or of two in a record */
static void send_tickets(int fd, unsigned count)
{
	uint8_t ticket[2][4 + 200] = { { 4, 0, 0, 200, 0, 0, 0, 60 }, { 4, 0, 0, 200 } };

	send_record(fd, TLS_TYPE_HANDSHAKE, ticket, count * sizeof(ticket[0]), false);
}

static void update(int fd)
{
	uint8_t out[TLS_KEY_UPDATE_BYTES];

	put_all(fd, out, tls_key_update(&t, out));
}

static void send_data(int fd, uint8_t *data, size_t len)
{
	static size_t count;

	if (is_mode("padding")) {
		memset(data + len, 0, 300);
		data[len] = TLS_TYPE_DATA;
		send_record(fd, 0, data, len + 1 + ++count % 200, false);
		send_record(fd, TLS_TYPE_DATA, data, 0, false);
		return;
	}
	if (is_mode("tickets") && ++count % 16 == 0)
		send_tickets(fd, 1 + count / 16 % 2);
	send_record(fd, TLS_TYPE_DATA, data, len, false);
}

/* ---- a server -------------------------------------------------------------------------------- */

static void once(int fd)
{
	static const uint8_t closing[2] = { 1, 0 };

	if (is_mode("update"))
		update(fd);
	else if (is_mode("flip"))
		send_record(fd, TLS_TYPE_DATA, "x", 1, true);
	else if (is_mode("close"))
		send_record(fd, TLS_TYPE_ALERT, closing, 2, false);
	if (is_mode("close"))
		exit(0);
}

static void translate(int fd, int backend, long left)
{
	static uint8_t in[TLS_RECORD_MAX], data[TLS_DATA_MAX];
	struct pollfd p[2] = { { .fd = fd, .events = POLLIN }, { .fd = backend, .events = POLLIN } };

	while (poll(p, 2, -1) > 0) {
		if (p[0].revents) {
			uint8_t *content;
			size_t len;

			get_all(fd, in, TLS_HEADER_BYTES);
			len = tls_record_bytes(in);
			get_all(fd, in + TLS_HEADER_BYTES, len - TLS_HEADER_BYTES);
			if (tls_open(&t, in, len, &content, &len) != TLS_DATA)
				exit(0);
			put_all(backend, content, len);
		}
		if (p[1].revents) {
			ssize_t n = recv(backend, data, sizeof(data) - 400, 0);

			if (n <= 0)
				exit(0);
			send_data(fd, data, (size_t)n);
			if (left > 0 && (left -= n) <= 0)
				once(fd);
		}
	}
}

static void serve(int fd, const char *port, long bytes)
{
	static const uint8_t ack[20] = { 0, 3, 0xe8, 0x89, 4, 0x55, 0x65, 0xa9, 0, 0, 0, 5, 0, 0, 0, 1 };
	uint8_t head[18];
	int backend = dial(port);

	get_all(backend, head, 18);
	put_all(fd, head, 18);
	get_all(fd, head, 4);
	put_all(backend, head, 4);
	get_all(fd, head, 16);
	put_all(fd, ack, sizeof(ack));
	handshake(fd, true);
	if (is_mode("tickets")) {
		send_tickets(fd, 1);
		send_tickets(fd, 2);
	}
	translate(fd, backend, bytes);
}

static void server(const char *port, const char *backend, long bytes)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(fd, 8) < 0)
		die("bind");
	signal(SIGCHLD, SIG_IGN);
	for (;;) {
		int new = accept(fd, NULL, NULL);

		if (new >= 0 && !fork())
			serve(new, backend, bytes);
		close(new);
	}
}

/* ---- a client --------------------------------------------------------------------------------------- */

static void misbehave(int fd)
{
	static const uint8_t closing[2] = { 1, 0 }, alert[2] = { 2, 80 };

	if (is_mode("update"))
		update(fd);
	else if (is_mode("ticket"))
		send_tickets(fd, 1);
	else if (is_mode("flip"))
		send_record(fd, TLS_TYPE_DATA, "x", 1, true);
	else if (is_mode("close"))
		send_record(fd, TLS_TYPE_ALERT, closing, 2, false);
	else if (is_mode("alert"))
		send_record(fd, TLS_TYPE_ALERT, alert, 2, false);
	else if (is_mode("type"))
		send_record(fd, 99, "x", 1, false);
	else
		send_record(fd, TLS_TYPE_HANDSHAKE, "", 0, false);
}

static void client(const char *port)
{
	static const uint8_t begin[20] = { 0, 0, 0, 1, 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 5 };
	static const uint8_t wish[16] = { 'I', 'H', 'A', 'V', 'E', 'O', 'P', 'T', 0, 0, 0, 3 };
	static uint8_t in[TLS_RECORD_MAX];
	struct timeval patience = { 60, 0 };
	int fd = dial(port);
	ssize_t n;

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	get_all(fd, in, 18);
	put_all(fd, begin, sizeof(begin));
	get_all(fd, in, 20);
	handshake(fd, false);
	send_record(fd, TLS_TYPE_DATA, wish, sizeof(wish), false); /* LIST, so that the kernel is known to have it */
	get_all(fd, in, TLS_HEADER_BYTES);
	get_all(fd, in + TLS_HEADER_BYTES, tls_record_bytes(in) - TLS_HEADER_BYTES);
	misbehave(fd);
	while ((n = recv(fd, in, sizeof(in), 0)) > 0)
		;
	puts(n == 0 || errno == ECONNRESET ? "hung up" : "no end");
}

int main(int argc, char **argv)
{
	bool is_server = argc > 1 && !strcmp(argv[1], "server");
	const char *hex;

	if (argc < 5)
		die("usage: see the source");
	hex = argv[3 + is_server];
	mode = argv[4 + is_server];
	for (key_len = 0; key_len < sizeof(key) && sscanf(hex + 2 * key_len, "%2hhx", &key[key_len]) == 1; key_len++)
		;
	if (is_server)
		server(argv[2], argv[3], argc > 6 ? atol(argv[6]) : 0);
	else
		client(argv[2]);
	return 0;
}
