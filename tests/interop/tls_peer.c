/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * tls/ on a socket, for tests against other TLS 1.3:
 *   tls_peer client PORT NAME HEXKEY [update]   sends stdin, and writes to stdout what comes back
 *   tls_peer server PORT NAME HEXKEY [update]   one client: what comes goes back
 * at 127.0.0.1. Ends with status 0 after close_notify of the peer, with the reason on stderr otherwise.
 * update: new keys after each record, and the peer is asked for the same.
 */
#include "tls/tls.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

static struct tls t;
static int fd;
static const char *name;
static uint8_t key[TLS_PSK_MAX];
static size_t key_len;
static bool update;

static void die(const char *why)
{
	fprintf(stderr, "tls_peer: %s\n", why);
	exit(1);
}

static void put_all(int to, const uint8_t *data, size_t len)
{
	while (len) {
		ssize_t n = write(to, data, len);
		if (n <= 0)
			die("write failed");
		data += n;
		len -= (size_t)n;
	}
}

static const uint8_t *lookup(void *ctx, const uint8_t *wanted, size_t len, size_t *psk_len)
{
	(void)ctx;
	*psk_len = key_len;
	return len == strlen(name) && !memcmp(wanted, name, len) ? key : NULL;
}

/* A byte at a time, so that nothing of the records is taken. */
static void handshake(void)
{
	uint8_t out[TLS_HANDSHAKE_OUT_MAX], in;
	size_t len = 0, used, out_len;
	for (;;) {
		enum tls_progress p = tls_handshake(&t, &in, len, &used, out, &out_len);
		put_all(fd, out, out_len);
		if (p == TLS_FAILED)
			die(tls_reason(&t));
		if (p == TLS_DONE)
			break;
		if (read(fd, &in, 1) != 1)
			die("the peer has closed the connection");
		len = 1;
	}
	const uint8_t *who = tls_name(&t, &len);
	fprintf(stderr, "tls_peer: done, key %.*s\n", (int)len, (const char *)who);
}

static void send_data(const uint8_t *data, size_t len)
{
	static uint8_t out[TLS_DATA_MAX + TLS_OVERHEAD];
	put_all(fd, out, tls_seal(&t, TLS_TYPE_DATA, out, data, len));
	if (update) {
		uint8_t request[TLS_KEY_UPDATE_MESSAGE_BYTES];
		memcpy(request, tls_key_update_message, sizeof(request));
		request[4] = 1;
		put_all(fd, out, tls_seal(&t, TLS_TYPE_HANDSHAKE, out, request, sizeof(request)));
		tls_next_key(&t);
	}
}

static bool read_all(uint8_t *to, size_t len)
{
	for (ssize_t n; len; to += n, len -= (size_t)n) {
		n = read(fd, to, len);
		if (n <= 0)
			return false;
	}
	return true;
}

/* The next data, or NULL after close_notify. */
static uint8_t *receive(size_t *len)
{
	static uint8_t record[TLS_RECORD_MAX];
	uint8_t *data, out[TLS_KEY_UPDATE_BYTES];
	for (;;) {
		if (!read_all(record, TLS_HEADER_BYTES))
			die("the peer has closed the connection without close_notify");
		size_t bytes = tls_record_bytes(record);
		if (bytes && !read_all(record + TLS_HEADER_BYTES, bytes - TLS_HEADER_BYTES))
			die("a record was cut off");
		switch (tls_open(&t, record, bytes ? bytes : TLS_HEADER_BYTES, &data, len)) {
		case TLS_DATA:
			return data;
		case TLS_NOTHING:
			break;
		case TLS_REPLY:
			fprintf(stderr, "tls_peer: the peer wants new keys\n");
			put_all(fd, out, tls_key_update(&t, out));
			break;
		case TLS_CLOSED:
			return NULL;
		default:
			put_all(fd, out, tls_end(&t, out));
			die(tls_reason(&t));
		}
	}
}

static void open_socket(bool server, int port)
{
	struct sockaddr_in a = { .sin_family = AF_INET,
				 .sin_port = htons((uint16_t)port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1, s = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(s, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (!server) {
		for (int i = 0; connect(s, (struct sockaddr *)&a, sizeof(a)); i++) {
			if (i == 100)
				die("cannot connect");
			usleep(50000);
		}
		fd = s;
	} else if (bind(s, (struct sockaddr *)&a, sizeof(a)) || listen(s, 1) || (fd = accept(s, NULL, NULL)) < 0) {
		die("cannot listen");
	}
}

int main(int argc, char **argv)
{
	if (argc < 5)
		die("usage: tls_peer client|server PORT NAME HEXKEY [update]");
	bool server = !strcmp(argv[1], "server");
	name = argv[3];
	key_len = strlen(argv[4]) / 2;
	for (size_t i = 0; i < key_len && i < sizeof(key); i++)
		sscanf(argv[4] + 2 * i, "%2hhx", key + i);
	update = argc > 5;
	uint8_t random[TLS_RANDOM_BYTES], data[TLS_DATA_MAX], out[TLS_ALERT_BYTES], *got;
	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		die("no random bytes");
	if (server)
		tls_begin_server(&t, lookup, NULL, random);
	else if (!tls_begin_client(&t, (const uint8_t *)name, strlen(name), key, key_len, random))
		die("bad name or key");
	open_socket(server, atoi(argv[2]));
	handshake();
	size_t len;
	for (ssize_t n; !server && (n = read(0, data, sizeof(data))) > 0;) {
		send_data(data, (size_t)n);
		for (size_t back = 0; back < (size_t)n;
		     back += len) { /* a peer that does not answer comes to its end */
			got = receive(&len);
			if (!got)
				return 0;
			put_all(1, got, len);
		}
	}
	if (!server)
		put_all(fd, out, tls_end(&t, out));
	while ((got = receive(&len))) {
		if (server)
			send_data(got, len);
		else
			put_all(1, got, len);
	}
	put_all(fd, out, tls_end(&t, out));
	return 0;
}
