/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The handshake as a client, with whatever a server speaks ("Handshake").
 *
 * Fixed newstyle is a chain of options, one at a time: STRUCTURED_REPLY,
 * SET_META_CONTEXT, GO; a server that does not know GO is asked by EXPORT_NAME,
 * as is every plain newstyle server. Only the last one has to succeed.
 */
#include "nbd/nbd.h"

#include "autoconf.h"

#include <stddef.h>
#include <string.h>

enum {
	MAGIC_BYTES = 8,
	NEWSTYLE_BYTES = 8 + 8 + 2,
	EXPORT_BYTES = 10, /* size and transmission flags */
	RESERVED_BYTES = 124,
	REPLY_HEAD_BYTES = 20,
	INFO_EXPORT_BYTES = 2 + EXPORT_BYTES,
	INFO_BLOCK_SIZE_BYTES = 2 + 3 * 4,
	MIN_BLOCK_MAX = 65536, /* "Size constraints" */
	NAME_SHOWN_MAX = 64,   /* of an export name, in errors */
};

/* h->state: the option whose reply is awaited, or GREETING. */
enum { GREETING = 0 };

/* Only a proxy wants structured replies, only xnbd-client a list. */
enum { MAY_STRUCTURE = ENABLE_FEATURE_XNBD_SERVER_PROXY, MAY_LIST = ENABLE_FEATURE_XNBD_CLIENT_LIST };

static bool wants_tls(const struct nbd_client_handshake *h)
{
	return ENABLE_FEATURE_XNBD_TLS && h->tls;
}

static bool wants_list(const struct nbd_client_handshake *h)
{
	return MAY_LIST && h->listed;
}

/* What follows the export name: one information request, or one query. */
static const uint8_t want_block_size[] = { 0, 1, 0, NBD_INFO_BLOCK_SIZE };
static const char query[] = "\0\0\0\1\0\0\0\17base:allocation";
#define BASE_ALLOCATION (query + 8)
enum { BASE_ALLOCATION_BYTES = sizeof(query) - 1 - 8 };

void nbd_client_start(struct nbd_client_handshake *h)
{
	/* All that is not the caller's. */
	memset(&h->state, 0, sizeof(*h) - offsetof(struct nbd_client_handshake, state));
	h->min_block = 1;
	h->preferred_block = 4096;
	h->max_payload = NBD_PAYLOAD_MAX;
}

/* ---- errors ----------------------------------------------------------------------- */

/* Appends n bytes that may come from a stranger; what does not fit is left out. */
static void error_add(struct nbd_client_handshake *h, const void *text, size_t n)
{
	size_t have = strlen(h->error);
	const uint8_t *p = text;

	for (; n && have < sizeof(h->error) - 1; n--, p++)
		h->error[have++] = (char)(*p >= ' ' && *p <= '~' ? *p : '?');
	h->error[have] = '\0';
}

static enum nbd_handshake_state fail(struct nbd_client_handshake *h, const char *why)
{
	error_add(h, why, strlen(why));
	return NBD_HS_CLOSE;
}

/* The error is: before, "export 'NAME'", after. A long name is cut, lest `after` be lost. */
static enum nbd_handshake_state fail_export(struct nbd_client_handshake *h, const char *before, const char *after)
{
	size_t n = strlen(h->export_name);

	fail(h, before);
	fail(h, "export '");
	error_add(h, h->export_name, n > NAME_SHOWN_MAX ? NAME_SHOWN_MAX : n);
	fail(h, n > NAME_SHOWN_MAX ? "...'" : "'");
	return fail(h, after);
}

/* It did what no server may do: "MAY initiate a hard disconnect". */
static enum nbd_handshake_state broken(struct nbd_client_handshake *h)
{
	return fail(h, "broke the NBD protocol in the handshake");
}

/* ---- asking --------------------------------------------------------------------------- */

static void send_head(struct nbd_client_handshake *h, uint32_t option, size_t length)
{
	uint8_t head[16];

	nbd_put32(nbd_put32(nbd_put64(head, NBD_OPTION_MAGIC), option), (uint32_t)length);
	h->send(h->ctx, head, sizeof(head));
	h->state = (int)option;
}

static void send_name(struct nbd_client_handshake *h, size_t n)
{
	if (n)
		h->send(h->ctx, h->export_name, n);
}

static enum nbd_handshake_state request_option(struct nbd_client_handshake *h, uint32_t option)
{
	send_head(h, option, 0);
	return NBD_HS_MORE;
}

static enum nbd_handshake_state request_export_name(struct nbd_client_handshake *h)
{
	size_t n = strlen(h->export_name);

	send_head(h, NBD_OPT_EXPORT_NAME, n);
	send_name(h, n);
	return NBD_HS_MORE;
}

/* Options whose data is the name with its length in front, and something more. */
static enum nbd_handshake_state request_info(struct nbd_client_handshake *h, uint32_t option, const void *more, size_t n)
{
	size_t name_bytes = strlen(h->export_name);
	uint8_t length[4];

	nbd_put32(length, (uint32_t)name_bytes);
	send_head(h, option, sizeof(length) + name_bytes + n);
	h->send(h->ctx, length, sizeof(length));
	send_name(h, name_bytes);
	h->send(h->ctx, more, n);
	return NBD_HS_MORE;
}

static enum nbd_handshake_state request_go(struct nbd_client_handshake *h)
{
	return request_info(h, NBD_OPT_GO, want_block_size, sizeof(want_block_size));
}

/* ---- greeting ------------------------------------------------------------------------- */

/* Whether the n bytes at `in`, as far as they go, agree with this magic: a server that does
 * not speak NBD may send less than a magic, and then wait. */
static bool may_be(const uint8_t *in, size_t n, uint64_t magic)
{
	uint8_t bytes[MAGIC_BYTES];

	nbd_put64(bytes, magic);
	return !n || !memcmp(in, bytes, n < MAGIC_BYTES ? n : MAGIC_BYTES);
}

/* p: EXPORT_BYTES. False: nothing that an off_t can hold. */
static bool parse_export(struct nbd_client_handshake *h, const uint8_t *p)
{
	h->size_bytes = nbd_get64(p);
	h->transmission_flags = nbd_get16(p + 8);
	/* HAS_FLAGS is required, but some servers do not set it: they offer nothing but reads. */
	if (!(h->transmission_flags & NBD_FLAG_HAS_FLAGS))
		h->transmission_flags = 0;
	h->got_export = h->size_bytes <= INT64_MAX;
	return h->got_export;
}

static enum nbd_handshake_state begin_transmission(struct nbd_client_handshake *h)
{
	return h->got_export ? NBD_HS_DONE : fail(h, "announces a size that makes no sense");
}

/* The first option of fixed newstyle. */
static enum nbd_handshake_state request_first(struct nbd_client_handshake *h)
{
	if (wants_list(h))
		return request_option(h, NBD_OPT_LIST);
	return MAY_STRUCTURE && !h->simple ? request_option(h, NBD_OPT_STRUCTURED_REPLY) : request_go(h);
}

static enum nbd_handshake_state oldstyle_step(struct nbd_client_handshake *h, const uint8_t *in, size_t n, size_t *used)
{
	uint8_t export[EXPORT_BYTES];

	if (n < NBD_OLDSTYLE_BYTES)
		return NBD_HS_MORE;
	*used = NBD_OLDSTYLE_BYTES;
	h->oldstyle = true;
	if (*h->export_name)
		return fail_export(h, "is oldstyle and cannot be asked for ", "");
	if (wants_list(h))
		return fail(h, "is oldstyle: its only export has no name");
	if (wants_tls(h))
		return fail(h, "is oldstyle, which has no TLS");
	/* Of its 32 bits of flags the upper half are handshake flags. */
	memcpy(export, in + 16, 8);
	memcpy(export + 8, in + 26, 2);
	parse_export(h, export);
	return begin_transmission(h);
}

static enum nbd_handshake_state newstyle_step(struct nbd_client_handshake *h, const uint8_t *in, size_t n, size_t *used)
{
	uint8_t client_flags[4];
	uint16_t flags;

	if (n < NEWSTYLE_BYTES)
		return NBD_HS_MORE;
	*used = NEWSTYLE_BYTES;
	flags = nbd_get16(in + 16) & (NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
	h->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	nbd_put32(client_flags, flags);
	h->send(h->ctx, client_flags, sizeof(client_flags));
	if (wants_tls(h))
		return flags & NBD_FLAG_FIXED_NEWSTYLE ? request_option(h, NBD_OPT_STARTTLS) : fail(h, "is not fixed newstyle, and so has no TLS");
	if (flags & NBD_FLAG_FIXED_NEWSTYLE && !h->plain)
		return request_first(h);
	return wants_list(h) ? fail(h, "cannot list its exports: it is not fixed newstyle") : request_export_name(h);
}

static enum nbd_handshake_state greeting_step(struct nbd_client_handshake *h, const uint8_t *in, size_t n, size_t *used)
{
	if (!may_be(in, n, NBD_INIT_MAGIC))
		return fail(h, "does not speak NBD");
	if (n < MAGIC_BYTES)
		return NBD_HS_MORE;
	if (may_be(in + MAGIC_BYTES, n - MAGIC_BYTES, NBD_OPTION_MAGIC))
		return newstyle_step(h, in, n, used);
	if (may_be(in + MAGIC_BYTES, n - MAGIC_BYTES, NBD_OLDSTYLE_MAGIC))
		return oldstyle_step(h, in, n, used);
	return fail(h, "does not speak NBD");
}

/* ---- replies ------------------------------------------------------------------------ */

/* The only reply without a head. A server that refuses just closes the connection. */
static enum nbd_handshake_state export_name_step(struct nbd_client_handshake *h, const uint8_t *in, size_t n,
						 size_t *used)
{
	size_t want = h->no_zeroes ? EXPORT_BYTES : EXPORT_BYTES + RESERVED_BYTES;

	if (n < want)
		return NBD_HS_MORE;
	*used = want;
	parse_export(h, in);
	return begin_transmission(h);
}

static enum nbd_handshake_state structured_step(struct nbd_client_handshake *h, uint32_t type)
{
	if (type != NBD_REP_ACK) /* without structured replies there are no contexts */
		return type & NBD_REP_ERR ? request_go(h) : broken(h);
	h->structured = true;
	return request_info(h, NBD_OPT_SET_META_CONTEXT, query, sizeof(query) - 1);
}

static enum nbd_handshake_state meta_step(struct nbd_client_handshake *h, uint32_t type, const uint8_t *data,
					  uint32_t n)
{
	if (type == NBD_REP_META_CONTEXT && n >= 4) {
		if (n == 4 + BASE_ALLOCATION_BYTES && !memcmp(data + 4, BASE_ALLOCATION, BASE_ALLOCATION_BYTES)) {
			h->allocation = true;
			h->allocation_id = nbd_get32(data);
		}
		return NBD_HS_MORE;
	}
	if (type & NBD_REP_ERR)
		h->allocation = false; /* "the client MUST disregard any context replies" */
	else if (type != NBD_REP_ACK)
		return broken(h);
	return request_go(h);
}

static bool is_power_of_2(uint32_t v)
{
	return v && !(v & (v - 1));
}

static enum nbd_handshake_state parse_block_sizes(struct nbd_client_handshake *h, const uint8_t *p)
{
	h->min_block = nbd_get32(p);
	h->preferred_block = nbd_get32(p + 4);
	h->max_payload = nbd_get32(p + 8);
	if (!is_power_of_2(h->min_block) || !is_power_of_2(h->preferred_block) || h->min_block > MIN_BLOCK_MAX ||
	    h->min_block > h->preferred_block || h->preferred_block > h->max_payload)
		return fail(h, "announces block sizes that make no sense");
	if (h->max_payload > NBD_PAYLOAD_MAX)
		h->max_payload = NBD_PAYLOAD_MAX;
	return NBD_HS_MORE;
}

static enum nbd_handshake_state parse_info(struct nbd_client_handshake *h, const uint8_t *data, uint32_t n)
{
	uint16_t type;

	if (n < 2)
		return broken(h);
	type = nbd_get16(data);
	if ((type == NBD_INFO_EXPORT && n != INFO_EXPORT_BYTES) ||
	    (type == NBD_INFO_BLOCK_SIZE && n != INFO_BLOCK_SIZE_BYTES))
		return broken(h);
	if (type == NBD_INFO_BLOCK_SIZE)
		return parse_block_sizes(h, data + 2);
	if (type == NBD_INFO_EXPORT && !parse_export(h, data + 2))
		return begin_transmission(h);
	return NBD_HS_MORE;
}

/* It will not let us have the export. The handshake could go on, so say good-bye. */
static enum nbd_handshake_state refused(struct nbd_client_handshake *h, uint32_t type, const void *message, uint32_t n)
{
	request_option(h, NBD_OPT_ABORT);
	switch (type) {
	case NBD_REP_ERR_UNKNOWN:
		return fail_export(h, "", " is unknown to the server");
	case NBD_REP_ERR_TLS_REQD:
		return fail(h, ENABLE_FEATURE_XNBD_TLS ? "requires TLS: write a URI nbds://NAME@HOST/?tls-psk-file=FILE" : "requires TLS, which this xnbdbox does not speak");
	case NBD_REP_ERR_POLICY:
		fail_export(h, "refused by policy to give ", "");
		break;
	case NBD_REP_ERR_SHUTDOWN:
		fail(h, "is shutting down");
		break;
	default:
		fail_export(h, "refused to give ", "");
	}
	if (n) {
		fail(h, ": ");
		error_add(h, message, n);
	}
	return NBD_HS_CLOSE;
}

static enum nbd_handshake_state go_step(struct nbd_client_handshake *h, uint32_t type, const uint8_t *data, uint32_t n)
{
	if (type == NBD_REP_INFO)
		return parse_info(h, data, n);
	if (type == NBD_REP_ACK)
		return h->got_export ? NBD_HS_DONE : broken(h);
	if (type == NBD_REP_ERR_UNSUP)
		return request_export_name(h);
	return type & NBD_REP_ERR ? refused(h, type, data, n) : broken(h);
}

/* Nothing is said in cleartext that is meant for TLS. */
static enum nbd_handshake_state starttls_step(struct nbd_client_handshake *h, uint32_t type)
{
	if (type == NBD_REP_ACK)
		return NBD_HS_TLS;
	request_option(h, NBD_OPT_ABORT);
	return type & NBD_REP_ERR ? fail(h, "has no TLS for us") : broken(h);
}

void nbd_client_secured(struct nbd_client_handshake *h)
{
	request_first(h);
}

static enum nbd_handshake_state list_step(struct nbd_client_handshake *h, uint32_t type, const uint8_t *data, uint32_t n)
{
	uint32_t name_bytes;

	if (type == NBD_REP_ERR_TLS_REQD)
		return refused(h, type, data, n);
	if (type == NBD_REP_ACK || type & NBD_REP_ERR) {
		request_option(h, NBD_OPT_ABORT);
		return type == NBD_REP_ACK ? NBD_HS_DONE : fail(h, "refused to list its exports");
	}
	if (type != NBD_REP_SERVER || n < 4)
		return broken(h);
	name_bytes = nbd_get32(data);
	if (name_bytes > n - 4 || name_bytes > NBD_NAME_MAX)
		return broken(h);
	h->listed(h->ctx, data + 4, name_bytes, data + 4 + name_bytes, n - 4 - name_bytes);
	return NBD_HS_MORE;
}

static enum nbd_handshake_state reply_step(struct nbd_client_handshake *h, const uint8_t *in, size_t n, size_t *used)
{
	const uint8_t *data;
	uint32_t type, length;

	if (!may_be(in, n, NBD_OPT_REPLY_MAGIC))
		return broken(h);
	if (n < REPLY_HEAD_BYTES)
		return NBD_HS_MORE;
	type = nbd_get32(in + 12);
	length = nbd_get32(in + 16);
	if (nbd_get32(in + 8) != (uint32_t)h->state || length > NBD_OPTION_MAX || (type == NBD_REP_ACK && length))
		return broken(h);
	if (length > n - REPLY_HEAD_BYTES)
		return NBD_HS_MORE;
	*used = REPLY_HEAD_BYTES + length;
	data = in + REPLY_HEAD_BYTES;
	if (type == NBD_REP_ERR_SHUTDOWN)
		return refused(h, type, data, length);
	if (ENABLE_FEATURE_XNBD_TLS && h->state == NBD_OPT_STARTTLS)
		return starttls_step(h, type);
	if (MAY_LIST && h->state == NBD_OPT_LIST)
		return list_step(h, type, data, length);
	if (MAY_STRUCTURE && h->state == NBD_OPT_STRUCTURED_REPLY)
		return structured_step(h, type);
	if (MAY_STRUCTURE && h->state == NBD_OPT_SET_META_CONTEXT)
		return meta_step(h, type, data, length);
	return go_step(h, type, data, length);
}

enum nbd_handshake_state nbd_client_step(struct nbd_client_handshake *h, const uint8_t *in, size_t n, size_t *used)
{
	*used = 0;
	if (h->state == GREETING)
		return greeting_step(h, in, n, used);
	if (h->state == NBD_OPT_EXPORT_NAME)
		return export_name_step(h, in, n, used);
	return reply_step(h, in, n, used);
}

bool nbd_client_is_haggling(const struct nbd_client_handshake *h)
{
	if (wants_tls(h)) /* who has it is no such server */
		return false;
	/* With `simple`, the reply to GO has come when the server finds the rest of GO in front of EXPORT_NAME. */
	if (h->state == NBD_OPT_EXPORT_NAME)
		return h->simple && !h->plain;
	return h->state != GREETING;
}
