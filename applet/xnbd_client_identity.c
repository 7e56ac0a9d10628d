/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* xnbd-client: whether a server, or a device that is connected already, is of the disk that is to be connected. */
//kbuild:lib-$(CONFIG_XNBD_CLIENT) += xnbd_client_identity.o
#include "libbb.h"
#include "xnbd_client.h"

enum { ABILITIES_BYTES = 16 }; /* the last ones of an identifier */

/* What the kernel does, as the device was told that the server can. */
static unsigned needed_flags(const struct attachment *a)
{
	unsigned needed = NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES;

	if (a->device.transmission_flags & NBD_FLAG_READ_ONLY)
		return 0;
	if (a->c->connections > 1)
		needed |= NBD_FLAG_CAN_MULTI_CONN;
	return needed & a->device.transmission_flags;
}

bool client_is_same_disk(const struct attachment *a, const struct nbd_client_handshake *h)
{
	const char *wrong = NULL;

	if (h->size_bytes != a->size_bytes)
		wrong = "another size than that of the device";
	else if (h->transmission_flags & ~a->device.transmission_flags & NBD_FLAG_READ_ONLY)
		wrong = "it is read-only now";
	else if (needed_flags(a) & ~h->transmission_flags || h->min_block > a->device.block_bytes || h->max_payload < a->max_payload)
		wrong = "it can do less than the first server";
	snprintf(server_error, sizeof(server_error), "%s", wrong ? wrong : "");
	return !wrong;
}

/* FNV-1a, 64 bits, of a text with its end. */
static uint64_t hash_text(uint64_t hash, const char *text)
{
	do
		hash = (hash ^ (uint8_t)*text) * 0x100000001b3;
	while (*text++);
	return hash;
}

/* Only who serves what we began with may go on, be it a process of ours that was started again. Names of any length: a
 * hash of the first server and the export. Behind it what the device was told that the server can. */
void client_identify(struct attachment *a)
{
	uint64_t hash = hash_text(hash_text(hash_text(0xcbf29ce484222325, servers->host), servers->port), servers->export_name);

	snprintf(a->identifier, sizeof(a->identifier), "xnbd-client %llu %016llx %04x%04x%08x", (unsigned long long)a->size_bytes,
		 (unsigned long long)hash, a->device.transmission_flags, a->device.block_bytes, a->max_payload);
	a->device.identifier = a->identifier;
}

bool client_is_ours(struct attachment *a)
{
	struct nbd_client_handshake h = { .size_bytes = a->size_bytes, .transmission_flags = a->device.transmission_flags,
					  .min_block = a->device.block_bytes, .max_payload = a->max_payload };
	char told[CLIENT_IDENTIFIER_BYTES];
	uint64_t abilities = 0;
	const char *p;
	size_t n;

	client_identify(a);
	n = strlen(a->identifier) - ABILITIES_BYTES;
	if (!kernel_nbd_identifier(a->device.index, told, sizeof(told)) || strlen(told) != n + ABILITIES_BYTES || memcmp(told, a->identifier, n) != 0)
		return false;
	for (p = told + n; *p; p++) /* strtoull() costs 4 KB */
		abilities = abilities << 4 | (nbd_hex_digit(*p) & 15);
	a->device.transmission_flags = (uint16_t)(abilities >> 48);
	a->device.block_bytes = (uint16_t)(abilities >> 32);
	a->max_payload = (uint32_t)abilities;
	memcpy(a->identifier, told, sizeof(told));
	if (client_is_same_disk(a, &h))
		return true;
	bb_error_msg("'%s' cannot be taken over: %s", a->c->path, server_error);
	return false;
}
