/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * One side of TLS, and a peer that the input drives. The peer has the key, and the keys of records, so the input
 * reaches what is encrypted; what it cannot make by itself is a right binder and a right Finished.
 *
 * Input: a byte whose lower half is the length of pieces (0: whole); then steps, each of a byte for its kind, a byte
 * for the length of its data, and the data:
 */
#ifndef TLS_LIFE_H
#define TLS_LIFE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum step {
	STEP_RAW,      /* these bytes */
	STEP_PLAIN,    /* a record of a handshake that is not encrypted */
	STEP_BINDER,   /* a ClientHello of this body, whose last bytes become the right binder */
	STEP_MESSAGE,  /* an encrypted record of a handshake */
	STEP_RECORD,   /* an encrypted record, of the type that the first byte is */
	STEP_FINISHED, /* the right Finished */
	STEP_HELLO,    /* the right hello of a peer like ours */
	STEP_LONG,     /* 16 times so many bytes of an encrypted record: the data again and again */
	STEPS,
};

void tls_life(bool server, const uint8_t *data, size_t len);

#endif
