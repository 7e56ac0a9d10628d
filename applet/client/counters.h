/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Statistics of clients: counters, and a list of the sessions. What is counted of an export is in its tally
 * (export/tally.h). Each loop lists its own sessions, and reports by a message when asked.
 *
 * The core's thread, unless said otherwise; nothing here blocks.
 */
#ifndef CLIENT_COUNTERS_H
#define CLIENT_COUNTERS_H

#include "libbb.h"
#include "export/tally.h"
#include "reactor/loop.h"
#include "reactor/message.h"

/* Why a client was refused. */
enum refusal {
	REFUSED_PLACE,
	REFUSED_ADDRESS,
	REFUSED_NAME,      /* there is no such export */
	REFUSED_KEY,       /* its key may not use that export */
	REFUSED_NO_TLS,    /* it has to use TLS */
	REFUSED_RELAY,     /* TLS could not begin */
	REFUSED_HANDSHAKE, /* TLS has failed */
	REFUSED_MEMORY,
	REFUSALS
};

/* How many were, since the program began. Core's thread. */
extern uint64_t clients_refused[REFUSALS];

/* Words for messages and for programs. Any thread. */
const char *command_word(unsigned type);
const char *error_word(unsigned index);
const char *end_word(enum session_end why);
const char *refusal_word(enum refusal why);
/* Of an NBD error: below COUNTED_ERRORS. Any thread. */
unsigned error_index(uint32_t error);

struct client_report {
	struct report_part {
		struct message message;
		struct client_report *report;
		char *text; /* a line for each session, n bytes; NULL: none, or there was no memory */
		size_t bytes;
		bool lacks; /* there was no memory for all of text */
	} part[LOOPS_MAX];
	const struct export *export; /* NULL: all */
	unsigned pending;
	bool lists;
	void (*done)(void *ctx, struct client_report *r);
	void *ctx;
};

/* Asks all loops: what was counted before is seen from then on. done() gets the report, which is then the caller's, perhaps
 * before this returns. lists: with the sessions, of e alone or, e NULL, of all exports; e may end meanwhile. False: no
 * memory; done() is not called. */
bool client_report(const struct export *e, bool lists, void (*done)(void *ctx, struct client_report *r), void *ctx);
/* r: may be NULL. */
void client_report_free(struct client_report *r);
/* What the clients of e have done, NULL: of all exports, and clients of none. */
void client_tally(const struct export *e, struct tally *sum);

#endif
