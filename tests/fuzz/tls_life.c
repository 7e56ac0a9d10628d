/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
#include "tls_life.h"

#include "tls/internal.h"
#include "world.h"

#include <stdlib.h>

static struct tls t;
static bool proven, finished; /* a right binder, a right Finished has been sent */
static size_t piece, have;
static uint8_t sent[2 * TLS_HANDSHAKE_OUT_MAX], record[TLS_RECORD_MAX];
static size_t sent_len;

static const uint8_t psk[32] = "the key of both, of 32 bytes....";
static const uint8_t random_bytes[TLS_RANDOM_BYTES] = "random";

static const uint8_t *lookup(void *ctx, const uint8_t *name, size_t len, size_t *psk_len)
{
	(void)ctx;
	*psk_len = sizeof(psk);
	return len && len <= TLS_NAME_MAX && name[0] == 'a' ? psk : NULL;
}

static bool is_open(void)
{
	return t.state == STATE_OPEN;
}

/* A copy of its own for each call: not a byte behind it may be read or written. */
static size_t handshake(const uint8_t *in, size_t len)
{
	uint8_t *exact = malloc(len + !len), *out = malloc(TLS_HANDSHAKE_OUT_MAX);
	size_t used, out_len;
	memcpy(exact, in, len);
	enum tls_progress p = tls_handshake(&t, exact, len, &used, out, &out_len);
	if (used > len || out_len > TLS_HANDSHAKE_OUT_MAX || (p == TLS_MORE && used != len))
		finding("lengths that make no sense");
	if (p == TLS_DONE && !finished)
		finding("the handshake is over without a right Finished");
	if (t.server && t.tx.on && !proven)
		finding("the server has answered without a right binder");
	if (p == TLS_FAILED && (!tls_reason(&t) || (!t.by_peer && !t.alert_sent)))
		finding("it has failed, and nothing says why");
	sent_len = out_len;
	memcpy(sent, out, out_len);
	free(exact);
	free(out);
	return p == TLS_MORE ? len : used;
}

static void open_record(size_t len)
{
	uint8_t *exact = malloc(len), *data = NULL, out[TLS_KEY_UPDATE_BYTES];
	size_t data_len = 0;
	memcpy(exact, record, len);
	switch (tls_open(&t, exact, len, &data, &data_len)) {
	case TLS_DATA:
		if (data < exact || data + data_len > exact + len || data_len > TLS_DATA_MAX)
			finding("data outside its record");
		break;
	case TLS_REPLY:
		if (tls_key_update(&t, out) != sizeof(out))
			finding("a KeyUpdate of another length");
		break;
	case TLS_NOTHING:
		break;
	default:
		if (is_open() || !tls_reason(&t))
			finding("an end that is none");
		if (tls_end(&t, out) != TLS_ALERT_BYTES)
			finding("an alert of another length");
	}
	free(exact);
}

/* What the one that uses tls/ does with what it receives */
static void receive(const uint8_t *in, size_t len)
{
	while (len) {
		size_t n = piece && piece < len ? piece : len, used = n;
		if (t.state < STATE_OPEN) {
			used = handshake(in, n);
		} else if (is_open()) {
			size_t want = have < TLS_HEADER_BYTES ? TLS_HEADER_BYTES : tls_record_bytes(record);
			used = n < want - have ? n : want - have;
			memcpy(record + have, in, used);
			have += used;
			want = have < TLS_HEADER_BYTES ? TLS_HEADER_BYTES + 1 : tls_record_bytes(record);
			if (!want || have == want) {
				open_record(have);
				have = 0;
			}
		}
		in += used;
		len -= used;
		if (!used && t.state > STATE_OPEN)
			return;
	}
}

/* An encrypted record as the peer makes it, if there are keys: it has those that t receives with. */
static void receive_sealed(uint8_t type, const uint8_t *data, size_t len)
{
	static uint8_t out[TLS_RECORD_MAX];
	struct tls peer = { .tx = t.rx };
	if (t.rx.on)
		receive(out, tls_seal(&peer, type, out, data, len));
}

static void receive_finished(void)
{
	uint8_t message[MESSAGE_HEADER_BYTES + SHA256_BYTES] = { FINISHED, 0, 0, SHA256_BYTES };
	if (!t.rx.on || t.state >= STATE_OPEN)
		return;
	tls_verify_data(&t, message + MESSAGE_HEADER_BYTES, t.rx.secret);
	finished = true;
	receive_sealed(TLS_TYPE_HANDSHAKE, message, sizeof(message));
}

static void receive_plain(const uint8_t *message, size_t len)
{
	uint8_t out[TLS_HEADER_BYTES + 1000] = { TLS_TYPE_HANDSHAKE, 3, 3 };
	memcpy(put16(out + 3, (unsigned)len), message, len);
	receive(out, TLS_HEADER_BYTES + len);
}

static void receive_binder(const uint8_t *data, size_t len)
{
	uint8_t message[MESSAGE_HEADER_BYTES + 300] = { CLIENT_HELLO };
	struct tls peer = { .server = false };
	if (!t.server || t.state >= STATE_OPEN || len < 35)
		return;
	put16(message + 2, (unsigned)len);
	memcpy(message + MESSAGE_HEADER_BYTES, data, len);
	len += MESSAGE_HEADER_BYTES;
	peer.handshake.transcript = t.handshake.transcript;
	tls_early_secret(&peer, psk, sizeof(psk));
	tls_binder(&peer, message + len - SHA256_BYTES, message, len - 35);
	proven = true;
	receive_plain(message, len);
}

/* A client's hello, or the server's for that of t, which is in sent */
static void receive_hello(void)
{
	static struct tls peer;
	static uint8_t out[TLS_HANDSHAKE_OUT_MAX];
	size_t used, len;
	if (t.server) {
		tls_begin_client(&peer, (const uint8_t *)"alice", 5, psk, sizeof(psk), random_bytes);
		tls_handshake(&peer, NULL, 0, &used, out, &len);
		proven = true;
	} else {
		tls_begin_server(&peer, lookup, NULL, random_bytes);
		tls_handshake(&peer, sent, sent_len, &used, out, &len);
		if (len > 5)
			len = TLS_HEADER_BYTES + (out[3] << 8 | out[4]);
	}
	receive(out, len);
}

static void step(uint8_t kind, const uint8_t *data, size_t len)
{
	static uint8_t many[256 * 16 + 1];
	switch (kind % STEPS) {
	case STEP_RAW:
		receive(data, len);
		break;
	case STEP_PLAIN:
		receive_plain(data, len);
		break;
	case STEP_BINDER:
		receive_binder(data, len);
		break;
	case STEP_MESSAGE:
		receive_sealed(TLS_TYPE_HANDSHAKE, data, len);
		break;
	case STEP_RECORD:
		if (len)
			receive_sealed(data[0], data + 1, len - 1);
		break;
	case STEP_FINISHED:
		receive_finished();
		break;
	case STEP_HELLO:
		receive_hello();
		break;
	case STEP_LONG:
		for (size_t i = 0; len && i < 16 * len; i++)
			many[i] = data[i % len];
		receive_sealed(kind & 0x80 ? TLS_TYPE_HANDSHAKE : TLS_TYPE_DATA, many, 16 * len);
		break;
	}
}

void tls_life(bool server, const uint8_t *data, size_t len)
{
	if (!len)
		return;
	proven = finished = false;
	have = 0;
	piece = data[0] & 15;
	if (server)
		tls_begin_server(&t, lookup, NULL, random_bytes);
	else
		tls_begin_client(&t, (const uint8_t *)"alice", 5, psk, sizeof(psk), random_bytes);
	handshake(data, 0);
	for (data++, len--; len >= 2 && t.state <= STATE_OPEN;) {
		size_t n = data[1] < len - 2 ? data[1] : len - 2;
		step(data[0], data + 2, n);
		data += 2 + n;
		len -= 2 + n;
	}
}
