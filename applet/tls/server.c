/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The server's side of the handshake. */
#include "tls/internal.h"

void tls_begin_server(struct tls *t, tls_lookup *lookup, void *ctx, const uint8_t *random)
{
	memset(t, 0, sizeof(*t));
	t->server = true;
	t->state = STATE_SERVER_START;
	t->handshake.lookup = lookup;
	t->handshake.ctx = ctx;
	memcpy(t->handshake.random, random, TLS_RANDOM_BYTES);
	sha256_begin(&t->handshake.transcript);
}

/* ClientHello, as far as it matters */
struct hello {
	struct fields id;
	struct extensions e;
	unsigned key;         /* the number of the name that was chosen */
	const uint8_t *share; /* X25519's; NULL: there is none */
};

static bool parse_hello(struct tls *t, struct hello *hello, const uint8_t *message, size_t len)
{
	struct fields f = { message + MESSAGE_HEADER_BYTES, len - MESSAGE_HEADER_BYTES }, suites, compression, versions;
	const uint8_t *random;
	hello->e.count = 0; /* before TLS 1.3 there may be no extensions */
	if (!fields_hello(&f, &random, &hello->id) || hello->id.left > 32 || !fields_vector(&f, 2, &suites) ||
	    !fields_vector(&f, 1, &compression) || (f.left && !extensions_parse(&hello->e, f)))
		return tls_fail(t, ALERT_DECODE_ERROR);
	if (!extensions_vector(&hello->e, EXT_SUPPORTED_VERSIONS, 1, &versions) ||
	    !fields_contain(versions, 2, VERSION))
		return tls_fail(t, ALERT_PROTOCOL_VERSION);
	if (compression.left != 1 || compression.at[0])
		return tls_fail(t, ALERT_ILLEGAL_PARAMETER);
	if (!fields_contain(suites, 2, SUITE))
		return tls_fail(t, ALERT_HANDSHAKE_FAILURE);
	return true;
}

/* The binder number n, if it could be one of ours */
static const uint8_t *nth_binder(struct fields binders, unsigned n)
{
	struct fields binder;
	do {
		if (!fields_vector(&binders, 1, &binder))
			return NULL;
	} while (n--);
	return binder.left == SHA256_BYTES ? binder.at : NULL;
}

/* The first name that there is a key for; its early secret is t's then */
static bool choose_key(struct tls *t, struct hello *hello, struct fields identities)
{
	struct fields name;
	const uint8_t *age, *psk;
	for (hello->key = 0; fields_vector(&identities, 2, &name) && fields_bytes(&identities, 4, &age); hello->key++) {
		size_t psk_len;
		if (!name.left || name.left > TLS_NAME_MAX)
			continue;
		memcpy(t->name, name.at, name.left);
		t->name_len = name.left;
		psk = t->handshake.lookup(t->handshake.ctx, t->name, name.left, &psk_len);
		if (psk) {
			tls_early_secret(t, psk, psk_len);
			return true;
		}
	}
	return tls_fail(t, ALERT_UNKNOWN_PSK_IDENTITY);
}

/* The key, and the proof that the peer has it, too. pre_shared_key is the last extension, and its binders, which
 * cannot be part of what they prove, are the end of the message. */
static bool check_key(struct tls *t, struct hello *hello, const uint8_t *message)
{
	const struct extensions *e = &hello->e;
	const struct fields *keys = extensions_find(e, EXT_PRE_SHARED_KEY);
	struct fields f, modes, identities, binders;
	uint8_t expected[SHA256_BYTES];
	if (!keys || !extensions_vector(e, EXT_PSK_KEY_EXCHANGE_MODES, 1, &modes))
		return tls_fail(t, ALERT_MISSING_EXTENSION);
	if (!fields_contain(modes, 1, PSK_DHE_KE))
		return tls_fail(t, ALERT_HANDSHAKE_FAILURE);
	f = *keys;
	if (keys != &e->body[e->count - 1] || !fields_vector(&f, 2, &identities) || !fields_only_vector(f, 2, &binders))
		return tls_fail(t, ALERT_ILLEGAL_PARAMETER);
	if (!choose_key(t, hello, identities))
		return false;
	const uint8_t *binder = nth_binder(binders, hello->key);
	tls_binder(t, expected, message, (size_t)(f.at - message));
	if (!binder || !same_secret(binder, expected, SHA256_BYTES))
		return tls_fail(t, ALERT_DECRYPT_ERROR);
	return true;
}

static bool find_share(struct tls *t, struct hello *hello)
{
	struct fields groups, list, key;
	uint32_t group;
	hello->share = NULL;
	if (!extensions_vector(&hello->e, EXT_SUPPORTED_GROUPS, 2, &groups) ||
	    !extensions_vector(&hello->e, EXT_KEY_SHARE, 2, &list))
		return tls_fail(t, ALERT_MISSING_EXTENSION);
	if (!fields_contain(groups, 2, GROUP_X25519))
		return tls_fail(t, ALERT_HANDSHAKE_FAILURE);
	while (list.left) {
		if (!fields_number(&list, 2, &group) || !fields_vector(&list, 2, &key))
			return tls_fail(t, ALERT_DECODE_ERROR);
		if (group != GROUP_X25519)
			continue;
		if (key.left != X25519_BYTES || hello->share)
			return tls_fail(t, ALERT_ILLEGAL_PARAMETER);
		hello->share = key.at;
	}
	return true;
}

/* ServerHello, or a HelloRetryRequest if share is NULL; and what middleboxes want to see behind the first one */
static void send_hello(struct tls *t, struct output *o, const struct hello *hello, const uint8_t *share)
{
	static const uint8_t change_cipher_spec[] = { TLS_TYPE_CHANGE_CIPHER_SPEC, 3, 3, 0, 1, 1 };
	static const uint8_t version[] = { 0, EXT_SUPPORTED_VERSIONS, 0, 2, VERSION >> 8, VERSION & 255 };
	uint8_t *p = put16(tls_message(o), LEGACY_VERSION);
	p = put(p, share ? t->handshake.random : tls_retry_random, HELLO_RANDOM_BYTES);
	*p++ = hello->id.left;
	p = put(p, hello->id.at, hello->id.left);
	p = put16(p, SUITE);
	*p++ = 0; /* compression */
	p = put16(p, sizeof(version) + (share ? 4 + 4 + X25519_BYTES + 6 : 4 + 2));
	p = put(p, version, sizeof(version));
	p = put16(put16(p, EXT_KEY_SHARE), share ? 4 + X25519_BYTES : 2);
	p = put16(p, GROUP_X25519);
	if (share) {
		p = put(put16(p, X25519_BYTES), share, X25519_BYTES);
		p = put16(put16(put16(p, EXT_PRE_SHARED_KEY), 2), hello->key);
	}
	tls_send_message(t, o, SERVER_HELLO, p);
	if (hello->id.left && t->state == STATE_SERVER_START) {
		o->at = put(o->at, change_cipher_spec, sizeof(change_cipher_spec));
		o->len += sizeof(change_cipher_spec);
	}
}

/* All that a server sends. The master secret is of no use any more when both have their traffic secrets, so its
 * place keeps the client's until its Finished has come. */
static bool answer(struct tls *t, struct output *o, const struct hello *hello)
{
	const uint8_t *private = t->handshake.random + HELLO_RANDOM_BYTES;
	uint8_t share[X25519_BYTES], shared[X25519_BYTES];
	if (!x25519(shared, private, hello->share))
		return tls_fail(t, ALERT_ILLEGAL_PARAMETER);
	x25519(share, private, x25519_base);
	send_hello(t, o, hello, share);
	tls_handshake_keys(t, shared);
	/* EncryptedExtensions: none */
	tls_send_message(t, o, ENCRYPTED_EXTENSIONS, put16(tls_message(o), 0));
	tls_send_finished(t, o);
	tls_application_keys(t);
	wipe(shared, sizeof(shared));
	t->state = STATE_SERVER_FINISHED;
	return true;
}

static bool client_hello(struct tls *t, struct output *o, const uint8_t *message, size_t len)
{
	struct hello hello;
	if (!parse_hello(t, &hello, message, len) || !check_key(t, &hello, message) || !find_share(t, &hello))
		return false;
	sha256_hash(&t->handshake.transcript, message, len);
	if (hello.share)
		return answer(t, o, &hello);
	if (t->state == STATE_SERVER_RETRY)
		return tls_fail(t, ALERT_ILLEGAL_PARAMETER);
	tls_transcript_retry(t);
	send_hello(t, o, &hello, NULL);
	t->state = STATE_SERVER_RETRY;
	return true;
}

bool tls_server_message(struct tls *t, struct output *o, const uint8_t *message, size_t len)
{
	if (message[0] == CLIENT_HELLO)
		return client_hello(t, o, message, len);
	if (!tls_check_finished(t, message, len))
		return false;
	tls_half_begin(&t->rx, t->handshake.secret);
	tls_handshake_over(t);
	return true;
}
