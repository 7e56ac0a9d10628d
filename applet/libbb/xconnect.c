/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Connections to hosts by name: the only use of libc's resolver in libbb. */
#include "libbb.h"

#include <netdb.h>

int create_and_connect_stream_or_die(const char *peer, int port)
{
	struct addrinfo hints = { .ai_family = ENABLE_FEATURE_IPV6 ? AF_UNSPEC : AF_INET, .ai_socktype = SOCK_STREAM };
	struct addrinfo *list, *a;
	char service[12];
	int fd = -1;

	snprintf(service, sizeof(service), "%u", (unsigned)port);
	if (getaddrinfo(peer, service, &hints, &list) != 0)
		bb_error_msg_and_die("bad address '%s'", peer);
	for (a = list; a; a = a->ai_next) {
		fd = socket(a->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
		if (fd < 0)
			continue;
		if (connect(fd, a->ai_addr, a->ai_addrlen) == 0)
			break;
		close(fd);
		fd = -1;
	}
	if (fd < 0)
		bb_perror_msg_and_die("can't connect to %s port %s", peer, service);
	freeaddrinfo(list);
	return fd;
}
