/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The client's side of the handshake. */
#include "tls/internal.h"

enum { BINDERS_BYTES = 2 + 1 + SHA256_BYTES, COOKIE_MAX = 1024 };

bool tls_begin_client(struct tls *t, const uint8_t *name, size_t name_len,
                      const uint8_t *psk, size_t psk_len,
                      const uint8_t *random) {
  memset(t, 0, sizeof(*t));
  if (!name_len || name_len > TLS_NAME_MAX || psk_len < TLS_PSK_MIN ||
      psk_len > TLS_PSK_MAX)
    return false;
  t->state = STATE_CLIENT_START;
  memcpy(t->name, name, name_len);
  t->name_len = name_len;
  memcpy(t->handshake.random, random, TLS_RANDOM_BYTES);
  sha256_begin(&t->handshake.transcript);
  tls_early_secret(t, psk, psk_len);
  return true;
}

/* From the version to the key share: legacy_session_id is empty, so no
 * middlebox needs to be fooled. */
static uint8_t *hello_fixed(struct tls *t, uint8_t *p) {
  static const uint8_t suites[] = {0, 0, 2, SUITE >> 8, SUITE & 255, 1, 0};
  static const uint8_t extensions[] = {
      0,
      EXT_SUPPORTED_VERSIONS,
      0,
      3,
      2,
      VERSION >> 8,
      VERSION & 255,
      0,
      EXT_SUPPORTED_GROUPS,
      0,
      4,
      0,
      2,
      0,
      GROUP_X25519,
      0,
      EXT_PSK_KEY_EXCHANGE_MODES,
      0,
      2,
      1,
      PSK_DHE_KE,
      0,
      EXT_KEY_SHARE,
      0,
      2 + 4 + X25519_BYTES,
      0,
      4 + X25519_BYTES,
      0,
      GROUP_X25519,
      0,
      X25519_BYTES,
  };
  p = put16(p, LEGACY_VERSION);
  p = put(p, t->handshake.random, HELLO_RANDOM_BYTES);
  p = put(p, suites, sizeof(suites));
  p = put(p + 2, extensions, sizeof(extensions)); /* their length comes later */
  x25519(p, t->handshake.random + HELLO_RANDOM_BYTES, x25519_base);
  return p + X25519_BYTES;
}

void tls_client_hello(struct tls *t, struct output *o,
                      const struct fields *cookie) {
  uint8_t *body = tls_message(o),
          *extensions = body + 2 + HELLO_RANDOM_BYTES + 7;
  uint8_t *p = hello_fixed(t, body);
  if (cookie) {
    p = put16(put16(p, EXT_COOKIE), (unsigned)cookie->left);
    p = put(p, cookie->at, cookie->left);
  }
  unsigned identities = 2 + t->name_len + 4;
  p = put16(put16(p, EXT_PRE_SHARED_KEY), 2 + identities + BINDERS_BYTES);
  p = put16(put16(p, identities), t->name_len);
  p = put(p, t->name, t->name_len);
  memset(p, 0, 4); /* obfuscated_ticket_age */
  p += 4;
  uint8_t *binders = p, *end = p + BINDERS_BYTES;
  put16(extensions, (unsigned)(end - extensions - 2));
  tls_message_header(o, CLIENT_HELLO, end);
  const uint8_t *message = o->at + TLS_HEADER_BYTES;
  put16(binders, 1 + SHA256_BYTES);
  binders[2] = SHA256_BYTES;
  tls_binder(t, binders + 3, message, (size_t)(binders - message));
  tls_send_message(t, o, CLIENT_HELLO, end);
  t->state = cookie ? STATE_CLIENT_HELLO_AGAIN : STATE_CLIENT_HELLO_SENT;
}

/* A cookie is the only thing of ours that another hello can be better by: the
 * one group is in the first. */
static bool retry_request(struct tls *t, struct output *o,
                          const uint8_t *message, size_t len,
                          const struct extensions *e) {
  const struct fields *cookie = extensions_find(e, EXT_COOKIE);
  struct fields value;
  if (t->state != STATE_CLIENT_HELLO_SENT)
    return tls_fail(t, ALERT_UNEXPECTED_MESSAGE);
  if (!cookie || e->count != 2) /* another group, or nothing */
    return tls_fail(t, ALERT_ILLEGAL_PARAMETER);
  if (!fields_only_vector(*cookie, 2, &value) || !value.left ||
      cookie->left > COOKIE_MAX)
    return tls_fail(t, ALERT_DECODE_ERROR);
  tls_transcript_retry(t);
  sha256_hash(&t->handshake.transcript, message, len);
  tls_client_hello(t, o, cookie);
  return true;
}

/* The keys of the handshake */
static bool accept_hello(struct tls *t, const uint8_t *message, size_t len,
                         const struct extensions *e) {
  const struct fields *share = extensions_find(e, EXT_KEY_SHARE),
                      *key = extensions_find(e, EXT_PRE_SHARED_KEY);
  static const uint8_t share_head[4] = {0, GROUP_X25519, 0, X25519_BYTES};
  uint8_t shared[X25519_BYTES];
  if (!share || !key)
    return tls_fail(t, ALERT_HANDSHAKE_FAILURE);
  if (e->count != 3)
    return tls_fail(t, ALERT_UNSUPPORTED_EXTENSION);
  if (share->left != 4 + X25519_BYTES ||
      memcmp(share->at, share_head, 4) != 0 || key->left != 2 || key->at[0] ||
      key->at[1] ||
      !x25519(shared, t->handshake.random + HELLO_RANDOM_BYTES, share->at + 4))
    return tls_fail(t, ALERT_ILLEGAL_PARAMETER);
  sha256_hash(&t->handshake.transcript, message, len);
  tls_handshake_keys(t, shared);
  wipe(shared, sizeof(shared));
  t->state = STATE_CLIENT_KEYS;
  return true;
}

static bool server_hello(struct tls *t, struct output *o,
                         const uint8_t *message, size_t len) {
  struct fields f = {message + MESSAGE_HEADER_BYTES,
                     len - MESSAGE_HEADER_BYTES},
                id;
  struct extensions e = {0};
  const struct fields *version;
  const uint8_t *random;
  uint32_t suite, compression;
  /* Before TLS 1.3 there may be no extensions. */
  if (!fields_hello(&f, &random, &id) || !fields_number(&f, 2, &suite) ||
      !fields_number(&f, 1, &compression) ||
      (f.left && !extensions_parse(&e, f)))
    return tls_fail(t, ALERT_DECODE_ERROR);
  version = extensions_find(&e, EXT_SUPPORTED_VERSIONS);
  if (!version || version->left != 2 || !fields_contain(*version, 2, VERSION))
    return tls_fail(t, ALERT_PROTOCOL_VERSION);
  if (id.left || suite != SUITE || compression)
    return tls_fail(t, ALERT_ILLEGAL_PARAMETER);
  if (!memcmp(random, tls_retry_random, HELLO_RANDOM_BYTES))
    return retry_request(t, o, message, len, &e);
  return accept_hello(t, message, len, &e);
}

/* Nothing of it is of use; it may have what was offered and belongs there. */
static bool encrypted_extensions(struct tls *t, const uint8_t *message,
                                 size_t len) {
  struct fields f = {message + MESSAGE_HEADER_BYTES,
                     len - MESSAGE_HEADER_BYTES};
  struct extensions e;
  if (!extensions_parse(&e, f))
    return tls_fail(t, ALERT_DECODE_ERROR);
  if (e.count > 1 || (e.count && e.type[0] != EXT_SUPPORTED_GROUPS))
    return tls_fail(t, ALERT_UNSUPPORTED_EXTENSION);
  sha256_hash(&t->handshake.transcript, message, len);
  t->state = STATE_CLIENT_EXTENSIONS;
  return true;
}

static bool finished(struct tls *t, struct output *o, const uint8_t *message,
                     size_t len) {
  if (!tls_check_finished(t, message, len))
    return false;
  tls_application_keys(t);
  tls_send_finished(t, o);
  tls_half_begin(&t->tx, t->handshake.secret);
  tls_handshake_over(t);
  return true;
}

bool tls_client_message(struct tls *t, struct output *o, const uint8_t *message,
                        size_t len) {
  switch (message[0]) {
  case SERVER_HELLO:
    return server_hello(t, o, message, len);
  case ENCRYPTED_EXTENSIONS:
    return encrypted_extensions(t, message, len);
  default:
    return finished(t, o, message, len);
  }
}
