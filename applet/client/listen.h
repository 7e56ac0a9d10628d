/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Where clients come from: listening sockets, or one client that is already connected.
 *
 * One thread: that of the start, later the loop's. Only the functions for the start may block or
 * die. Strings are the caller's, and must stay valid to the end.
 */
#ifndef CLIENT_LISTEN_H
#define CLIENT_LISTEN_H

#include "export/export.h"
#include "origin/endpoint.h"
#include "reactor/handover.h"
#include "reactor/loop.h"
#include "secure/keys.h"

/* Whether systemd has opened sockets for this process, the one that was started. To be called first, before it
 * daemonizes and becomes another. */
bool listen_is_passed(void);
/* At the start: takes the sockets that systemd has opened; else binds TCP port lport (NULL: none) of address laddr
 * (NULL: of all), and checks that the Unix socket (NULL: none) can be created. Dies when that fails. No client is
 * accepted before listen_begin(), which also creates the Unix socket: once its file exists, clients are served. */
void listen_bind(const char *laddr, const char *lport, const char *unix_socket);
void listen_begin(void);
/* Accepts nobody any more. */
void listen_end(void);

/* For another program in this process: the listening sockets, with the clients in their queues. Reading them takes the
 * place of listen_bind(). */
void listen_handover(void);

/* ---- allow.c: which addresses may connect ------------------------------------- */

/* At the start: only those of list, "ADDRESS/BITS,..." of IPv4 and IPv6, may. Dies when it is malformed. */
void allow_parse(const char *list);
/* Whether this peer may. Any thread. */
bool is_allowed(const struct endpoint *e);

/* A socket that listens, of any room; its descriptor is set. */
struct listener {
	struct event event; /* first: ready() gets it */
	struct timer pause; /* after accept failed for lack of descriptors */
};
/* From now on ready() is called when somebody connects; dies when that cannot be. */
void listener_begin(struct listener *l, void (*ready)(struct event *e, uint32_t events));
/* Nobody connects any more; its descriptor is closed. */
void listener_end(struct listener *l);
/* From ready(); like accept4(2). Returns a non-blocking descriptor, and the peer's address in *from. -1: nobody is
 * there, or an error; that is logged now and then, and the listener pauses for a moment. */
int listener_accept(struct event *e, struct endpoint *from);
/* At the start, for any Unix socket: dies when something is in its way that is not a stale socket. */
void listen_check(const char *path);
/* Then binds it: replaces a stale socket, and dies if anything else is in the way. Returns the descriptor, which is the
 * caller's. owner: of the path, see path_own(). Any thread. */
int listen_unix(const char *path, const void *owner);

/* ---- inetd.c ----------------------------------------------------------------- */

/* Prepares for a client that is already connected to fd; before there is a second thread and before
 * the first message. If standard output or error is that client, too, it becomes /dev/null. If
 * standard input and output are pipes, one socket replaces them; dies when that cannot be. The processes that copy forget
 * the keys, and one, which may be NULL. */
void inetd_prepare(int fd, const struct psk *one);
/* It is served; dies when it cannot be. past_handshake: NULL, or the export it is past its handshake for. */
void inetd_begin(int fd, struct export *past_handshake);
/* At the very end, after the session's. As process 1 of a PID namespace, waits until the last replies have
 * left through a pipe, for half a minute at most: the kernel kills the process that copies them with us. */
void inetd_end(void);

#endif
