/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The control socket: clients with permission query the state of a proxy, a target or a wrapper, and send commands.
 *
 * Core's thread. Nothing blocks, except control_begin() with a path. A lost connection affects no other one.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "client/listen.h"
#include "export/export.h"
#include "reactor/handover.h"

/* What it tells. Set before control_begin(). */
struct control_config {
	uint64_t max_buf_bytes; /* memory for requests; 0 = no limit */
	bool is_wrapper;        /* each export tells of itself alone */
};
extern struct control_config control_config;

/* One of them. Its memory is the caller's, from control_begin() to control_end(). */
struct control_socket {
	struct listener listener; /* first */
	struct export *export;    /* that is asked about; NULL: a wrapper's exports */
	unsigned connections;
};

/* s, which is zeroed, listens at this path, which listen_check() has allowed, from now on; dies when it cannot. NULL: its
 * listener's descriptor is set. e: s->export, which stays to control_end(). */
void control_begin(struct control_socket *s, struct export *e, const char *path);
/* How the last comparison with the origin has ended. True: well. *text: one line, valid until the
 * next call. */
bool control_verify_result(const struct core_status *s, const char **text);
/*
 * "upgrade": another program replaces this one. control_upgrade() is called with a descriptor of that
 * program, which it then owns; it returns NULL, or why not. On failure, control_upgraded() is called later with the
 * reason; on success the new program sends the reply, from what control_handover() has written. NULL: such a request is
 * unknown.
 */
extern const char *(*control_upgrade)(int program_fd);
void control_upgraded(const char *why);
/* "add-proxy" to a wrapper: see proxy_add(). NULL: such a request is unknown. */
extern const char *(*control_add_proxy)(const char *name, const char *text, void (*added)(void *ctx, const char *why), void *ctx);
/*
 * The database of a wrapper, implemented by server/; NULL: there is none. done() is called later, or at once, with NULL
 * or why not: one line.
 */
typedef void control_done(void *ctx, const char *why);
/* An image that is in the database, and not served. */
struct kept_image {
	uint64_t serial;
	const char *name, *path;
	const char *why; /* one line */
};
#define KEPT_SERIAL (1ULL << 63) /* their serials begin behind those of exports */
struct control_database {
	/* Something has changed: it is written. done: NULL for who does not wait for it. */
	void (*save)(control_done *done, void *ctx);
	/* What is kept is tried again. */
	void (*reload)(control_done *done, void *ctx);
	/* The one of this name is kept no more. False: there is none. */
	bool (*drop_kept)(const char *name);
	/* The first one from this serial on; NULL: there is none. */
	const struct kept_image *(*next_kept)(uint64_t serial);
};
extern const struct control_database *control_database;
/* The same in xNBD's words: NAME, HOST, PORT, CACHE_IMAGE, BITMAP_IMAGE, CONTROL_SOCKET, and the name of the export or
 * NULL. */
extern const char *(*control_add_proxy_words)(const char *const *words, control_done *added, void *ctx);
/* For that program: connections, and what they have asked for. There it replaces control_begin(). */
void control_handover(struct control_socket *s, struct export *e);
/* new has replaced old, which may end now. */
void control_renewed(struct control_socket *s, const struct export *old, struct export *new);
/* Whether somebody waits for the switch of this proxy, by xNBD's protocol. */
bool control_awaits_switch(const struct export *e);
/* Sends what can be sent at once, and closes the socket and its connections. Jobs go on. */
void control_end(struct control_socket *s);

#endif
