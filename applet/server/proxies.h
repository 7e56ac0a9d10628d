/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The proxies of xnbd-wrapper: how they are added and removed. A running proxy is a struct served, like the export of
 * xnbd-server.
 *
 * Core's thread; nothing but proxies_begin() blocks.
 */
#ifndef SERVER_PROXIES_H
#define SERVER_PROXIES_H

#include "libbb.h"
#include "server/database_text.h"

struct control_socket;
struct export;
struct served;

/* At the start: NAME=URI,KEY=VALUE,... of each. Takes turns of the loop; dies when one of them cannot begin. */
void proxies_begin(const llist_t *list);
/* Another one, while the server runs. text: URI KEY=VALUE ..., copied as name is. NULL: added() is told later why it cannot
 * begin, or NULL; else why not, and added() is not called. */
const char *proxy_add(const char *name, const char *text, void (*added)(void *ctx, const char *why), void *ctx);
/* The same, of what the database or xNBD's add-proxy tells. batch: see export_submit_files(). given: as
 * control_add_proxy_words has it. */
const char *proxy_add_image(const struct database_image *i, bool batch, void (*added)(void *ctx, const char *why), void *ctx);
const char *proxy_add_xnbd(const char *const *given, void (*added)(void *ctx, const char *why), void *ctx);
/* e, which is a proxy or was one before its switch, for the database; the texts are e's, until the next call. False:
 * out of memory. */
bool proxy_describe(const struct export *e, struct database_image *i);
/* At the end of each turn of the loop: sends what origins are asked. */
void proxies_turn(void);
/* The server ends: so do their control sockets. */
void proxies_end(void);
/* Whether one begins, or comes to its end. */
bool proxies_are_busy(void);

/* For another program in this process, or from it: what s was added with. Reading: s is NULL, and e becomes one that is served, whose
 * origin, policy and control socket are still to come. */
struct served *proxy_handover(struct served *s, struct export *e);
struct control_socket *proxy_control(struct served *s);

#endif
