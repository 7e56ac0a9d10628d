/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The NBD wire: numbers, and bytes to fields and back.
 *
 * Source of every rule: the NBD protocol document ("doc/proto.md" of the
 * NetworkBlockDevice project); section names are given in quotes.
 *
 * Everything here is a pure function: no system call, no allocation, no global.
 * All of it may be called from any thread. All integers on the wire are big
 * endian ("Conventions").
 */
#ifndef NBD_NBD_H
#define NBD_NBD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "Handshake" */
#define NBD_INIT_MAGIC      0x4e42444d41474943ULL /* "NBDMAGIC" */
#define NBD_OPTION_MAGIC    0x49484156454f5054ULL /* "IHAVEOPT" */
#define NBD_OLDSTYLE_MAGIC  0x0000420281861253ULL
#define NBD_OPT_REPLY_MAGIC 0x0003e889045565a9ULL
/* "Transmission" */
#define NBD_REQUEST_MAGIC          0x25609513U
#define NBD_SIMPLE_REPLY_MAGIC     0x67446698U
#define NBD_STRUCTURED_REPLY_MAGIC 0x668e33efU

/* Sizes on the wire, in bytes */
enum {
	NBD_OLDSTYLE_BYTES = 8 + 8 + 8 + 4 + 124,
	NBD_REQUEST_BYTES = 28,
	NBD_SIMPLE_REPLY_BYTES = 16,
	NBD_CHUNK_BYTES = 20,       /* header of a structured reply chunk */
	NBD_CHUNK_OFFSET_BYTES = 8, /* what precedes the data of OFFSET_DATA */
	NBD_CHUNK_HOLE_BYTES = 12,  /* all of OFFSET_HOLE */
	NBD_NAME_MAX = 4096,        /* "Conventions": strings MUST be no longer */
	NBD_PAYLOAD_MAX = 32 << 20, /* "Size constraints": what everybody must take */
};

enum { /* handshake flags, client flags */
	NBD_FLAG_FIXED_NEWSTYLE = 1 << 0,
	NBD_FLAG_NO_ZEROES = 1 << 1,
};

enum { /* transmission flags */
	NBD_FLAG_HAS_FLAGS = 1 << 0,
	NBD_FLAG_READ_ONLY = 1 << 1,
	NBD_FLAG_SEND_FLUSH = 1 << 2,
	NBD_FLAG_SEND_FUA = 1 << 3,
	NBD_FLAG_ROTATIONAL = 1 << 4,
	NBD_FLAG_SEND_TRIM = 1 << 5,
	NBD_FLAG_SEND_WRITE_ZEROES = 1 << 6,
	NBD_FLAG_SEND_DF = 1 << 7,
	NBD_FLAG_CAN_MULTI_CONN = 1 << 8,
	NBD_FLAG_SEND_CACHE = 1 << 10,
	NBD_FLAG_SEND_FAST_ZERO = 1 << 11,
};

enum { /* "Option types" */
	NBD_OPT_EXPORT_NAME = 1,
	NBD_OPT_ABORT = 2,
	NBD_OPT_LIST = 3,
	NBD_OPT_STARTTLS = 5,
	NBD_OPT_INFO = 6,
	NBD_OPT_GO = 7,
	NBD_OPT_STRUCTURED_REPLY = 8,
	NBD_OPT_LIST_META_CONTEXT = 9,
	NBD_OPT_SET_META_CONTEXT = 10,
};

#define NBD_REP_ACK                 1U
#define NBD_REP_SERVER              2U
#define NBD_REP_INFO                3U
#define NBD_REP_META_CONTEXT        4U
#define NBD_REP_ERR                 0x80000000U /* set in every error */
#define NBD_REP_ERR_UNSUP           (NBD_REP_ERR + 1)
#define NBD_REP_ERR_POLICY          (NBD_REP_ERR + 2)
#define NBD_REP_ERR_INVALID         (NBD_REP_ERR + 3)
#define NBD_REP_ERR_PLATFORM        (NBD_REP_ERR + 4)
#define NBD_REP_ERR_TLS_REQD        (NBD_REP_ERR + 5)
#define NBD_REP_ERR_UNKNOWN         (NBD_REP_ERR + 6)
#define NBD_REP_ERR_SHUTDOWN        (NBD_REP_ERR + 7)
#define NBD_REP_ERR_BLOCK_SIZE_REQD (NBD_REP_ERR + 8)
#define NBD_REP_ERR_TOO_BIG         (NBD_REP_ERR + 9)

enum { /* information types of NBD_REP_INFO */
	NBD_INFO_EXPORT = 0,
	NBD_INFO_NAME = 1,
	NBD_INFO_DESCRIPTION = 2,
	NBD_INFO_BLOCK_SIZE = 3,
};

enum { /* "Request types" */
	NBD_CMD_READ = 0,
	NBD_CMD_WRITE = 1,
	NBD_CMD_DISC = 2,
	NBD_CMD_FLUSH = 3,
	NBD_CMD_TRIM = 4,
	NBD_CMD_CACHE = 5,
	NBD_CMD_WRITE_ZEROES = 6,
	NBD_CMD_BLOCK_STATUS = 7,
};

enum { /* "Command flags" */
	NBD_CMD_FLAG_FUA = 1 << 0,
	NBD_CMD_FLAG_NO_HOLE = 1 << 1,
	NBD_CMD_FLAG_DF = 1 << 2,
	NBD_CMD_FLAG_REQ_ONE = 1 << 3,
	NBD_CMD_FLAG_FAST_ZERO = 1 << 4,
};

enum { NBD_REPLY_FLAG_DONE = 1 << 0 };

enum { /* "Structured reply types" */
	NBD_REPLY_TYPE_NONE = 0,
	NBD_REPLY_TYPE_OFFSET_DATA = 1,
	NBD_REPLY_TYPE_OFFSET_HOLE = 2,
	NBD_REPLY_TYPE_BLOCK_STATUS = 5,
	NBD_REPLY_TYPE_ERR = 1 << 15, /* set in every error chunk */
	NBD_REPLY_TYPE_ERROR = NBD_REPLY_TYPE_ERR + 1,
	NBD_REPLY_TYPE_ERROR_OFFSET = NBD_REPLY_TYPE_ERR + 2,
};

enum { /* flags of base:allocation */
	NBD_STATE_HOLE = 1 << 0,
	NBD_STATE_ZERO = 1 << 1,
};

enum { /* "Error values" */
	NBD_SUCCESS = 0,
	NBD_EPERM = 1,
	NBD_EIO = 5,
	NBD_ENOMEM = 12,
	NBD_EINVAL = 22,
	NBD_ENOSPC = 28,
	NBD_EOVERFLOW = 75,
	NBD_ENOTSUP = 95,
	NBD_ESHUTDOWN = 108,
};

/* Metadata contexts of our server, and the ids that it gives them: base:allocation; and
 * x-xnbd:local, whose only flag tells that a proxy has the range in its own image. */
enum { NBD_BASE_ALLOCATION_ID = 1, NBD_XNBD_LOCAL_ID = 2 };
enum { NBD_STATE_LOCAL = 1 << 0 };

/* ---- wire.c: fields ---------------------------------------------------- */

uint16_t nbd_get16(const void *p);
uint32_t nbd_get32(const void *p);
uint64_t nbd_get64(const void *p);
/* Each returns the byte after what it wrote. */
uint8_t *nbd_put16(uint8_t *p, uint16_t v);
uint8_t *nbd_put32(uint8_t *p, uint32_t v);
uint8_t *nbd_put64(uint8_t *p, uint64_t v);

struct nbd_request_header {
	uint16_t flags;
	uint16_t type;
	uint64_t cookie; /* opaque: kept in the byte order of the wire's integer */
	uint64_t offset; /* bytes */
	uint32_t length; /* bytes */
};

/* p: NBD_REQUEST_BYTES. False: the magic is wrong. Nothing else is checked. */
bool nbd_request_decode(const uint8_t *p, struct nbd_request_header *h);
void nbd_request_encode(uint8_t *p, const struct nbd_request_header *h);

/* p: NBD_SIMPLE_REPLY_BYTES. error: one of "Error values". */
void nbd_simple_reply_encode(uint8_t *p, uint32_t error, uint64_t cookie);

/* p: NBD_CHUNK_BYTES. length: bytes of payload that follow. */
void nbd_chunk_encode(uint8_t *p, uint16_t flags, uint16_t type, uint64_t cookie, uint32_t length);

/*
 * The head of a reply, simple or structured, as a client sees it.
 * For a simple reply `length` is 0: the data that follows a successful READ is
 * as long as the request said.
 */
struct nbd_reply_header {
	bool structured;
	uint16_t flags;
	uint16_t type;
	uint32_t error; /* simple reply only */
	uint64_t cookie;
	uint32_t length; /* structured only: bytes of payload */
};

/*
 * Decodes a reply header from the n bytes at p.
 * Returns its size in bytes (16 or 20), 0 when n is too small to tell, -1 when
 * the magic is neither of the two.
 */
int nbd_reply_decode(const uint8_t *p, size_t n, struct nbd_reply_header *h);

/* zeroes.c. How many of the n bytes at p are zero before the first that is not. */
uint32_t nbd_zeroes(const uint8_t *p, uint32_t n);

/* errno -> "Error values" (EDQUOT and EFBIG are ENOSPC; unknown ones EIO). */
uint32_t nbd_error_from_errno(int err);
/* "Error values" -> errno. Unknown values count as EINVAL ("Error values"). */
int nbd_errno_from_error(uint32_t error);

/* ---- server_handshake.c ------------------------------------------------- */

/* What a server tells about an export. */
struct nbd_export {
	const char *name; /* NUL-terminated, at most NBD_NAME_MAX bytes */
	uint64_t size_bytes;
	uint16_t transmission_flags; /* without SEND_DF, which the handshake adds */
	uint32_t min_block;          /* powers of 2, bytes */
	uint32_t preferred_block;
	uint32_t max_payload;
	bool allocation; /* offers base:allocation */
	bool local;      /* offers x-xnbd:local */
	const char *description; /* for people, at most NBD_NAME_MAX bytes; NULL: none */
	uint64_t serial;         /* no two of a server have the same, ever */
};

/* Where the handshake writes its replies, and where it finds exports. */
struct nbd_server_ops {
	/* n bytes at p are to be sent to the client; copied before it returns. */
	void (*send)(void *ctx, const void *p, size_t n);
	/* The export of this name (not NUL-terminated; "" is the default export),
	 * or NULL. */
	const struct nbd_export *(*find)(void *ctx, const char *name, size_t n);
	/* The export behind `after`, or, NULL, the first one whose serial is `from` or larger; NULL: there is none. They come by their
	 * serials. */
	const struct nbd_export *(*list)(void *ctx, const struct nbd_export *after, uint64_t from);
	/* Whether a list may go on: its replies are as long as the names of all exports, and the client may not read them. NULL: it may. */
	bool (*has_room)(void *ctx);
	/* Whether the client may have e, which one of these two has returned; told: it is told, if not. NULL: it may
	 * have all. */
	bool (*may)(void *ctx, const struct nbd_export *e, bool told);
};

/* TLS, as a server has it ("Server-side requirements"). */
enum nbd_tls {
	NBD_TLS_UNKNOWN, /* it knows nothing of it */
	NBD_TLS_OFF,     /* NOTLS, by policy */
	NBD_TLS_ON,      /* the client may: SELECTIVETLS, of which no export needs it */
	NBD_TLS_REQUIRE, /* FORCEDTLS */
	NBD_TLS_DONE,    /* the connection has it */
};

/* One server side handshake. Zero it, then call nbd_server_greet(). */
struct nbd_server_handshake {
	const struct nbd_server_ops *ops; /* set by the caller */
	void *ctx;                        /* set by the caller */
	enum nbd_tls tls;                 /* set by the caller; then what has become of it */
	bool got_client_flags;
	bool fixed;      /* the client speaks fixed newstyle */
	bool structured; /* result: structured replies were negotiated */
	bool allocation; /* result: base:allocation is selected, id NBD_BASE_ALLOCATION_ID */
	bool local;      /* result: x-xnbd:local is, id NBD_XNBD_LOCAL_ID */
	bool sized;      /* result: the client has asked for the block sizes with GO: it keeps to them */
	uint32_t skip_bytes;                  /* rest of an option too long to read, or refused */
	uint32_t skip_option;
	uint64_t meta_serial; /* of the export for which it was selected, and which may be gone */
	const struct nbd_export *export; /* result: set when the handshake is done */
	bool hides; /* set by the caller: no client is told the names of the exports */
	bool lists; /* a list waits for room: the option was not consumed, and is to be given again when some of the replies have left */
	uint64_t list_from; /* serial of the export that it goes on with */
};

enum {
	/* Longest option we read; longer ones are skipped and answered TOO_BIG.
	 * Holds a name of NBD_NAME_MAX and a dozen queries. */
	NBD_OPTION_MAX = 16384,
};

enum nbd_handshake_state {
	NBD_HS_MORE, /* give more bytes */
	NBD_HS_DONE, /* transmission phase begins after the consumed bytes */
	NBD_HS_TLS,  /* TLS begins when what was sent has left. If there are bytes after the consumed ones, an
			attacker may have injected them: close the connection. Then go on with those that
			come over TLS */
	NBD_HS_CLOSE /* close the connection (after what was sent has left) */
};

/* Sends the server's first bytes of fixed newstyle ("Newstyle negotiation"). */
void nbd_server_greet(struct nbd_server_handshake *h);
/* Sends the whole oldstyle handshake; transmission follows at once. */
void nbd_server_greet_oldstyle(struct nbd_server_handshake *h, const struct nbd_export *e);

/*
 * Takes what the client sent: n bytes at in. *used tells how many were consumed
 * (the rest must be given again, with more behind it). At most
 * NBD_OPTION_MAX + 16 bytes ever need to be held for it to make progress.
 */
enum nbd_handshake_state nbd_server_step(struct nbd_server_handshake *h, const uint8_t *in, size_t n, size_t *used);

/* ---- client_handshake.c ------------------------------------------------- */

/*
 * One client side handshake: oldstyle, newstyle or fixed newstyle, whichever
 * the server's first bytes show. Asks for structured replies, base:allocation
 * and block sizes where it can; does without where it cannot.
 */
struct nbd_client_handshake {
	/* set by the caller */
	void (*send)(void *ctx, const void *p, size_t n);
	void *ctx;
	const char *export_name; /* "" is the default export; at most NBD_NAME_MAX bytes */
	bool plain;  /* ask by EXPORT_NAME and by nothing else */
	bool simple; /* no structured replies, and so no base:allocation: for the kernel's client */
	bool tls;    /* with TLS or not at all: NBD_HS_TLS comes before anything but the greeting */
	/* NULL, or gets the exports of the server, one by one; the handshake asks for these and for none of them.
	 * n bytes of name, at most NBD_NAME_MAX, and more_bytes of description, which need not be printable. */
	void (*listed)(void *ctx, const void *name, size_t n, const void *more, size_t more_bytes);
	/* private */
	int state;
	bool no_zeroes;
	bool got_export;
	/* results */
	uint64_t size_bytes;
	uint16_t transmission_flags;
	bool oldstyle;            /* the server cannot be asked for a name */
	bool structured;          /* structured replies negotiated */
	bool allocation;          /* base:allocation selected */
	uint32_t allocation_id;   /* the id of base:allocation */
	uint32_t min_block;       /* 1 when the server does not say */
	uint32_t preferred_block; /* 4096 when the server does not say */
	uint32_t max_payload;     /* NBD_PAYLOAD_MAX when the server does not say */
	char error[160];          /* why NBD_HS_CLOSE: one line, printable, for a person */
};

/* Prepares h (what the caller sets is set before). Sends nothing yet. */
void nbd_client_start(struct nbd_client_handshake *h);

/* After NBD_HS_TLS: the connection has it. Sends the next option. */
void nbd_client_secured(struct nbd_client_handshake *h);

/* Like nbd_server_step(). Never needs more than NBD_OPTION_MAX + 20 bytes at
 * once. On NBD_HS_CLOSE `error` says why ("export 'x' is unknown to the
 * server", "does not speak NBD", ...). */
enum nbd_handshake_state nbd_client_step(struct nbd_client_handshake *h, const uint8_t *in, size_t n, size_t *used);

/* Whether the handshake awaits the reply to an option that may confuse an old server. nbd-server 3.8
 * to 3.14 answers an option that it does not know without reading its data, and then disconnects: if
 * it does, connect once more, with `plain`. */
bool nbd_client_is_haggling(const struct nbd_client_handshake *h);

/* ---- uri.c ---------------------------------------------------------------- */

/* What a URI of NBD ("doc/uri.md") names. */
struct nbd_uri {
	const char *path;       /* of a Unix socket; NULL: host and port are used */
	const char *host, *port; /* an address of IPv6 has no brackets */
	const char *export_name;
	bool tls;
	const char *user;     /* TLS: the name of the key; NULL: not given */
	const char *psk_file; /* TLS: the file of keys */
};

/* Takes nbd://HOST[:PORT][/EXPORT] and nbd+unix:///[EXPORT]?socket=PATH apart, with %XX for any byte but 0; with
 * TLS nbds://[USER@]HOST... and nbds+unix://[USER@]/..., and tls-psk-file=FILE behind the question mark.
 * u points into text, which is changed. Returns NULL, or what is wrong with it. */
const char *nbd_uri_parse(char *text, struct nbd_uri *u);
/* Whether text is a URI, of whatever kind. */
bool nbd_is_uri(const char *text);
/* The value of a hexadecimal digit; -1: c is none. */
int nbd_hex_digit(char c);
/* %XX to bytes, in place; the control socket has the same. False: it is none, or would end the text. */
bool nbd_percent_decode(char *s);

/* ---- utf8.c ------------------------------------------------------------- */

/* How many of the n bytes are UTF-8, as characters: n if all of them are. */
size_t nbd_utf8(const char *text, size_t n);

/* ---- gaps.c: which bytes of a structured reply are still to come --------- */

enum {
	/* Most holes left open in one reply at a time. Servers send chunks in
	 * order, which needs 1; a reply that needs more is refused. */
	NBD_GAPS_MAX = 16,
};

struct nbd_gaps {
	unsigned count;
	struct { uint32_t first, end; } gap[NBD_GAPS_MAX]; /* bytes, relative to the request */
};

void nbd_gaps_init(struct nbd_gaps *g, uint32_t length_bytes);
/* A content chunk covers [first, first + length). False: empty, outside of the
 * request, overlaps an earlier chunk, or too many gaps ("Structured reply
 * types"); the caller then disconnects. */
bool nbd_gaps_fill(struct nbd_gaps *g, uint64_t first, uint32_t length_bytes);
/* True when every byte has come. */
bool nbd_gaps_filled(const struct nbd_gaps *g);

#endif
