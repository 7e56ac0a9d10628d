/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * TLS 1.3 (RFC 8446) with a pre-shared key: both sides of the handshake, and the records.
 *
 * One suite, TLS_CHACHA20_POLY1305_SHA256, and one way to use the key, psk_dhe_ke with X25519. No
 * certificates, no session tickets, no early data, no older version.
 *
 * Everything here is a pure function: no system call, no allocation, no clock, no global that is written. Random bytes
 * come from the caller. No branch and no index depends on a key. All input is treated as hostile until it is verified.
 *
 * Threads: a struct tls belongs to one thread until the handshake is over. Then tls_seal(),
 * tls_key_update() and tls_end() use only the half for sending, tls_open() and tls_control() only the
 * half for receiving, and each half may have a thread of its own.
 */
#ifndef TLS_TLS_H
#define TLS_TLS_H

#include "tls/crypto.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Sizes in bytes */
enum {
	TLS_NAME_MAX = 128, /* a name of a key; 1 at least */
	TLS_PSK_MIN = 16,
	TLS_PSK_MAX = 64,
	TLS_RANDOM_BYTES = 64, /* what a handshake needs of randomness */

	TLS_DATA_MAX = 16384,                            /* data of one record */
	TLS_HEADER_BYTES = 5,                            /* before the data of a record */
	TLS_OVERHEAD = TLS_HEADER_BYTES + 1 + 16,        /* what tls_seal() adds to data */
	TLS_RECORD_MAX = TLS_HEADER_BYTES + 16384 + 256, /* the longest record that may arrive */
	TLS_ALERT_BYTES = TLS_OVERHEAD + 2,              /* of tls_end() */
	TLS_KEY_UPDATE_MESSAGE_BYTES = 5,
	TLS_KEY_UPDATE_BYTES = TLS_OVERHEAD + TLS_KEY_UPDATE_MESSAGE_BYTES, /* of tls_key_update() */

	TLS_HANDSHAKE_OUT_MAX = 2048, /* what one tls_handshake() sends at most */
	TLS_HANDSHAKE_IN_MAX = 4096,  /* a message of the handshake, and the record that completes it */
};

/* Types of records, as the kernel's TLS_GET_RECORD_TYPE and TLS_SET_RECORD_TYPE have them */
enum {
	TLS_TYPE_CHANGE_CIPHER_SPEC = 20,
	TLS_TYPE_ALERT = 21,
	TLS_TYPE_HANDSHAKE = 22,
	TLS_TYPE_DATA = 23,
};

/* The key that belongs to name, and its length in *psk_len (TLS_PSK_MIN to TLS_PSK_MAX); NULL: there is
 * none. name is not terminated, may hold any bytes, and has 1 to TLS_NAME_MAX of them. The key is read
 * before the next call. Comparing names need not be constant time: a name is sent in cleartext. */
typedef const uint8_t *tls_lookup(void *ctx, const uint8_t *name, size_t name_len, size_t *psk_len);

/* One direction: what the kernel's struct tls12_crypto_info_chacha20_poly1305 wants, in its order.
 * Its salt is empty. */
struct tls_keys {
	uint8_t iv[12];
	uint8_t key[32];
	uint8_t rec_seq[8]; /* big endian: the number of the next record */
};

/* One direction, inside */
struct tls_half {
	uint64_t seq;       /* the number of the next record */
	uint8_t secret[32]; /* the traffic secret that key and iv come from */
	uint8_t key[32], iv[12];
	bool on; /* records are encrypted */
};

/* What only the handshake needs; it is overwritten when that is over. */
struct tls_handshake_state {
	tls_lookup *lookup;
	void *ctx;
	uint8_t random[TLS_RANDOM_BYTES]; /* that of the hello; the private key */
	uint8_t secret[SHA256_BYTES];     /* early, handshake, master: the last of them */
	struct sha256 transcript;
	uint16_t in_messages; /* bytes in in[]: of messages that are not complete */
	uint16_t in_record;   /* behind them: of the record that arrives */
	uint8_t in[TLS_HANDSHAKE_IN_MAX];
};

/* All state of one connection. It has no pointer into itself, so it may be copied. Its fields are for tls/ alone. */
struct tls {
	struct tls_half tx, rx;
	uint32_t skip;      /* bytes of a NewSessionTicket that are still to come */
	uint8_t message[5]; /* a message after the handshake, as far as it has come: message_bytes */
	uint8_t message_bytes;
	uint8_t state;
	uint8_t alert; /* what ended it; close_notify: nothing has */
	bool by_peer;  /* who has sent that alert: the peer, or */
	bool alert_sent;
	bool server;
	uint8_t name_len;
	uint8_t name[TLS_NAME_MAX];
	struct tls_handshake_state handshake;
};

/* ---- The handshake ----------------------------------------------------- */

/* Begins a connection as a client that knows the key psk by a name of 1 to TLS_NAME_MAX bytes.
 * False: a length is out of range. random: TLS_RANDOM_BYTES, of the system's best, for this connection
 * alone. Nothing is kept of what the pointers lead to. */
bool tls_begin_client(struct tls *t, const uint8_t *name, size_t name_len, const uint8_t *psk, size_t psk_len,
		      const uint8_t *random);

/* The same as a server: lookup(ctx, ...) is called inside tls_handshake(), for each name that the client
 * offers, until it has a key. */
void tls_begin_server(struct tls *t, tls_lookup *lookup, void *ctx, const uint8_t *random);

enum tls_progress {
	TLS_MORE,   /* wants more of the peer */
	TLS_DONE,   /* keys are there. What was not used of the input are records */
	TLS_FAILED, /* tls_reason() says why; if out has an alert, send it, and close */
};

/*
 * The next step. in: what has come from the peer, in pieces of any size; *used of it have been taken,
 * which is all unless the handshake ended. out: room for TLS_HANDSHAKE_OUT_MAX bytes; *out_len of them are to be
 * sent, also when the result is TLS_DONE or TLS_FAILED. A client's first call has no input (in_len is 0).
 * A connection that ends before TLS_DONE has failed, and the peer has not said why.
 */
enum tls_progress tls_handshake(struct tls *t, const uint8_t *in, size_t in_len, size_t *used, uint8_t *out,
				size_t *out_len);

/* While the last result is TLS_MORE, or before the first: how many bytes the next record needs, as far as is known; at
 * least 1. A caller that never passes more than that has nothing left over at TLS_DONE. */
size_t tls_wanted(const struct tls *t);

/* Why it has failed: a constant text of one line, for the log. Also for TLS_ERROR and TLS_PEER_ALERT. */
const char *tls_reason(const struct tls *t);

/* The name of the key that was agreed on, after TLS_DONE; before it on a server: the one that the client
 * tried last, if any (*len may be 0). Not terminated, any bytes. */
const uint8_t *tls_name(const struct tls *t, size_t *len);

/* ---- Records, after TLS_DONE -------------------------------------------- */

/* One record of type (TLS_TYPE_DATA) with 0 to TLS_DATA_MAX bytes of data. out: room for len + TLS_OVERHEAD.
 * data may be at out + TLS_HEADER_BYTES, else it must not overlap. Returns the bytes of the record; 0
 * if the numbers of records are used up (2^64 - 1 of them): close. This cipher has no lower limit. */
size_t tls_seal(struct tls *t, uint8_t type, uint8_t *out, const uint8_t *data, size_t len);

/* Bytes of the record that begins with the TLS_HEADER_BYTES at header, with them: TLS_RECORD_MAX at
 * most; 0: no record that may come now; tls_open() on the header says why, and sets the alert. */
size_t tls_record_bytes(const uint8_t *header);

enum tls_event {
	TLS_DATA,       /* data is there (0 bytes are legal) */
	TLS_NOTHING,    /* it was for tls/ alone: go on */
	TLS_REPLY,      /* the same, and tls_key_update() has to be sent before more data is */
	TLS_CLOSED,     /* close_notify: the peer sends nothing more */
	TLS_PEER_ALERT, /* the peer has given up: tls_reason() */
	TLS_ERROR,      /* send tls_end(), and close: tls_reason() */
};

/* Opens one whole record in place. TLS_DATA: *data points to *data_len bytes inside it. After TLS_ERROR,
 * TLS_CLOSED and TLS_PEER_ALERT every later call gives TLS_ERROR. */
enum tls_event tls_open(struct tls *t, uint8_t *record, size_t len, uint8_t **data, size_t *data_len);

/* The same for a record that the kernel has decrypted, of a type that is not TLS_TYPE_DATA. */
enum tls_event tls_control(struct tls *t, uint8_t type, const uint8_t *data, size_t len);

/* A record that tells the peer of new keys for what we send; they are in use afterwards.
 * out: TLS_KEY_UPDATE_BYTES. Returns the bytes of the record. */
size_t tls_key_update(struct tls *t, uint8_t *out);

/* The last record of ours: close_notify, or the alert for the error of tls_open(). With a thread for each
 * half: call it when the thread that receives has ended. out: TLS_ALERT_BYTES. Returns the bytes. */
size_t tls_end(struct tls *t, uint8_t *out);

/* ---- The kernel's TLS ---------------------------------------------------- */

/* The keys of a direction, for TLS_TX (sending) and TLS_RX, with TLS_1_3_VERSION and
 * TLS_CIPHER_CHACHA20_POLY1305. They are right until the next record is sealed or
 * opened here, and after tls_control() with the peer's KeyUpdate they are new ones. */
void tls_ktls_keys(const struct tls *t, bool sending, struct tls_keys *keys);

/* What the kernel encrypts instead of tls_key_update() and tls_end(): a message of TLS_TYPE_HANDSHAKE, after
 * which tls_next_key() makes the next keys for sending; and the content of TLS_TYPE_ALERT. */
extern const uint8_t tls_key_update_message[TLS_KEY_UPDATE_MESSAGE_BYTES];
void tls_next_key(struct tls *t);
void tls_end_alert(const struct tls *t, uint8_t alert[2]);

/* Overwrites all of t. */
void tls_wipe(struct tls *t);

#endif
