/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The handshake as a client, and what an origin says. The first byte says which export is
 * asked for; the rest comes in pieces as long as the second byte says.
 */
#include "nbd/nbd.h"
#include "world.h"

#include <stdlib.h>
#include <string.h>

static size_t sent;

static void count(void *ctx, const void *p, size_t n)
{
	uint8_t sum = 0;
	size_t i;

	(void)ctx;
	for (i = 0; i < n; i++)
		sum = (uint8_t)(sum + ((const uint8_t *)p)[i]); /* all of it is there */
	sent += n + (sum & 0);
}

static void count_listed(void *ctx, const void *name, size_t n, const void *more, size_t more_bytes)
{
	count(ctx, name, n);
	count(ctx, more, more_bytes);
}

static void check_done(const struct nbd_client_handshake *h)
{
	if (h->size_bytes > INT64_MAX)
		finding("a size that no off_t holds");
	if (!h->min_block || h->min_block > h->preferred_block || h->preferred_block > h->max_payload ||
	    h->min_block > 65536)
		if (h->preferred_block <= NBD_PAYLOAD_MAX) /* max_payload is made as small as ours */
			finding("block sizes that make no sense");
	if (h->allocation && !h->structured)
		finding("block status without structured replies");
}

static void check_closed(const struct nbd_client_handshake *h)
{
	const char *p;

	if (!h->error[0])
		finding("it hangs up and does not say why");
	for (p = h->error; *p; p++)
		if (*p < ' ' || *p > '~')
			finding("an error that is not printable");
}

/* A copy of its own for each step: not a byte behind it may be read. */
static enum nbd_handshake_state step(struct nbd_client_handshake *h, const uint8_t *in, size_t n, size_t *used)
{
	uint8_t *exact = malloc(n);
	enum nbd_handshake_state state;

	if (n)
		memcpy(exact, in, n);
	state = nbd_client_step(h, exact, n, used);
	free(exact);
	if (*used > n)
		finding("more was used than came");
	if (state == NBD_HS_MORE && !*used && n >= NBD_OPTION_MAX + 20)
		finding("it wants more than it says it ever does");
	return state;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const char *const names[] = { "", "disk", "\n\377 a name that is longer than an error shows of it: 0123456789" };
	struct nbd_client_handshake h = { .send = count };
	enum nbd_handshake_state state = NBD_HS_MORE;
	size_t piece, have = 0, first = 2, used;

	if (n < 2)
		return 0;
	h.export_name = names[data[0] % 3];
	h.plain = data[0] & 0x80;
	h.simple = data[0] & 0x40;
	h.listed = data[0] & 0x20 ? count_listed : NULL;
	piece = data[1] ? data[1] : n;
	nbd_client_start(&h);
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
	if (state == NBD_HS_CLOSE)
		check_closed(&h);
	return 0;
}
