/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Statistics of clients: counters, and a list of the sessions. Each loop counts for its own sessions, in memory that no
 * other thread touches, and reports by a message when asked. So counting costs a few plain additions.
 *
 * The core's thread, unless said otherwise; nothing here blocks.
 */
#ifndef CLIENT_COUNTERS_H
#define CLIENT_COUNTERS_H

#include "libbb.h"
#include "reactor/loop.h"
#include "reactor/message.h"

enum {
	COUNTED_TYPES = 8,    /* NBD_CMD_x, and what is none of them as the last one */
	COUNTED_ERRORS = 9,   /* of error_words[]; the last one: any other */
	LATENCY_BUCKETS = 27, /* the i-th: below 2^i microseconds, and not below half of that; the last one: all others */
};

/* Why a session has ended: the first reason that was found. */
enum session_end {
	END_LOST,       /* an error of the socket */
	END_DISCONNECT, /* NBD_CMD_DISC */
	END_ABORT,      /* NBD_OPT_ABORT */
	END_HANG_UP,    /* end of input without either */
	END_PROTOCOL,   /* the client broke it */
	END_SILENT,     /* its machine does not answer any more */
	END_LATE,       /* it made no progress, and another one needed its place */
	END_STUCK,      /* it took no replies for DRAIN_MS */
	END_BROKEN,     /* a reply that had begun met an error of the disk */
	END_MEMORY,     /* there was none */
	ENDS
};

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

/* Since the program began; another program (--upgrade) counts from 0. */
struct counters {
	struct {
		uint64_t requests, bytes; /* that were done well */
		uint64_t us;              /* microseconds from a request's arrival until its reply was sent; errors, too */
		uint64_t latency[LATENCY_BUCKETS];
	} of[COUNTED_TYPES];
	uint64_t errors[COUNTED_ERRORS];
	uint64_t waits, wait_us; /* READs that waited for the origin, and how long those took that have been answered */
	uint64_t clients;        /* that have begun to use an export */
	uint64_t ended[ENDS], refused[REFUSALS];
};

/* Words for messages and for programs. Any thread. */
const char *command_word(unsigned type);
const char *error_word(unsigned index);
const char *end_word(enum session_end why);
const char *refusal_word(enum refusal why);
/* Of an NBD error: below COUNTED_ERRORS. Any thread. */
unsigned error_index(uint32_t error);

struct client_report {
	struct counters sum; /* of all loops */
	struct report_part {
		struct message message;
		struct client_report *report;
		struct counters counters;
		char *text; /* a line for each session, n bytes; NULL: none, or there was no memory */
		size_t bytes;
		bool lacks; /* there was no memory for all of text */
	} part[LOOPS_MAX];
	unsigned pending;
	bool lists;
	void (*done)(void *ctx, struct client_report *r);
	void *ctx;
};

/* Asks all loops. done() gets the report, which is then the caller's, perhaps before this returns. lists: with the
 * sessions. False: no memory; done() is not called. */
bool client_report(bool lists, void (*done)(void *ctx, struct client_report *r), void *ctx);
/* r: may be NULL. */
void client_report_free(struct client_report *r);

#endif
