/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The origin of a proxy in its fuzzers: on one connection, well-behaved unless told. */
#ifndef FUZZ_ORIGIN_PEER_H
#define FUZZ_ORIGIN_PEER_H

#include "channel.h"
#include "nbd/nbd.h"

struct origin_peer {
	struct channel channel;
	struct nbd_server_handshake handshake;
	struct nbd_export nbd; /* the disk as it was when this connection began */
	bool transmission;
	unsigned answered;
};

/* What all connections have in common. */
struct peer_disk {
	struct nbd_export nbd;
	bool structured;
	bool sick;
	bool other;       /* content: nothing but 0xee */
	bool by_hand;     /* says nothing by itself ... */
	unsigned by_self; /* ... but to so many requests, and the handshake if not 0 */
	unsigned leaves;  /* after so many replies; 0 = never */
};
extern struct peer_disk peer_disk;

/* What is on it, as far as any disk goes. */
enum { ORIGIN_BYTES_MAX = 4 << 20 };
const uint8_t *origin_bytes(void);
/* Says hello. */
void origin_peer_begin(struct origin_peer *p, int fd);
/* Answers what has come; forced: also by hand. True: did something. */
bool origin_peer_step(struct origin_peer *p, bool forced);

#endif
