/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * Pre-shared keys: files of them, and memory for secrets. No message contains a key, nor a part of a line of
 * such a file.
 */
#ifndef SECURE_KEYS_H
#define SECURE_KEYS_H

#include "tls/tls.h"

/* Zeroed memory that is excluded from core dumps, and locked as far as RLIMIT_MEMLOCK allows. NULL: no memory. Any
 * thread. */
void *secret_new(size_t bytes);
/* Wipes and frees it. */
void secret_free(void *p, size_t bytes);
/* The same for 16 KiB of this thread's stack, from here on, which may hold secrets; every thread has at least that
 * much. */
void secret_stack(void);

struct psk {
	uint8_t name_bytes, key_bytes; /* 1..TLS_NAME_MAX, TLS_PSK_MIN..TLS_PSK_MAX */
	uint8_t name[TLS_NAME_MAX];
	uint8_t key[TLS_PSK_MAX];
};

struct psk_list {
	uint32_t bytes; /* of memory */
	uint32_t count;
	struct psk psk[];
};

enum { PSK_ERROR_BYTES = 256 };

/* For a message, when a file could not be read again, and this is why. */
#define PSK_STAYS "%s; the old keys stay in use"

/* Reads a file with one key per line, NAME:HEX; lines that begin with '#' are comments. NULL: error, which has room for
 * PSK_ERROR_BYTES, has one line. Blocks; any thread. The list is the caller's: psk_free(). */
struct psk_list *psk_read(const char *path, char *error);
void psk_free(struct psk_list *l);

/* At the start: the key of this name, or the only one if name is NULL; of all others in the file nothing is kept. It
 * lives forever, or to secret_free(). Dies when there is none. */
const struct psk *psk_one(const char *path, const char *name);

/* A copy of the same kind, for secret_free(). NULL: no memory. Any thread. */
struct psk *psk_dup(const struct psk *k);

/* From now on, the server accepts the keys of l (which is then owned here) instead of the previous ones. Any thread. */
void psk_use(struct psk_list *l);
/* Locks these and `one` in memory again: memory locks are not inherited over fork(2). one may be NULL. */
void psk_lock(const struct psk *one);
/* For a process created by fork(2) that needs no keys: wipes these and `one`, which may be NULL. */
void psk_forget(const struct psk *one);
/* Whether one of them has this name: copied to *to. Any thread. */
bool psk_find(const uint8_t *name, size_t bytes, struct psk *to);

/* For another program in this process, by handover.reads: hands over these, with room for those of so many origins, in a file in
 * memory of their own. A program that is only tried does not get its descriptor. Or takes them; dies of what is no list of keys.
 * Core's thread. */
void psk_handover(unsigned origins);
/* Behind that, for each of these origins: hands its key over, and returns it; or takes the next one, which is valid until psk_use();
 * NULL: there is none. Core's thread. */
const struct psk *psk_handover_next(const struct psk *k);
/* Wipes what was handed over, as no program takes it. Harmless when there is nothing. Core's thread. */
void psk_handover_end(void);

#endif
