/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Hosts and ports to addresses. */
#include "libbb.h"
#include "origin/endpoint.h"

#include <arpa/inet.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/tcp.h>

bool endpoint_unix(struct endpoint *e, const char *path)
{
	struct sockaddr_un *a = &e->address.local;

	memset(e, 0, sizeof(*e));
	a->sun_family = AF_UNIX;
	e->bytes = sizeof(*a);
	/* An empty path would be an address without a file, open to everybody. */
	if (!*path || strlen(path) >= sizeof(a->sun_path))
		return false;
	memcpy(a->sun_path, path, strlen(path));
	return true;
}

bool endpoint_text(const struct endpoint *e, char *host, char *port)
{
	const struct sockaddr_un *local = &e->address.local;
	const uint8_t *n = (const uint8_t *)&e->address.v4.sin_addr;
	unsigned i;

	/* inet_ntop(3) would bring libc's printf with it. */
	switch (e->address.any.sa_family) {
	case AF_UNIX:
		snprintf(host, ENDPOINT_TEXT_BYTES, "unix:%.*s", (int)sizeof(local->sun_path), local->sun_path);
		strcpy(port, "-");
		return e->bytes > offsetof(struct sockaddr_un, sun_path) && local->sun_path[0] == '/';
	case AF_INET:
		snprintf(host, ENDPOINT_TEXT_BYTES, "%u.%u.%u.%u", n[0], n[1], n[2], n[3]);
		break;
	case AF_INET6:
		n = e->address.v6.sin6_addr.s6_addr;
		for (i = 0; i < 16; i += 2)
			host += snprintf(host, 6, i ? ":%x" : "%x", n[i] << 8 | n[i + 1]);
		if (e->address.v6.sin6_scope_id)
			snprintf(host, 12, "%%%u", e->address.v6.sin6_scope_id);
		break;
	default:
		return false;
	}
	snprintf(port, 8, "%u", ntohs(e->address.v4.sin_port)); /* both have it there */
	return true;
}

int endpoint_socket(const struct endpoint *e)
{
	return socket(e->address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
}

/* ---- with names: the resolver's, which is a good part of libc --------------------------- */

static bool find_names(struct endpoints *l, const char *host, const char *port)
{
	struct addrinfo hints = {
		.ai_flags = host ? 0 : AI_PASSIVE,
		.ai_family = ENABLE_FEATURE_IPV6 ? AF_UNSPEC : AF_INET,
		.ai_socktype = SOCK_STREAM,
	};
	struct addrinfo *list, *a;

	if (getaddrinfo(host, port, &hints, &list) != 0)
		return false;
	for (a = list; a && l->count < ENDPOINTS_MAX; a = a->ai_next) {
		struct endpoint *e = &l->at[l->count++];

		e->bytes = a->ai_addrlen;
		memcpy(&e->address, a->ai_addr, a->ai_addrlen);
	}
	freeaddrinfo(list);
	return l->count;
}

/* ---- with numbers only -------------------------------------------------------------------- */

/* A decimal number of at most max; -1: it is none. libc's strtoul(3) would bring 2 KB with it. */
static long decimal(const char *text, long max)
{
	long n = 0;

	if (!*text)
		return -1;
	for (; *text >= '0' && *text <= '9' && n <= max; text++)
		n = n * 10 + (*text - '0');
	return *text || n > max ? -1 : n;
}

static bool port_number(const char *text, in_port_t *port)
{
	long n = decimal(text, 65535);

	*port = htons((in_port_t)n);
	return n >= 0;
}

static void add_v4(struct endpoints *l, struct in_addr a, in_port_t port)
{
	struct endpoint *e = &l->at[l->count++];

	e->bytes = sizeof(e->address.v4);
	e->address.v4 = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = port, .sin_addr = a };
}

static void add_v6(struct endpoints *l, const struct in6_addr *a, uint32_t scope, in_port_t port)
{
	struct endpoint *e = &l->at[l->count++];

	e->bytes = sizeof(e->address.v6);
	e->address.v6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = port, .sin6_addr = *a, .sin6_scope_id = scope };
}

/* An address, perhaps with the interface behind it that it is valid on: fe80::1%eth0. */
static bool v6_number(const char *host, struct in6_addr *a, uint32_t *scope)
{
	char text[INET6_ADDRSTRLEN];
	size_t n = (size_t)(strchrnul(host, '%') - host);
	long index;

	if (n >= sizeof(text))
		return false;
	memcpy(text, host, n);
	text[n] = '\0';
	*scope = 0;
	if (host[n]) {
		index = decimal(host + n + 1, 1 << 24);
		*scope = index < 0 ? if_nametoindex(host + n + 1) : (uint32_t)index;
	}
	return (*scope || !host[n]) && inet_pton(AF_INET6, text, a) == 1;
}

static bool find_numbers(struct endpoints *l, const char *host, const char *port)
{
	struct in6_addr v6 = IN6ADDR_ANY_INIT;
	struct in_addr v4 = { .s_addr = INADDR_ANY };
	uint32_t scope = 0;
	in_port_t n;

	if (!port_number(port, &n))
		return false;
	if (!host || inet_pton(AF_INET, host, &v4) == 1)
		add_v4(l, v4, n);
	if (ENABLE_FEATURE_IPV6 && (!host || (!l->count && v6_number(host, &v6, &scope))))
		add_v6(l, &v6, scope, n);
	return l->count;
}

bool endpoints_number(struct endpoints *l, const char *host, const char *port)
{
	l->count = 0;
	return find_numbers(l, host, port);
}

bool endpoints_find(struct endpoints *l, const char *host, const char *port)
{
	l->count = 0;
	return ENABLE_FEATURE_XNBD_SERVER_NAMES || ENABLE_FEATURE_XNBD_CLIENT_NAMES ? find_names(l, host, port) : find_numbers(l, host, port);
}

void endpoint_keep(int fd, int interval)
{
	const int on = 1, idle = 10, probes = 3;

	/* Harmless errors on a Unix socket. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}
