/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The answers to BLOCK_STATUS ("Structured reply types", NBD_REPLY_TYPE_BLOCK_STATUS). */
#ifndef CLIENT_BLOCK_STATUS_H
#define CLIENT_BLOCK_STATUS_H

#include "core/core.h"
#include "nbd/nbd.h"

enum { STATUS_HEAD_BYTES = NBD_CHUNK_BYTES + 4 };

/* Memory for the buffer of such a request, of a session with this handshake. */
uint32_t status_bytes(const struct nbd_server_handshake *h);

/*
 * The reply to r, whose buffer begins with a struct extents; with base:allocation selected the core has filled that in.
 * unit: the sector size in bytes; all extents are multiples of it. The first STATUS_HEAD_BYTES go to head, the rest
 * stays in the buffer, from its member `extent` on. Returns the bytes of that rest. Loop's thread.
 */
uint32_t status_encode(const struct nbd_server_handshake *h, const struct map *m, const struct request *r, uint32_t unit,
		       uint64_t cookie, uint8_t *head);

#endif
