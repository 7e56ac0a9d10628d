/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* What the files of xnbd-client call of each other. One thread. */
#ifndef XNBD_CLIENT_H
#define XNBD_CLIENT_H

#include "device/kernel_nbd.h"
#include "nbd/nbd.h"
#include "origin/endpoint.h"
#include "secure/relay.h"

/* ---- xnbd_client_dial.c: servers ----------------------------------------------------------- */

struct server {
	const char *host, *port; /* is_local: "unix", and the path of a Unix socket. For messages: host:port */
	const char *export_name;
	bool is_local;
	const struct psk *psk; /* TLS with this key, or no connection; NULL: no TLS */
	struct endpoints at; /* looked up at the first use, and never again: the name service may depend on the device */
	bool plain;          /* as in struct nbd_client_handshake */
	char told[64];       /* what was wrong last, as it was told */
};

enum { SERVERS_MAX = 8 };
extern struct server servers[SERVERS_MAX + 1]; /* in order; one without host ends them */

/* Puts into servers what words name: HOST [PORT], unix:PATH [-], or a URI. Words end with a NULL, and stay in use.
 * export_name: for those that do not name one. Dies if a word makes no sense, or if there is none. */
void servers_parse(char **words, const char *export_name);
bool servers_use_tls(void);
/* Their keys stay out of the swap space; once more after a fork(2). */
void servers_lock(void);
/* A server on a Unix socket. */
void servers_local(const char *path, const char *export_name);

/* Connects to s and shakes hands. Takes seconds at most, but for a name to be looked up. h: what its caller has to set,
 * but send, ctx, export_name and plain, is set; gets the results. Returns a socket that does not block; -1: server_error
 * tells why, without the name. */
int server_dial(struct server *s, struct nbd_client_handshake *h);
extern char server_error[256];

/* Ends a session in its transmission phase. */
void server_hang_up(int fd);

/* ---- xnbd_client_attach.c: the device ---------------------------------------------------------- */

struct client {
	const char *path; /* of the device */
	unsigned connections; /* 1..KERNEL_NBD_CONNECTIONS_MAX */
	unsigned block_bytes; /* 0: as small as kernel and server allow */
	unsigned timeout_s;   /* 0: none */
	unsigned retries;     /* how often the servers are tried; 0: forever */
	bool readonly, persist, swap, use_ioctl, stay;
	const char *recovery; /* run when the device has lost its server; NULL: nothing */
	bool reboot;          /* instead of that */
};

/* The number of a device; dies if it is none. */
unsigned client_index(const char *path);
/* Opens netlink; false: this kernel has none for nbd. Dies of other errors. */
bool client_netlink(struct kernel_nbd *k);
/* The first server that answers, as server_dial() does; s gets which. Each that does not costs a line; dies if
 * none does. */
int client_dial(const struct client *c, struct nbd_client_handshake *h, struct server **s);
/* Connects the device. Returns the exit status, at once or when the device has been disconnected. */
int client_attach(const struct client *c);

#endif
