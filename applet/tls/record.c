/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Records (RFC 8446, section 5), and what may come in them after the handshake. */
#include "tls/internal.h"

const uint8_t tls_key_update_message[TLS_KEY_UPDATE_MESSAGE_BYTES] = { KEY_UPDATE, 0, 0, 1, 0 };

/* The number of the record in the last 8 of 12 bytes, and then the next one's turn */
static void next_nonce(struct tls_half *h, uint8_t nonce[12])
{
	memcpy(nonce, h->iv, 12);
	for (int i = 0; i < 8; i++)
		nonce[11 - i] ^= h->seq >> (8 * i);
	h->seq++;
}

size_t tls_seal(struct tls *t, uint8_t type, uint8_t *out, const uint8_t *data, size_t len)
{
	uint8_t nonce[12], *body = out + TLS_HEADER_BYTES;
	size_t inner = len + 1;
	if (t->tx.seq == UINT64_MAX)
		return 0;
	next_nonce(&t->tx, nonce);
	memmove(body, data, len);
	body[len] = type;
	out[0] = TLS_TYPE_DATA;
	put16(put16(out + 1, LEGACY_VERSION), (unsigned)(inner + TAG_BYTES));
	chacha20_poly1305_seal(t->tx.key, nonce, out, TLS_HEADER_BYTES, body, body, inner, body + inner);
	return TLS_HEADER_BYTES + inner + TAG_BYTES;
}

size_t tls_record_bytes(const uint8_t *header)
{
	size_t len = header[3] << 8 | header[4];
	return header[0] == TLS_TYPE_DATA && len > TAG_BYTES && len <= TLS_RECORD_MAX - TLS_HEADER_BYTES
		   ? TLS_HEADER_BYTES + len
		   : 0;
}

bool tls_open_record(struct tls *t, uint8_t *record, size_t record_len, uint8_t *type, size_t *len)
{
	uint8_t nonce[12], *body = record + TLS_HEADER_BYTES;
	if (record[0] != TLS_TYPE_DATA)
		return tls_fail(t, ALERT_UNEXPECTED_MESSAGE);
	if (tls_record_bytes(record) != record_len)
		return tls_fail(t, ALERT_RECORD_OVERFLOW);
	size_t inner = record_len - TLS_HEADER_BYTES - TAG_BYTES;
	next_nonce(&t->rx, nonce);
	if (t->rx.seq == 0 ||
	    !chacha20_poly1305_open(t->rx.key, nonce, record, TLS_HEADER_BYTES, body, inner, body + inner))
		return tls_fail(t, ALERT_BAD_RECORD_MAC);
	TLS_PUBLIC(body, inner);
	if (inner > TLS_DATA_MAX + 1)
		return tls_fail(t, ALERT_RECORD_OVERFLOW);
	while (inner && !body[inner - 1]) /* padding */
		inner--;
	if (!inner)
		return tls_fail(t, ALERT_UNEXPECTED_MESSAGE);
	*type = body[inner - 1];
	*len = inner - 1;
	return true;
}

/* Messages after the handshake, which may be in pieces. The only ones are KeyUpdate, and for a client
 * NewSessionTicket, which is skipped. */
static enum tls_event messages(struct tls *t, const uint8_t *data, size_t len)
{
	enum tls_event event = TLS_NOTHING;
	if (!len)
		goto unexpected;
	while (len) {
		if (t->skip) {
			size_t n = len < t->skip ? len : t->skip;
			t->skip -= n;
			data += n;
			len -= n;
			continue;
		}
		uint8_t *m = t->message;
		m[t->message_bytes++] = *data++;
		len--;
		if (m[0] == NEW_SESSION_TICKET && !t->server) {
			if (t->message_bytes == MESSAGE_HEADER_BYTES) {
				t->skip = m[1] << 16 | m[2] << 8 | m[3];
				t->message_bytes = 0;
			}
		} else if (m[0] != KEY_UPDATE) {
			goto unexpected;
		} else if (t->message_bytes == TLS_KEY_UPDATE_MESSAGE_BYTES) {
			/* The next record has another key, so this was the end of one. */
			if (m[1] || m[2] || m[3] != 1 || m[4] > 1 || len)
				goto unexpected;
			t->message_bytes = 0;
			tls_half_next(&t->rx);
			event = m[4] ? TLS_REPLY : TLS_NOTHING;
		}
	}
	return event;
unexpected:
	tls_fail(t, ALERT_UNEXPECTED_MESSAGE);
	return TLS_ERROR;
}

enum tls_event tls_control(struct tls *t, uint8_t type, const uint8_t *data, size_t len)
{
	if (t->state != STATE_OPEN)
		return TLS_ERROR;
	if (type == TLS_TYPE_HANDSHAKE)
		return messages(t, data, len);
	if (type != TLS_TYPE_ALERT || len != 2 || t->skip || t->message_bytes) {
		tls_fail(t, ALERT_UNEXPECTED_MESSAGE);
		return TLS_ERROR;
	}
	if (data[1] == ALERT_USER_CANCELED)
		return TLS_NOTHING;
	if (data[1] == ALERT_CLOSE_NOTIFY) {
		t->state = STATE_CLOSED;
		return TLS_CLOSED;
	}
	t->by_peer = true;
	tls_fail(t, data[1]);
	return TLS_PEER_ALERT;
}

enum tls_event tls_open(struct tls *t, uint8_t *record, size_t len, uint8_t **data, size_t *data_len)
{
	uint8_t type = 0;
	if (t->state != STATE_OPEN || !tls_open_record(t, record, len, &type, data_len))
		return TLS_ERROR;
	*data = record + TLS_HEADER_BYTES;
	if (type == TLS_TYPE_DATA && !t->skip && !t->message_bytes)
		return TLS_DATA;
	return tls_control(t, type, *data, *data_len);
}

size_t tls_key_update(struct tls *t, uint8_t *out)
{
	/* A record number is left for it: tls_seal() has refused before. */
	size_t len = tls_seal(t, TLS_TYPE_HANDSHAKE, out, tls_key_update_message, sizeof(tls_key_update_message));
	tls_half_next(&t->tx);
	return len;
}

void tls_end_alert(const struct tls *t, uint8_t alert[2])
{
	alert[1] = t->by_peer ? ALERT_CLOSE_NOTIFY : t->alert;
	alert[0] = alert[1] == ALERT_CLOSE_NOTIFY ? 1 : 2; /* warning, fatal */
}

size_t tls_end(struct tls *t, uint8_t *out)
{
	uint8_t alert[2];
	tls_end_alert(t, alert);
	return tls_seal(t, TLS_TYPE_ALERT, out, alert, sizeof(alert));
}

void tls_next_key(struct tls *t)
{
	tls_half_next(&t->tx);
}

void tls_ktls_keys(const struct tls *t, bool sending, struct tls_keys *keys)
{
	const struct tls_half *h = sending ? &t->tx : &t->rx;
	memcpy(keys->iv, h->iv, sizeof(keys->iv));
	memcpy(keys->key, h->key, sizeof(keys->key));
	for (int i = 0; i < 8; i++)
		keys->rec_seq[7 - i] = h->seq >> (8 * i);
}
