/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The handshake as a server: greeting, client flags, then one option after the
 * other until the client goes into transmission or gives up ("Handshake").
 */
#include "nbd/server_handshake.h"
#include "autoconf.h"

#include <string.h>

enum {
	CLIENT_FLAGS_BYTES = 4,
	OPTION_HEAD_BYTES = 16,
	REPLY_HEAD_BYTES = 20,
	REPLY_FIXED_MAX = 14, /* the numbers of NBD_INFO_BLOCK_SIZE */
	NAMES_BYTES = 1024,   /* of the text that names the exports, instead of one that is not there */
};

/* ---- sending ------------------------------------------------------------------- */

void nbd_server_greet(struct nbd_server_handshake *h)
{
	uint8_t greeting[18];
	uint8_t *p = greeting;

	p = nbd_put64(p, NBD_INIT_MAGIC);
	p = nbd_put64(p, NBD_OPTION_MAGIC);
	/* Not NO_ZEROES: nbd-client 3.3 to 3.9.1 ors these flags into those of the export, where
	 * its bit is READ_ONLY. It would save 124 bytes of one handshake. */
	nbd_put16(p, NBD_FLAG_FIXED_NEWSTYLE);
	h->ops->send(h->ctx, greeting, sizeof(greeting));
}

void nbd_server_greet_oldstyle(struct nbd_server_handshake *h, const struct nbd_export *e)
{
	uint8_t greeting[NBD_OLDSTYLE_BYTES] = { 0 };
	uint8_t *p = greeting;

	p = nbd_put64(p, NBD_INIT_MAGIC);
	p = nbd_put64(p, NBD_OLDSTYLE_MAGIC);
	p = nbd_put64(p, e->size_bytes);
	nbd_put32(p, e->transmission_flags);
	h->ops->send(h->ctx, greeting, sizeof(greeting));
	h->export = e;
}

/* One reply to an option. Its data: n bytes of numbers, then two strings without anything between them. */
static void reply_strings(struct nbd_server_handshake *h, uint32_t option, uint32_t type, const uint8_t *numbers, size_t n,
			  const char *string, const char *more)
{
	uint8_t head[REPLY_HEAD_BYTES + REPLY_FIXED_MAX];
	size_t string_bytes = strlen(string), more_bytes = strlen(more);
	uint8_t *p = head;

	p = nbd_put64(p, NBD_OPT_REPLY_MAGIC);
	p = nbd_put32(p, option);
	p = nbd_put32(p, type);
	p = nbd_put32(p, (uint32_t)(n + string_bytes + more_bytes));
	memcpy(p, numbers, n);
	h->ops->send(h->ctx, head, REPLY_HEAD_BYTES + n);
	if (string_bytes)
		h->ops->send(h->ctx, string, string_bytes);
	if (more_bytes)
		h->ops->send(h->ctx, more, more_bytes);
}

void option_reply(struct nbd_server_handshake *h, uint32_t option, uint32_t type, const uint8_t *numbers, size_t n,
		  const char *string)
{
	reply_strings(h, option, type, numbers, n, string, "");
}

/* The final reply to an option that does not end the handshake; text: what a person is told of an error. */
static enum nbd_handshake_state answer_text(struct nbd_server_handshake *h, uint32_t option, uint32_t type, const char *text)
{
	option_reply(h, option, type, (const uint8_t *)"", 0, text);
	return NBD_HS_MORE;
}

enum nbd_handshake_state option_acknowledge(struct nbd_server_handshake *h, uint32_t option)
{
	return answer_text(h, option, NBD_REP_ACK, "");
}

enum nbd_handshake_state option_invalid(struct nbd_server_handshake *h, uint32_t option, const char *text)
{
	return answer_text(h, option, NBD_REP_ERR_INVALID, text);
}

static const char no_data[] = "it takes no data";

/* ---- reading an option's data ------------------------------------------------- */

const uint8_t *cursor_get(struct cursor *c, uint32_t n)
{
	const uint8_t *p = c->p;

	if (n > c->left)
		return NULL;
	c->p += n;
	c->left -= n;
	return p;
}

/* The next n bytes, as a string according to "Conventions". UTF-8 is not checked: malformed
 * text is simply a name that we do not know. */
static bool parse_string_of(struct cursor *c, uint32_t n, struct string *s)
{
	s->bytes = n;
	s->p = (const char *)cursor_get(c, n);
	return s->p && n <= NBD_NAME_MAX && !memchr(s->p, '\0', n);
}

bool cursor_string(struct cursor *c, struct string *s)
{
	const uint8_t *p = cursor_get(c, 4);

	return p && parse_string_of(c, nbd_get32(p), s);
}

/* *error: if there is none, or none for this client. */
static const struct nbd_export *find_export(const struct nbd_server_handshake *h, const struct string *name, uint32_t *error)
{
	const struct nbd_export *e = h->ops->find(h->ctx, name->p, name->bytes);

	*error = NBD_REP_ERR_UNKNOWN;
	if (!ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY || !e || !h->ops->may || h->ops->may(h->ctx, e, true))
		return e;
	if (!ENABLE_FEATURE_XNBD_EXPORT_NAMES || !h->hides) /* else that there is one would be told */
		*error = NBD_REP_ERR_POLICY;
	return NULL;
}

/* Whether the client is told that there is e. */
static bool may_know(const struct nbd_server_handshake *h, const struct nbd_export *e)
{
	return !ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY || !h->ops->may || h->ops->may(h->ctx, e, false);
}

/* The names of the exports, each in quotes, as many as there is room for: "", or " 'a', 'b', ..." */
static void put_names(struct nbd_server_handshake *h, char *text)
{
	const struct nbd_export *e = NULL;
	char *to = text;

	*to = '\0';
	while ((e = h->ops->list(h->ctx, e, 0))) {
		if (!may_know(h, e))
			continue;
		if (to > text)
			*to++ = ',';
		if (strlen(e->name) + 16 > (size_t)(text + NAMES_BYTES - to)) {
			stpcpy(to, " ...");
			return;
		}
		to = stpcpy(stpcpy(stpcpy(to, " '"), e->name), "'");
	}
}

static void not_found(struct nbd_server_handshake *h, uint32_t option, uint32_t error)
{
	char names[NAMES_BYTES];

	if (ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY && error == NBD_REP_ERR_POLICY) {
		answer_text(h, option, error, "this export is for other TLS keys");
	} else if (!ENABLE_FEATURE_XNBD_EXPORT_NAMES || h->hides) {
		answer_text(h, option, error, "no such export");
	} else {
		put_names(h, names);
		reply_strings(h, option, error, (const uint8_t *)"", 0,
			      *names ? "no such export; there is:" : "no such export; there is none", names);
	}
}

const struct nbd_export *option_export(struct nbd_server_handshake *h, uint32_t option, const struct string *name)
{
	uint32_t error;
	const struct nbd_export *e = find_export(h, name, &error);

	if (!e)
		not_found(h, option, error);
	return e;
}

/* ---- the options --------------------------------------------------------------- */

static uint16_t transmission_flags(const struct nbd_server_handshake *h, const struct nbd_export *e)
{
	return e->transmission_flags | (h->structured ? NBD_FLAG_SEND_DF : 0);
}

static enum nbd_handshake_state begin_transmission(struct nbd_server_handshake *h, const struct nbd_export *e)
{
	/* "Metadata querying": what was selected for another export does not count. */
	if (h->meta_serial != e->serial)
		h->allocation = h->local = false;
	h->export = e;
	return NBD_HS_DONE;
}

/* No error can be told in answer to this one. */
static enum nbd_handshake_state export_name(struct nbd_server_handshake *h, struct cursor *c)
{
	uint8_t reply[10 + 124] = { 0 };
	const struct nbd_export *e;
	struct string name;
	uint32_t error;

	if (!parse_string_of(c, c->left, &name))
		return NBD_HS_CLOSE;
	e = find_export(h, &name, &error);
	if (!e)
		return NBD_HS_CLOSE;
	nbd_put16(nbd_put64(reply, e->size_bytes), transmission_flags(h, e));
	h->ops->send(h->ctx, reply, sizeof(reply));
	return begin_transmission(h, e);
}

static const char *description(const struct nbd_export *e)
{
	return ENABLE_FEATURE_XNBD_EXPORT_NAMES && e->description ? e->description : "";
}

static enum nbd_handshake_state list(struct nbd_server_handshake *h, const struct cursor *c)
{
	const struct nbd_export *e = NULL;
	uint8_t bytes[4];

	if (c->left)
		return option_invalid(h, NBD_OPT_LIST, no_data);
	if (ENABLE_FEATURE_XNBD_EXPORT_NAMES && h->hides)
		return answer_text(h, NBD_OPT_LIST, NBD_REP_ERR_POLICY, "export names are hidden");
	while ((e = h->ops->list(h->ctx, e, h->list_from))) {
		if (!may_know(h, e))
			continue;
		h->list_from = e->serial;
		h->lists = h->ops->has_room && !h->ops->has_room(h->ctx);
		if (h->lists)
			return NBD_HS_MORE;
		nbd_put32(bytes, (uint32_t)strlen(e->name));
		reply_strings(h, NBD_OPT_LIST, NBD_REP_SERVER, bytes, sizeof(bytes), e->name, description(e));
	}
	h->list_from = 0;
	return option_acknowledge(h, NBD_OPT_LIST);
}

static void send_info(struct nbd_server_handshake *h, uint32_t option, uint16_t type, const struct nbd_export *e)
{
	uint8_t numbers[REPLY_FIXED_MAX];
	uint8_t *p = nbd_put16(numbers, type);
	const char *text = "";

	if (type == NBD_INFO_EXPORT) {
		p = nbd_put64(p, e->size_bytes);
		p = nbd_put16(p, transmission_flags(h, e));
	} else if (type == NBD_INFO_NAME) {
		text = e->name;
	} else if (ENABLE_FEATURE_XNBD_EXPORT_NAMES && type == NBD_INFO_DESCRIPTION) {
		text = description(e);
	} else {
		p = nbd_put32(p, e->min_block);
		p = nbd_put32(p, e->preferred_block);
		p = nbd_put32(p, e->max_payload);
	}
	option_reply(h, option, NBD_REP_INFO, numbers, (size_t)(p - numbers), text);
}

/* A list of wanted information -> bit mask. Each is sent once, however often it is
 * asked for; what we do not know is ignored. False: the list is not well formed. */
static bool parse_info_list(struct cursor *c, unsigned *wanted)
{
	const uint8_t *p = cursor_get(c, 2);

	*wanted = 1 << NBD_INFO_EXPORT;
	if (!p || c->left != 2U * nbd_get16(p))
		return false;
	while ((p = cursor_get(c, 2)))
		if (nbd_get16(p) <= NBD_INFO_BLOCK_SIZE)
			*wanted |= 1U << nbd_get16(p);
	return true;
}

static enum nbd_handshake_state info_or_go(struct nbd_server_handshake *h, uint32_t option, struct cursor *c)
{
	const struct nbd_export *e;
	struct string name;
	unsigned wanted, type;

	if (!cursor_string(c, &name) || !parse_info_list(c, &wanted))
		return option_invalid(h, option, OPTION_MALFORMED);
	e = option_export(h, option, &name);
	if (!e)
		return NBD_HS_MORE;
	for (type = NBD_INFO_EXPORT; type <= NBD_INFO_BLOCK_SIZE; type++)
		if ((wanted >> type & 1) && (type != NBD_INFO_DESCRIPTION || *description(e)) &&
		    (type != NBD_INFO_NAME || !ENABLE_FEATURE_XNBD_EXPORT_NAMES || !h->hides))
			send_info(h, option, (uint16_t)type, e);
	option_acknowledge(h, option);
	if (option == NBD_OPT_INFO)
		return NBD_HS_MORE;
	h->sized = wanted >> NBD_INFO_BLOCK_SIZE & 1; /* "Size constraints": INFO commits to nothing */
	return begin_transmission(h, e);
}

static enum nbd_handshake_state structured_reply(struct nbd_server_handshake *h, const struct cursor *c)
{
	if (c->left)
		return option_invalid(h, NBD_OPT_STRUCTURED_REPLY, no_data);
	h->structured = true;
	return option_acknowledge(h, NBD_OPT_STRUCTURED_REPLY);
}

/* "FORCEDTLS mode", "SELECTIVETLS mode". What was negotiated in cleartext may have been somebody else's. */
static enum nbd_handshake_state starttls(struct nbd_server_handshake *h, const struct cursor *c)
{
	if (h->tls == NBD_TLS_OFF)
		return answer_text(h, NBD_OPT_STARTTLS, NBD_REP_ERR_POLICY, "no TLS here");
	if (h->tls == NBD_TLS_DONE || c->left)
		return option_invalid(h, NBD_OPT_STARTTLS, c->left ? no_data : "TLS was begun before");
	option_acknowledge(h, NBD_OPT_STARTTLS);
	h->structured = h->allocation = h->local = false;
	h->tls = NBD_TLS_DONE;
	return NBD_HS_TLS;
}

static enum nbd_handshake_state unsupported(struct nbd_server_handshake *h, uint32_t option)
{
	return answer_text(h, option, NBD_REP_ERR_UNSUP, "not supported");
}

/* An option that is here with all its data. */
static enum nbd_handshake_state option_run(struct nbd_server_handshake *h, uint32_t option, struct cursor *c)
{
	if (ENABLE_FEATURE_XNBD_TLS && option == NBD_OPT_STARTTLS && h->tls != NBD_TLS_UNKNOWN)
		return starttls(h, c);
	if (!ENABLE_FEATURE_XNBD_SERVER_STRUCTURED && option >= NBD_OPT_STRUCTURED_REPLY)
		return unsupported(h, option);
	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		return export_name(h, c);
	case NBD_OPT_LIST:
		return list(h, c);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return info_or_go(h, option, c);
	case NBD_OPT_STRUCTURED_REPLY:
		return structured_reply(h, c);
	case NBD_OPT_LIST_META_CONTEXT:
	case NBD_OPT_SET_META_CONTEXT:
		return option_meta_context(h, option, c);
	default: /* STARTTLS too, of who knows nothing of it: "NOTLS mode" */
		return unsupported(h, option);
	}
}

/* ---- the conversation ------------------------------------------------------------ */

static enum nbd_handshake_state flags_step(struct nbd_server_handshake *h, const uint8_t *in, size_t n, size_t *used)
{
	uint32_t flags;

	if (n < CLIENT_FLAGS_BYTES)
		return NBD_HS_MORE;
	flags = nbd_get32(in);
	if (flags & ~(uint32_t)NBD_FLAG_FIXED_NEWSTYLE) /* unknown, or not offered */
		return NBD_HS_CLOSE;
	h->fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
	h->got_client_flags = true;
	*used = CLIENT_FLAGS_BYTES;
	return NBD_HS_MORE;
}

static enum nbd_handshake_state tls_required(struct nbd_server_handshake *h, uint32_t option)
{
	return answer_text(h, option, NBD_REP_ERR_TLS_REQD, "TLS comes first");
}

/* Drops the data of an option that is too long or refused, and answers when it is all gone. */
static enum nbd_handshake_state skip_step(struct nbd_server_handshake *h, size_t n, size_t *used)
{
	*used = n < h->skip_bytes ? n : h->skip_bytes;
	h->skip_bytes -= (uint32_t)*used;
	if (h->skip_bytes)
		return NBD_HS_MORE;
	if (ENABLE_FEATURE_XNBD_TLS && h->tls == NBD_TLS_REQUIRE && h->skip_option != NBD_OPT_STARTTLS)
		return tls_required(h, h->skip_option);
	return answer_text(h, h->skip_option, NBD_REP_ERR_TOO_BIG, "too long");
}

/* An option without TLS where it is required: not even its data is looked at. */
static enum nbd_handshake_state refuse_clear(struct nbd_server_handshake *h, uint32_t option, uint32_t length, size_t *used)
{
	if (option == NBD_OPT_EXPORT_NAME)
		return NBD_HS_CLOSE;
	*used = OPTION_HEAD_BYTES;
	h->skip_bytes = length;
	h->skip_option = option;
	return length ? NBD_HS_MORE : tls_required(h, option);
}

static enum nbd_handshake_state option_step(struct nbd_server_handshake *h, const uint8_t *in, size_t n, size_t *used)
{
	enum nbd_handshake_state state;
	uint32_t option;
	struct cursor c;

	if (n < OPTION_HEAD_BYTES)
		return NBD_HS_MORE;
	option = nbd_get32(in + 8);
	c.p = in + OPTION_HEAD_BYTES;
	c.left = nbd_get32(in + 12);
	if (nbd_get64(in) != NBD_OPTION_MAGIC || (!h->fixed && option != NBD_OPT_EXPORT_NAME))
		return NBD_HS_CLOSE;
	if (ENABLE_FEATURE_XNBD_TLS && h->tls == NBD_TLS_REQUIRE && option != NBD_OPT_STARTTLS && option != NBD_OPT_ABORT)
		return refuse_clear(h, option, c.left, used);
	if (option == NBD_OPT_ABORT) { /* whatever data it may have */
		option_acknowledge(h, option);
		return NBD_HS_CLOSE;
	}
	if (option == NBD_OPT_EXPORT_NAME && c.left > NBD_NAME_MAX)
		return NBD_HS_CLOSE;
	if (option == NBD_OPT_SET_META_CONTEXT)
		h->allocation = h->local = false;
	if (c.left > NBD_OPTION_MAX) {
		h->skip_bytes = c.left;
		h->skip_option = option;
		*used = OPTION_HEAD_BYTES;
		return NBD_HS_MORE;
	}
	if (c.left > n - OPTION_HEAD_BYTES)
		return NBD_HS_MORE;
	*used = OPTION_HEAD_BYTES + c.left;
	h->lists = false;
	state = option_run(h, option, &c);
	if (h->lists)
		*used = 0;
	return state;
}

enum nbd_handshake_state nbd_server_step(struct nbd_server_handshake *h, const uint8_t *in, size_t n, size_t *used)
{
	*used = 0;
	if (!h->got_client_flags)
		return flags_step(h, in, n, used);
	if (h->skip_bytes)
		return skip_step(h, n, used);
	return option_step(h, in, n, used);
}
