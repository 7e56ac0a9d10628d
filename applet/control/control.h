/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The control socket: whoever is allowed to connect asks for the state of a proxy or a wrapper, and
 * gives orders.
 *
 * All of it runs on the loop's thread. None of it blocks, but for control_begin() and control_end(),
 * which are called once, at the start and at the end of the server. A connection that is lost
 * concerns nobody else.
 */
#ifndef CONTROL_CONTROL_H
#define CONTROL_CONTROL_H

#include "export/export.h"
#include "reactor/handover.h"

/* What it tells, and what a job begins with. Set before control_begin(). */
struct control_config {
	uint64_t max_buf_bytes; /* memory for requests; 0 = no limit */
	uint64_t rate_bytes;    /* of the copy and the comparison, per second; 0 = no limit */
};
extern struct control_config control_config;

/* Listens at this path, which listen_check() has allowed, from now on; dies when it cannot. NULL: where it listens already.
 * e: the proxy that is asked about, which stays to the end; NULL: a wrapper's exports. */
void control_begin(struct export *e, const char *path);
/* How the last comparison with the origin has ended. True: well. *text: one line, valid until the
 * next call. */
bool control_verify_result(const struct core_status *s, const char **text);
/*
 * "upgrade": another program takes the place of this one. control_upgrade() is called with a descriptor of that program,
 * which is its; it returns NULL, or why not. Later control_upgraded() gets why it failed; if it does
 * not fail there is nobody to say so but the new program, by what control_handover() has written. NULL: such a request is unknown.
 */
extern const char *(*control_upgrade)(int program_fd);
void control_upgraded(const char *why);
/* For that program: connections, and what they have asked for. There it takes the place of control_begin(). e: as there. */
void control_handover(struct export *e);
/* new has taken the place of old, which may end now. */
void control_renewed(const struct export *old, struct export *new);
/* Sends what can be sent at once, and closes all connections. Jobs go on. */
void control_end(void);

#endif
