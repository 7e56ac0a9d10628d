/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* What a client was answered, held against what it asked. */
#ifndef FUZZ_CLIENT_CHECK_H
#define FUZZ_CLIENT_CHECK_H

#include "channel.h"

/* The disk that the server serves, as the fuzzer knows it. */
struct client_disk {
	uint64_t size_bytes;
	bool readonly; /* so that each byte is known */
	bool oldstyle;
	bool proxy;
	bool unknown; /* nothing is known: nothing is checked */
};
extern struct client_disk client_disk;

/* c is a client that keeps what it hears. False: it waits for an answer to a whole request. */
bool client_check(const struct channel *c);

#endif
