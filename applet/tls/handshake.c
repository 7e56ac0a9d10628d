/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The handshake: what both sides have in common. Records to messages, messages
 * to records, the ways it fails. */
//config:config FEATURE_XNBD_TLS
//config:	bool "TLS with pre-shared keys (27 kb)"
//config:	default y
//config:	depends on XNBD_SERVER || XNBD_CLIENT
//config:	help
//config:	TLS 1.3: for clients of the server, for its connections to the origin,
//config:	and for xnbd-client.
#include "tls/internal.h"

/* The SHA-256 of "HelloRetryRequest" */
const uint8_t tls_retry_random[HELLO_RANDOM_BYTES] = {
    0xcf, 0x21, 0xad, 0x74, 0xe5, 0x9a, 0x61, 0x11, 0xbe, 0x1d, 0x8c,
    0x02, 0x1e, 0x65, 0xb8, 0x91, 0xc2, 0xa2, 0x11, 0x16, 0x7a, 0xbb,
    0x8c, 0x5e, 0x07, 0x9e, 0x09, 0xe2, 0xc8, 0xa8, 0x33, 0x9c,
};

bool tls_fail(struct tls *t, uint8_t alert) {
  if (t->state != STATE_FAILED) {
    t->state = STATE_FAILED;
    t->alert = alert;
  }
  return false;
}

const char *tls_reason(const struct tls *t) {
  switch (t->alert) {
  case ALERT_CLOSE_NOTIFY:
  case ALERT_USER_CANCELED:
    return "the peer has closed the connection";
  case ALERT_UNEXPECTED_MESSAGE:
    return "a message that may not come now, or no TLS at all";
  case ALERT_ILLEGAL_PARAMETER: /* GnuTLS and OpenSSL say it of a wrong binder
                                 */
    if (!t->by_peer)
      return "the peer wants what was not offered";
    /* fall through */
  case ALERT_DECRYPT_ERROR:
    return "the peer has another key for this name, or none";
  case ALERT_UNKNOWN_PSK_IDENTITY:
    return t->by_peer ? "the peer has no key of this name"
                      : "there is no key of this name";
  case ALERT_BAD_RECORD_MAC:
    return "a record was changed on its way";
  case ALERT_PROTOCOL_VERSION:
    return "the peer does not speak TLS 1.3";
  case ALERT_HANDSHAKE_FAILURE:
  case ALERT_INSUFFICIENT_SECURITY:
  case ALERT_MISSING_EXTENSION:
    return "nothing in common: TLS_CHACHA20_POLY1305_SHA256, X25519 and a "
           "pre-shared key are needed";
  default:
    return t->by_peer ? "the peer has given up"
                      : "the peer sends what is not well formed";
  }
}

/* The data of len bytes is where it belongs, behind the header at o->at. */
static void send_record(struct tls *t, struct output *o, uint8_t type,
                        size_t len) {
  size_t bytes = TLS_HEADER_BYTES + len;
  if (t->tx.on) {
    bytes = tls_seal(t, type, o->at, o->at + TLS_HEADER_BYTES, len);
  } else {
    o->at[0] = type;
    put16(put16(o->at + 1, LEGACY_VERSION), (unsigned)len);
  }
  o->at += bytes;
  o->len += bytes;
}

void tls_message_header(struct output *o, uint8_t type, const uint8_t *end) {
  uint8_t *message = o->at + TLS_HEADER_BYTES;
  message[0] = type;
  message[1] = 0;
  put16(message + 2, (unsigned)(end - message - MESSAGE_HEADER_BYTES));
}

void tls_send_message(struct tls *t, struct output *o, uint8_t type,
                      const uint8_t *end) {
  const uint8_t *message = o->at + TLS_HEADER_BYTES;
  size_t len = (size_t)(end - message);
  tls_message_header(o, type, end);
  sha256_hash(&t->handshake.transcript, message, len);
  send_record(t, o, TLS_TYPE_HANDSHAKE, len);
}

void tls_send_finished(struct tls *t, struct output *o) {
  uint8_t *body = tls_message(o);
  tls_verify_data(t, body, t->tx.secret);
  tls_send_message(t, o, FINISHED, body + SHA256_BYTES);
}

bool tls_check_finished(struct tls *t, const uint8_t *message, size_t len) {
  uint8_t expected[SHA256_BYTES];
  tls_verify_data(t, expected, t->rx.secret);
  if (len != MESSAGE_HEADER_BYTES + SHA256_BYTES)
    return tls_fail(t, ALERT_DECODE_ERROR);
  if (!same_secret(expected, message + MESSAGE_HEADER_BYTES, SHA256_BYTES))
    return tls_fail(t, ALERT_DECRYPT_ERROR);
  sha256_hash(&t->handshake.transcript, message, len);
  return true;
}

void tls_handshake_over(struct tls *t) {
  t->state = STATE_OPEN;
  wipe(&t->handshake, sizeof(t->handshake));
}

/* The message that may come next; and no other comes in the same record, except
 * behind EncryptedExtensions: either it is not its turn, or it needs another
 * key. */
static bool handle_message(struct tls *t, struct output *o,
                           const uint8_t *message, size_t len, bool last) {
  static const uint8_t expected[] = {
      [STATE_CLIENT_HELLO_SENT] = SERVER_HELLO,
      [STATE_CLIENT_HELLO_AGAIN] = SERVER_HELLO,
      [STATE_CLIENT_KEYS] = ENCRYPTED_EXTENSIONS,
      [STATE_CLIENT_EXTENSIONS] = FINISHED,
      [STATE_SERVER_START] = CLIENT_HELLO,
      [STATE_SERVER_RETRY] = CLIENT_HELLO,
      [STATE_SERVER_FINISHED] = FINISHED,
  };
  if (message[0] != expected[t->state] ||
      (!last && t->state != STATE_CLIENT_KEYS))
    return tls_fail(t, ALERT_UNEXPECTED_MESSAGE);
  return t->server ? tls_server_message(t, o, message, len)
                   : tls_client_message(t, o, message, len);
}

/* More of messages, which have come as far as in_messages; those that are
 * complete are handled. */
static void handle_messages(struct tls *t, struct output *o) {
  struct tls_handshake_state *h = &t->handshake;
  const uint8_t *m = h->in;
  size_t left = h->in_messages;
  while (left >= MESSAGE_HEADER_BYTES) {
    size_t len = MESSAGE_HEADER_BYTES + (m[1] << 16 | m[2] << 8 | m[3]);
    if (len > sizeof(h->in) - TLS_HEADER_BYTES) {
      tls_fail(t, ALERT_HANDSHAKE_FAILURE);
      return;
    }
    if (left < len)
      break;
    if (!handle_message(t, o, m, len, left == len) || t->state == STATE_OPEN)
      return;
    m += len;
    left -= len;
  }
  memmove(h->in, m, left);
  h->in_messages = left;
}

/* A whole record, behind the messages that are not complete */
static void handle_record(struct tls *t, struct output *o, uint8_t *record,
                          size_t record_len) {
  struct tls_handshake_state *h = &t->handshake;
  uint8_t type = record[0], *data = record + TLS_HEADER_BYTES;
  size_t len = record_len - TLS_HEADER_BYTES;
  h->in_record = 0;
  /* For middleboxes (appendix D.4): means nothing */
  if (type == TLS_TYPE_CHANGE_CIPHER_SPEC && len == 1 && data[0] == 1 &&
      !h->in_messages && t->state != STATE_SERVER_START)
    return;
  /* A client without keys sends its alert as it is. A server that gives up has
   * its keys since its hello. */
  if (t->rx.on && !(type == TLS_TYPE_ALERT && t->server) &&
      !tls_open_record(t, record, record_len, &type, &len))
    return;
  if (type == TLS_TYPE_ALERT && len == 2) {
    t->by_peer = true;
    tls_fail(t, data[1]);
  } else if (type == TLS_TYPE_HANDSHAKE && len) {
    memmove(record, data, len);
    h->in_messages += len;
    handle_messages(t, o);
  } else {
    tls_fail(t, ALERT_UNEXPECTED_MESSAGE);
  }
}

size_t tls_wanted(const struct tls *t) {
  const struct tls_handshake_state *h = &t->handshake;
  const uint8_t *record = h->in + h->in_messages;
  if (h->in_record < TLS_HEADER_BYTES)
    return TLS_HEADER_BYTES - h->in_record;
  return TLS_HEADER_BYTES + (size_t)(record[3] << 8 | record[4]) - h->in_record;
}

/* Bytes that are still missing of the record's header, or of the record; 0: it
 * is complete, or no good. */
static size_t record_missing(struct tls *t) {
  struct tls_handshake_state *h = &t->handshake;
  const uint8_t *record = h->in + h->in_messages;
  if (h->in_record < TLS_HEADER_BYTES)
    return TLS_HEADER_BYTES - h->in_record;
  size_t len = TLS_HEADER_BYTES + (record[3] << 8 | record[4]);
  if (record[0] < TLS_TYPE_CHANGE_CIPHER_SPEC || record[0] > TLS_TYPE_DATA)
    tls_fail(t, ALERT_UNEXPECTED_MESSAGE);
  else if (len > sizeof(h->in) - h->in_messages)
    tls_fail(t, ALERT_RECORD_OVERFLOW);
  else
    return len - h->in_record;
  return 0;
}

enum tls_progress tls_handshake(struct tls *t, const uint8_t *in, size_t in_len,
                                size_t *used, uint8_t *out, size_t *out_len) {
  struct tls_handshake_state *h = &t->handshake;
  struct output o = {out, 0};
  size_t done = 0;
  if (t->state == STATE_CLIENT_START)
    tls_client_hello(t, &o, NULL);
  while (t->state < STATE_OPEN) {
    /* There is room for a header: messages that are not complete leave it. */
    size_t n = record_missing(t);
    if (n > in_len - done)
      n = in_len - done;
    uint8_t *record = h->in + h->in_messages;
    if (n)
      memcpy(record + h->in_record, in + done, n);
    h->in_record += n;
    done += n;
    if (h->in_record < TLS_HEADER_BYTES || record_missing(t)) {
      if (done == in_len)
        break;
    } else if (t->state < STATE_OPEN) {
      handle_record(t, &o, record, h->in_record);
    }
  }
  if (t->state == STATE_FAILED && !t->by_peer && !t->alert_sent) {
    tls_end_alert(t, o.at + TLS_HEADER_BYTES);
    send_record(t, &o, TLS_TYPE_ALERT, 2);
    t->alert_sent = true;
  }
  *used = done;
  *out_len = o.len;
  return t->state < STATE_OPEN    ? TLS_MORE
         : t->state == STATE_OPEN ? TLS_DONE
                                  : TLS_FAILED;
}

const uint8_t *tls_name(const struct tls *t, size_t *len) {
  *len = t->name_len;
  return t->name;
}

void tls_wipe(struct tls *t) { wipe(t, sizeof(*t)); }
