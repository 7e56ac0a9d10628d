/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * tls/ in constant time: under valgrind all secrets are undefined memory, so it reports each branch and each index that
 * depends on one. What was sent is public, and so is what a peer that has the key has sent (TLS_PUBLIC).
 * "constant_time leak" branches on a secret, which valgrind has to report.
 */
#include "test.h"

#include "tls/tls.h"

#include <valgrind/memcheck.h>

static uint8_t psk[32];

static void secret(void *p, size_t len)
{
	VALGRIND_MAKE_MEM_UNDEFINED(p, len);
}

static const uint8_t *lookup(void *ctx, const uint8_t *name, size_t len, size_t *psk_len)
{
	(void)ctx;
	(void)name;
	(void)len;
	*psk_len = sizeof(psk);
	return psk;
}

/* Feeds t, and what it sends is public. */
static enum tls_progress step(struct tls *t, const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len)
{
	size_t used;
	enum tls_progress p = tls_handshake(t, in, in_len, &used, out, out_len);
	TLS_PUBLIC(out, *out_len);
	return p;
}

static void begin(struct tls *client, struct tls *server)
{
	uint8_t random[TLS_RANDOM_BYTES] = { 1 };
	secret(random + 32, 32); /* the private key; the rest is the hello's */
	CHECK(tls_begin_client(client, (const uint8_t *)"alice", 5, psk, sizeof(psk), random));
	tls_begin_server(server, lookup, NULL, random);
}

static void talk(struct tls *from, struct tls *to)
{
	static uint8_t data[5000], record[5000 + TLS_OVERHEAD], *got;
	size_t len;
	secret(data, sizeof(data));
	size_t bytes = tls_seal(from, TLS_TYPE_DATA, record, data, sizeof(data));
	TLS_PUBLIC(record, bytes);
	CHECK(tls_open(to, record, bytes, &got, &len) == TLS_DATA && len == sizeof(data));
	bytes = tls_key_update(from, record);
	TLS_PUBLIC(record, bytes);
	CHECK(tls_open(to, record, bytes, &got, &len) == TLS_NOTHING);
}

int main(int argc, char **argv)
{
	static struct tls client, server;
	static uint8_t a[TLS_HANDSHAKE_OUT_MAX], b[TLS_HANDSHAKE_OUT_MAX];
	size_t a_len, b_len;
	(void)argv;
	secret(psk, sizeof(psk));
	begin(&client, &server);
	CHECK(step(&client, NULL, 0, a, &a_len) == TLS_MORE);
	CHECK(step(&server, a, a_len, b, &b_len) == TLS_MORE);
	CHECK(step(&client, b, b_len, a, &a_len) == TLS_DONE);
	CHECK(step(&server, a, a_len, b, &b_len) == TLS_DONE);
	for (int i = 0; i < 2; i++) {
		talk(&client, &server);
		talk(&server, &client);
	}
	/* A hello that is refused: so is what the server says of it. */
	begin(&client, &server);
	step(&client, NULL, 0, a, &a_len);
	a[a_len - 1] ^= 1;
	CHECK(step(&server, a, a_len, b, &b_len) == TLS_FAILED);
	if (argc > 1 && psk[0])
		puts("a branch on a secret");
	return test_end();
}
