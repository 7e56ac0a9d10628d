/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Endpoints: converts a host and a port, as users write them, to socket addresses. For connections to the origin, for
 * the sockets that clients connect to, and for xnbd-client. Any thread; only endpoints_find() may block.
 */
#ifndef ORIGIN_ENDPOINT_H
#define ORIGIN_ENDPOINT_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

struct endpoint {
	socklen_t bytes;
	union {
		struct sockaddr any;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_un local;
	} address;
};

enum { ENDPOINTS_MAX = 8 };

struct endpoints {
	unsigned count;
	struct endpoint at[ENDPOINTS_MAX];
};

/*
 * The first ENDPOINTS_MAX addresses of host. host: a name (only with FEATURE_XNBD_SERVER_NAMES or
 * FEATURE_XNBD_CLIENT_NAMES; this may block for long); or a number of IPv4 or IPv6, the latter with "%INTERFACE" behind
 * it if need be; NULL: the addresses to listen on for everybody. False: there is none.
 */
bool endpoints_find(struct endpoints *l, const char *host, const char *port);
/* The same for numbers only; does not block. */
bool endpoints_number(struct endpoints *l, const char *host, const char *port);

/* A Unix socket. False: the path is empty or too long. */
bool endpoint_unix(struct endpoint *e, const char *path);

enum { ENDPOINT_TEXT_BYTES = 128 };

/* The other way: the host as a number, or "unix:PATH" with the port "-". host has room for ENDPOINT_TEXT_BYTES, port
 * for 8. False: the socket is unnamed. */
bool endpoint_text(const struct endpoint *e, char *host, char *port);

/* socket(2) for it: a stream that does not block. -1 with errno. */
int endpoint_socket(const struct endpoint *e);

/* Makes a TCP connection send without delay, and break 10 + 3 x interval seconds after the last
 * sign of life from the peer, if nothing is in flight to it. Harmless on a Unix socket. */
void endpoint_keep(int fd, int interval);

#endif
