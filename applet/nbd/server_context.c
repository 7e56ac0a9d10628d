/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Metadata contexts, as a server: which there are, which a client asks for, which it has selected
 * ("Metadata querying").
 */
#include "nbd/server_handshake.h"

#include <string.h>

enum { CONTEXTS = 3 };

static const struct context {
	const char *name;
	uint8_t space_bytes; /* of its namespace and the colon */
	uint8_t id;
} contexts[CONTEXTS] = {
	{ "base:allocation", 5, NBD_BASE_ALLOCATION_ID },
	{ "x-xnbd:local", 7, NBD_XNBD_LOCAL_ID },
	/* An alias in a namespace that is not ours to use (one must be registered, or begin with
	 * x-): accepted from clients that ask for it, but not listed. */
	{ "xnbd:local", 0, NBD_XNBD_LOCAL_ID },
};

static bool is_offered(const struct nbd_export *e, unsigned i)
{
	return i ? e->local : e->allocation;
}

/* LIST_META_CONTEXT also accepts a namespace alone. */
static bool query_matches(const struct string *query, const struct context *c, bool is_list)
{
	return (query->bytes == strlen(c->name) || (is_list && query->bytes == c->space_bytes)) &&
	       !memcmp(query->p, c->name, query->bytes);
}

/*
 * A list of queries: which contexts do they match, bit i for contexts[i]? An empty list
 * of LIST asks for everything. Other names, also of other namespaces, are ignored.
 * False: the list is not well formed.
 */
static bool parse_queries(struct cursor *c, bool is_list, unsigned *matches)
{
	const uint8_t *p = cursor_get(c, 4);
	struct string query;
	uint32_t count;
	unsigned i;

	if (!p)
		return false;
	count = nbd_get32(p);
	*matches = is_list && !count ? ~0U : 0;
	/* Ends early when there are fewer than they say: no count is too large. */
	for (; count; count--) {
		if (!cursor_string(c, &query) || !memchr(query.p, ':', query.bytes))
			return false;
		for (i = 0; i < CONTEXTS; i++)
			*matches |= (unsigned)query_matches(&query, &contexts[i], is_list) << i;
	}
	return !c->left;
}

enum nbd_handshake_state option_meta_context(struct nbd_server_handshake *h, uint32_t option, struct cursor *c)
{
	bool is_list = option == NBD_OPT_LIST_META_CONTEXT;
	const struct nbd_export *e;
	struct string name;
	unsigned matches, i;
	uint8_t id[4];

	if (!h->structured)
		return option_invalid(h, option, "STRUCTURED_REPLY comes first");
	if (!cursor_string(c, &name) || !parse_queries(c, is_list, &matches))
		return option_invalid(h, option, OPTION_MALFORMED);
	e = option_export(h, option, &name);
	if (!e)
		return NBD_HS_MORE;
	for (i = 0; i < CONTEXTS; i++) {
		if (!(matches >> i & 1) || !is_offered(e, i) || (i > 1 && (is_list || h->local)))
			continue;
		nbd_put32(id, is_list ? 0 : contexts[i].id);
		option_reply(h, option, NBD_REP_META_CONTEXT, id, sizeof(id), contexts[i].name);
		if (is_list)
			continue;
		h->meta_serial = e->serial;
		if (i)
			h->local = true;
		else
			h->allocation = true;
	}
	return option_acknowledge(h, option);
}
