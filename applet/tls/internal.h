/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* For the files of tls/ alone. Section numbers are those of RFC 8446. */
#ifndef TLS_INTERNAL_H
#define TLS_INTERNAL_H

#include "tls/tls.h"

#include <string.h>

enum { /* alerts (6) */
       ALERT_CLOSE_NOTIFY = 0,
       ALERT_UNEXPECTED_MESSAGE = 10,
       ALERT_BAD_RECORD_MAC = 20,
       ALERT_RECORD_OVERFLOW = 22,
       ALERT_HANDSHAKE_FAILURE = 40,
       ALERT_ILLEGAL_PARAMETER = 47,
       ALERT_DECODE_ERROR = 50,
       ALERT_DECRYPT_ERROR = 51,
       ALERT_PROTOCOL_VERSION = 70,
       ALERT_INSUFFICIENT_SECURITY = 71,
       ALERT_USER_CANCELED = 90,
       ALERT_MISSING_EXTENSION = 109,
       ALERT_UNSUPPORTED_EXTENSION = 110,
       ALERT_UNKNOWN_PSK_IDENTITY = 115,
};

enum { /* messages (4) */
       CLIENT_HELLO = 1,
       SERVER_HELLO = 2,
       NEW_SESSION_TICKET = 4,
       ENCRYPTED_EXTENSIONS = 8,
       FINISHED = 20,
       KEY_UPDATE = 24,
       MESSAGE_HASH = 254,
};

enum { /* extensions (4.2) */
       EXT_SUPPORTED_GROUPS = 10,
       EXT_PRE_SHARED_KEY = 41,
       EXT_SUPPORTED_VERSIONS = 43,
       EXT_COOKIE = 44,
       EXT_PSK_KEY_EXCHANGE_MODES = 45,
       EXT_KEY_SHARE = 51,
};

enum {
  LEGACY_VERSION = 0x0303,
  VERSION = 0x0304,
  SUITE = 0x1303, /* TLS_CHACHA20_POLY1305_SHA256 */
  GROUP_X25519 = 0x001d,
  PSK_DHE_KE = 1,
  HELLO_RANDOM_BYTES = 32,
  MESSAGE_HEADER_BYTES = 4,
  TAG_BYTES = CHACHA20_POLY1305_TAG_BYTES,
};

enum { /* states; those before STATE_OPEN are of a handshake */
       STATE_CLIENT_START,
       STATE_CLIENT_HELLO_SENT,
       STATE_CLIENT_HELLO_AGAIN, /* after a HelloRetryRequest */
       STATE_CLIENT_KEYS,        /* ServerHello has come */
       STATE_CLIENT_EXTENSIONS,  /* EncryptedExtensions, too */
       STATE_SERVER_START,
       STATE_SERVER_RETRY, /* a HelloRetryRequest was sent */
       STATE_SERVER_FINISHED,
       STATE_OPEN,
       STATE_CLOSED, /* by the peer */
       STATE_FAILED,
};

/* What a call of tls_handshake() sends */
struct output {
  uint8_t *at; /* the next record */
  size_t len;  /* of those before */
};

/* What is not read yet of a message */
struct fields {
  const uint8_t *at;
  size_t left;
};

/* ---- handshake.c -------------------------------------------------------- */

/* The end, by the first alert. False, so that callers can return it. */
bool tls_fail(struct tls *t, uint8_t alert);
/* The random of a ServerHello that is a HelloRetryRequest (4.1.3) */
extern const uint8_t tls_retry_random[HELLO_RANDOM_BYTES];
/* Where the body of the next message goes; it is complete with
 * tls_send_message(), which hashes it */
static inline uint8_t *tls_message(struct output *o) {
  return o->at + TLS_HEADER_BYTES + MESSAGE_HEADER_BYTES;
}
/* Fills in the header of the message whose body ends at end; a binder hashes it
 * before it is complete. */
void tls_message_header(struct output *o, uint8_t type, const uint8_t *end);
void tls_send_message(struct tls *t, struct output *o, uint8_t type,
                      const uint8_t *end);
void tls_send_finished(struct tls *t, struct output *o);
/* Whether the peer's Finished is right; it goes to the transcript. */
bool tls_check_finished(struct tls *t, const uint8_t *message, size_t len);
void tls_handshake_over(struct tls *t);

/* One whole message of the peer, with its header. False: it has failed. */
bool tls_client_message(struct tls *t, struct output *o, const uint8_t *message,
                        size_t len);
/* cookie: the body of the extension, NULL in the first hello */
void tls_client_hello(struct tls *t, struct output *o,
                      const struct fields *cookie);
bool tls_server_message(struct tls *t, struct output *o, const uint8_t *message,
                        size_t len);

/* ---- schedule.c: the key schedule (7.1) ---------------------------------- */

/* The first secret: of the pre-shared key */
void tls_early_secret(struct tls *t, const uint8_t *psk, size_t len);
/* The next one: of the key exchange; NULL: the master secret */
void tls_next_secret(struct tls *t, const uint8_t *input);
/* The transcript of a first ClientHello gives way to its hash (4.4.1). */
void tls_transcript_retry(struct tls *t);
/* The binder for a transcript of t's and of the bytes at partial (4.2.11.2) */
void tls_binder(const struct tls *t, uint8_t out[SHA256_BYTES],
                const uint8_t *partial, size_t len);
/* verify_data of the one whose traffic secret it is, for the transcript so far
 * (4.4.4) */
void tls_verify_data(const struct tls *t, uint8_t out[SHA256_BYTES],
                     const uint8_t secret[SHA256_BYTES]);
/* Both halves begin with the keys of the handshake. */
void tls_handshake_keys(struct tls *t, const uint8_t shared[X25519_BYTES]);
/* The half of the server's data goes on with its last keys; the secret is then
 * the client's for its half. */
void tls_application_keys(struct tls *t);
/* A half begins with the keys of a traffic secret, which may be its own. */
void tls_half_begin(struct tls_half *h, const uint8_t secret[SHA256_BYTES]);
/* The next traffic secret (7.2), and its keys */
void tls_half_next(struct tls_half *h);

/* ---- record.c ------------------------------------------------------------ */

/* A whole record of encrypted data, in place. *len: of its content, which is
 * behind the header. */
bool tls_open_record(struct tls *t, uint8_t *record, size_t record_len,
                     uint8_t *type, size_t *len);

/* ---- fields.c -------------------------------------------------------------
 */

/* Each false if there is too little. */
bool fields_bytes(struct fields *f, size_t len, const uint8_t **bytes);
bool fields_number(struct fields *f, int bytes, uint32_t *value);
/* A vector: its length, in a number of so many bytes, and then that much */
bool fields_vector(struct fields *f, int length_bytes, struct fields *body);
/* The same, and nothing else is in f */
bool fields_only_vector(struct fields f, int length_bytes, struct fields *body);
/* Whether one of the numbers that f consists of is value */
bool fields_contain(struct fields f, int bytes, uint32_t value);
/* What both hellos begin with: version, random, and the vector of the session's
 * id */
bool fields_hello(struct fields *f, const uint8_t **random, struct fields *id);

/* All extensions of a message: some dozen are known */
enum { EXTENSIONS_MAX = 48 };
struct extensions {
  size_t count;
  uint16_t type[EXTENSIONS_MAX];
  struct fields body[EXTENSIONS_MAX];
};
/* f: the rest of a message, which is its extensions. False: not well formed,
 * two of a type, or more than EXTENSIONS_MAX. */
bool extensions_parse(struct extensions *e, struct fields f);
/* The body of an extension; NULL: there is none */
const struct fields *extensions_find(const struct extensions *e, uint16_t type);
/* The same of one that is a vector and nothing else */
bool extensions_vector(const struct extensions *e, uint16_t type,
                       int length_bytes, struct fields *body);

static inline uint8_t *put16(uint8_t *p, unsigned value) {
  p[0] = value >> 8;
  p[1] = value;
  return p + 2;
}

static inline uint8_t *put(uint8_t *p, const void *bytes, size_t len) {
  return (uint8_t *)memcpy(p, bytes, len) + len;
}

#endif
