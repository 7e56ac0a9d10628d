/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sessions, between their files: session.c their life, session_in.c what a client asks,
 * session_out.c what it is answered, session_room.c the memory for both. Loop's thread only.
 */
#ifndef SERVER_SESSION_H
#define SERVER_SESSION_H

#include "libbb.h"
#include "server/buf.h"
#include "server/loop.h"
#include "server/server.h"
#include "server/status.h"

enum {
	RECV_BYTES = 256 << 10,      /* holds any option, and a batch of requests */
	BATCHES_MAX = 8,             /* as much as that, so often in a turn of the loop: then others
				        are looked at */
	OUT_BYTES = 512 << 10,       /* replies that wait: before more is read for a session,
				        these are to leave, while the processor's cache has them */
};

enum session_state { SESSION_HANDSHAKE, SESSION_TRANSMISSION, SESSION_DRAINING, SESSION_CLOSED };

/* A request on its way through. */
struct xfer {
	struct request req; /* first: port_reply() gets it */
	struct session *session;
	struct xfer *prev, *next; /* all of the session's */
	struct xfer *next_out;    /* in the order of sending, or of those parked */
	uint64_t cookie;
	uint8_t *buf;
	uint32_t buf_bytes; /* as given to buf_get(), 0 = none */
	uint32_t data_bytes;      /* sent after the header */
	uint8_t *data;
	bool submitted; /* the core has it */
	uint8_t header_bytes;
	uint8_t header[NBD_CHUNK_BYTES + NBD_CHUNK_OFFSET_BYTES];
};

struct session {
	struct event event;
	enum session_state state;
	uint32_t watched; /* EPOLLIN, EPOLLOUT as set */
	struct export *export;
	struct nbd_server_handshake handshake;
	struct timer deadline; /* of the handshake, or of draining */
	uint64_t moved_ms;     /* when a byte came or went last */
	uint8_t *hs_out;
	uint32_t hs_out_bytes, hs_out_room;
	bool hang_up; /* when hs_out has left */

	uint8_t *in;
	uint32_t in_first, in_end; /* what was received and not taken yet */
	struct xfer *payload;      /* a WRITE whose data is still coming */
	uint32_t payload_have;
	struct xfer *refused;      /* a WRITE that gets its error after its data */
	uint32_t refused_error, skip; /* bytes of that data still to be thrown away */

	struct xfer *xfers; /* all, in flight or being sent */
	struct xfer *out, **out_tail;
	struct xfer *parked, **parked_tail; /* READs whose blocks have come while too much waited in out */
	uint32_t out_sent; /* bytes of the first of them that have left */
	uint64_t out_bytes; /* of all of them, with those that have left */
	bool full;          /* OUT_BYTES: takes no request until some have left */
	unsigned batches;   /* so often it was full in this turn */
	uint32_t used_bytes;
	unsigned used_count;
	bool dirty;   /* in the list of those with something to do at the turn's end */
	bool stalled; /* waits for memory */
	struct session *next_dirty;
	struct session *prev, *next;
	void (*ended)(void *ctx); /* one that was handed over: who wants to know its end */
	void *ended_ctx;
};

extern struct session *sessions;
extern unsigned session_count, xfer_count;
extern bool sessions_stopping;

/* ---- session.c -------------------------------------------------------------------- */

/* There is something to do for s when the turn ends. */
void session_mark(struct session *s);
/* What has been received is taken. False: the protocol is broken, or the client has gone. */
bool session_process(struct session *s);
/* s waits for memory. */
void session_stall(struct session *s);

/* ---- session_room.c ------------------------------------------------------------------ */

/* NULL: out of memory. */
struct xfer *xfer_get(struct session *s);
/* It gives back the memory for its data, too. */
void xfer_put(struct xfer *x);
/* Whether a request of s with n bytes of data may be taken now. */
bool may_take(const struct session *s, uint32_t n);

/* ---- session_in.c ---------------------------------------------------------------------- */

/* Takes requests from what was received. False: as of session_process(). */
bool session_parse(struct session *s);
/* Receives, and takes what has come. False: the same. */
bool session_receive(struct session *s);
/* The WRITE whose data is still coming is not done. */
void payload_drop(struct session *s);

/* ---- session_out.c --------------------------------------------------------------------- */

/* Queues the reply to x, which is freed when that has left. error: an NBD error. */
void reply(struct xfer *x, uint32_t error);
/* Sends what can be sent. False: the client has gone. */
bool session_send(struct session *s);
/* READs that have waited for room go on, as far as there is some. */
void session_unpark(struct session *s);

#endif
