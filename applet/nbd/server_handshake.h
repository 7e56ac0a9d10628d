/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The handshake as a server, between its files: server_handshake.c reads options, and answers most of them;
 * server_context.c answers those of metadata contexts. Pure functions.
 */
#ifndef NBD_SERVER_HANDSHAKE_H
#define NBD_SERVER_HANDSHAKE_H

#include "nbd/nbd.h"

/* What is left of the data of an option. */
struct cursor {
	const uint8_t *p;
	uint32_t left;
};

struct string {
	const char *p;
	uint32_t bytes;
};

/* The next n bytes, or NULL if there are fewer. */
const uint8_t *cursor_get(struct cursor *c, uint32_t n);
/* The next string, its length in front. False: it is not well formed, or too long. */
bool cursor_string(struct cursor *c, struct string *s);

/* One reply to an option. Its data: n bytes of numbers, then the string. */
void option_reply(struct nbd_server_handshake *h, uint32_t option, uint32_t type, const uint8_t *numbers, size_t n,
		  const char *string);
/* The final reply to an option that does not end the handshake. text: what a person is told. */
enum nbd_handshake_state option_acknowledge(struct nbd_server_handshake *h, uint32_t option);
enum nbd_handshake_state option_invalid(struct nbd_server_handshake *h, uint32_t option, const char *text);
#define OPTION_MALFORMED "malformed"
/* The export with this name. NULL: there is none for this client, which has got the final reply. */
const struct nbd_export *option_export(struct nbd_server_handshake *h, uint32_t option, const struct string *name);

/* LIST_META_CONTEXT and SET_META_CONTEXT. If the latter fails, nothing is selected: option_step() has cleared that
 * before. */
enum nbd_handshake_state option_meta_context(struct nbd_server_handshake *h, uint32_t option, struct cursor *c);

#endif
