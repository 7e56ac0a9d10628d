/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Fields of the NBD wire: bytes to numbers and back, error values to errno and back. */
#include "nbd/nbd.h"

#include <errno.h>
#include <string.h>

/* ---- numbers: shifts in one expression, which gcc turns into one bswap ---- */

uint16_t nbd_get16(const void *v)
{
	const uint8_t *p = v;

	return (uint16_t)(p[0] << 8 | p[1]);
}

uint32_t nbd_get32(const void *v)
{
	const uint8_t *p = v;

	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

uint64_t nbd_get64(const void *v)
{
	const uint8_t *p = v;

	return (uint64_t)nbd_get32(p) << 32 | nbd_get32(p + 4);
}

uint8_t *nbd_put16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
	return p + 2;
}

uint8_t *nbd_put32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
	return p + 4;
}

uint8_t *nbd_put64(uint8_t *p, uint64_t v)
{
	return nbd_put32(nbd_put32(p, (uint32_t)(v >> 32)), (uint32_t)v);
}

/* ---- requests and replies -------------------------------------------------- */

bool nbd_request_decode(const uint8_t *p, struct nbd_request_header *h)
{
	h->flags = nbd_get16(p + 4);
	h->type = nbd_get16(p + 6);
	h->cookie = nbd_get64(p + 8);
	h->offset = nbd_get64(p + 16);
	h->length = nbd_get32(p + 24);
	return nbd_get32(p) == NBD_REQUEST_MAGIC;
}

void nbd_request_encode(uint8_t *p, const struct nbd_request_header *h)
{
	p = nbd_put32(p, NBD_REQUEST_MAGIC);
	p = nbd_put16(p, h->flags);
	p = nbd_put16(p, h->type);
	p = nbd_put64(p, h->cookie);
	p = nbd_put64(p, h->offset);
	nbd_put32(p, h->length);
}

void nbd_simple_reply_encode(uint8_t *p, uint32_t error, uint64_t cookie)
{
	p = nbd_put32(p, NBD_SIMPLE_REPLY_MAGIC);
	p = nbd_put32(p, error);
	nbd_put64(p, cookie);
}

void nbd_chunk_encode(uint8_t *p, uint16_t flags, uint16_t type, uint64_t cookie, uint32_t length)
{
	p = nbd_put32(p, NBD_STRUCTURED_REPLY_MAGIC);
	p = nbd_put16(p, flags);
	p = nbd_put16(p, type);
	p = nbd_put64(p, cookie);
	nbd_put32(p, length);
}

static int chunk_decode(const uint8_t *p, size_t n, struct nbd_reply_header *h)
{
	if (n < NBD_CHUNK_BYTES)
		return 0;
	h->structured = true;
	h->flags = nbd_get16(p + 4);
	h->type = nbd_get16(p + 6);
	h->cookie = nbd_get64(p + 8);
	h->length = nbd_get32(p + 16);
	return NBD_CHUNK_BYTES;
}

int nbd_reply_decode(const uint8_t *p, size_t n, struct nbd_reply_header *h)
{
	memset(h, 0, sizeof(*h));
	if (n < 4)
		return 0;
	if (nbd_get32(p) == NBD_STRUCTURED_REPLY_MAGIC)
		return chunk_decode(p, n, h);
	if (nbd_get32(p) != NBD_SIMPLE_REPLY_MAGIC)
		return -1;
	if (n < NBD_SIMPLE_REPLY_BYTES)
		return 0;
	h->error = nbd_get32(p + 4);
	h->cookie = nbd_get64(p + 8);
	return NBD_SIMPLE_REPLY_BYTES;
}

/* ---- errors ------------------------------------------------------------------ */

/* A table, because the numbers of Linux differ from machine to machine. Where an
 * error value stands for more than one errno, its own comes first. */
static const struct {
	uint16_t err;
	uint8_t error;
} errors[] = {
	{ 0, NBD_SUCCESS },
	{ EPERM, NBD_EPERM },
	{ EIO, NBD_EIO },
	{ ENOMEM, NBD_ENOMEM },
	{ EINVAL, NBD_EINVAL },
	{ ENOSPC, NBD_ENOSPC },
	{ EDQUOT, NBD_ENOSPC },
	{ EFBIG, NBD_ENOSPC },
	{ EOVERFLOW, NBD_EOVERFLOW },
	{ EOPNOTSUPP, NBD_ENOTSUP },
	{ ESHUTDOWN, NBD_ESHUTDOWN },
};

enum { ERRORS = sizeof(errors) / sizeof(errors[0]) };

uint32_t nbd_error_from_errno(int err)
{
	unsigned i;

	for (i = 0; i < ERRORS; i++)
		if (errors[i].err == err)
			return errors[i].error;
	return NBD_EIO;
}

int nbd_errno_from_error(uint32_t error)
{
	unsigned i;

	for (i = 0; i < ERRORS; i++)
		if (errors[i].error == error)
			return errors[i].err;
	return EINVAL;
}
