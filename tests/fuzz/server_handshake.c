/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The handshake as a server, and what a client says: in pieces as long as the first byte
 * says.
 */
#include "nbd/nbd.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

static const struct nbd_export exports[] = {
	{ .name = "", .size_bytes = 1 << 20, .transmission_flags = NBD_FLAG_HAS_FLAGS, .min_block = 1,
	  .preferred_block = 4096, .max_payload = NBD_PAYLOAD_MAX, .allocation = true },
	{ .name = "other", .size_bytes = 4097, .transmission_flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_READ_ONLY,
	  .min_block = 512, .preferred_block = 512, .max_payload = 4096, .serial = 1 },
};
enum { EXPORTS = sizeof(exports) / sizeof(exports[0]), REPLY_BYTES = 20, EXPORT_NAME_BYTES = 134 };

/* What was said since the last step. */
static uint8_t said[4096];
static size_t said_bytes;

static void say(void *ctx, const void *p, size_t n)
{
	(void)ctx;
	if (n > sizeof(said) - said_bytes)
		finding("one step says too much");
	memcpy(said + said_bytes, p, n);
	said_bytes += n;
}

static const struct nbd_export *find(void *ctx, const char *name, size_t n)
{
	unsigned i;

	(void)ctx;
	if (n > NBD_NAME_MAX || memchr(name, '\0', n))
		finding("a name that is none");
	for (i = 0; i < EXPORTS; i++)
		if (strlen(exports[i].name) == n && memcmp(exports[i].name, name, n) == 0)
			return &exports[i];
	return NULL;
}

static const struct nbd_export *list(void *ctx, const struct nbd_export *after, uint64_t from)
{
	const struct nbd_export *e = after ? after + 1 : exports;

	(void)ctx;
	while (e < exports + EXPORTS && e->serial < from)
		e++;
	return e < exports + EXPORTS ? e : NULL;
}

static const struct nbd_server_ops ops = { .send = say, .find = find, .list = list };

/* What it says is replies, each whole, to the option; the last of them only is final. */
static void check_said(uint32_t option)
{
	size_t at = 0;
	bool final = false;

	if (option == NBD_OPT_EXPORT_NAME && (said_bytes == 10 || said_bytes == EXPORT_NAME_BYTES))
		return;
	while (at < said_bytes) {
		const uint8_t *p = said + at;

		if (final || said_bytes - at < REPLY_BYTES || nbd_get64(p) != NBD_OPT_REPLY_MAGIC ||
		    nbd_get32(p + 8) != option || nbd_get32(p + 16) > said_bytes - at - REPLY_BYTES)
			finding("a reply that is none");
		final = nbd_get32(p + 12) == NBD_REP_ACK || nbd_get32(p + 12) & NBD_REP_ERR;
		at += REPLY_BYTES + nbd_get32(p + 16);
	}
	if (at && !final)
		finding("an option without its final reply");
}

static enum nbd_handshake_state step(struct nbd_server_handshake *h, const uint8_t *in, size_t n, size_t *used)
{
	uint32_t option = h->skip_bytes ? h->skip_option : n >= 16 ? nbd_get32(in + 8) : 0;
	uint8_t *exact = malloc(n);
	enum nbd_handshake_state state;
	bool begun = h->got_client_flags;

	memcpy(exact, in, n);
	said_bytes = 0;
	state = nbd_server_step(h, exact, n, used);
	free(exact);
	if (*used > n)
		finding("more was used than came");
	if (state == NBD_HS_MORE && !*used && n >= NBD_OPTION_MAX + 16)
		finding("it wants more than it says it ever does");
	if (said_bytes && !begun)
		finding("it answers what was not asked");
	if (said_bytes)
		check_said(option);
	return state;
}

static void check_done(const struct nbd_server_handshake *h)
{
	if (!h->export)
		finding("done, and no export");
	if (h->allocation && (!h->structured || h->meta_serial != h->export->serial || !h->export->allocation))
		finding("base:allocation was not negotiated");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct nbd_server_handshake h = { .ops = &ops };
	enum nbd_handshake_state state = NBD_HS_MORE;
	size_t piece, have = 0, first = 1, used;

	if (!n)
		return 0;
	piece = data[0] ? data[0] : n;
	said_bytes = 0;
	nbd_server_greet(&h);
	while (state == NBD_HS_MORE && first + have < n) {
		have += piece < n - first - have ? piece : n - first - have;
		do {
			state = step(&h, data + first, have, &used);
			first += used;
			have -= used;
		} while (state == NBD_HS_MORE && used);
	}
	if (state == NBD_HS_DONE)
		check_done(&h);
	return 0;
}
