/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Relays of a server: each has a thread. */
#include "libbb.h"
#include "reactor/descriptors.h"
#include "reactor/pool.h"
#include "secure/relay.h"

enum {
	STACK_BYTES = 64 << 10, /* takes memory only as it is used, unless memory is locked */
};

int relay_begin(int net, const struct psk *psk, const char *who, bool (*is_dead)(int net))
{
	struct relay *r;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) < 0)
		return -1;
	r = !psk && fd_is_kept(pair[1], FD_CLIENTS) ? NULL : relay_new(net, pair[1], psk, who, is_dead);
	if (r && thread_start(relay_run, r, STACK_BYTES))
		return pair[0];
	if (r)
		relay_free(r);
	close(pair[0]);
	close(pair[1]);
	return -1;
}

unsigned relays_serving(void)
{
	return relays_served;
}

unsigned relays_up(void)
{
	return relays_open;
}
