/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The state that a server hands over to the program that replaces it in the same process (server/upgrade.c): a sequence
 * of records. This file is their format; HANDOVER_VERSION changes with the format and with the order of the records.
 *
 *   record: u32 type; u32 n, the number of bytes after the struct; the struct of this type; n bytes; padding: at least
 *           one zero byte, up to a multiple of 8
 *
 * Everything is in native byte order: only another program on this machine reads it, perhaps one of another width
 * (32-bit, 64-bit). A struct has fields of fixed width, and no padding but what it names. It begins with its
 * descriptors (-1: none), then come its bools, then numbers. So handover_walk() can find all descriptors and check
 * alone whether a state is complete; the functions that read records need not check that again.
 *
 * Each room has a function X_handover() for both directions: it writes its state or, if handover.reads is set, restores
 * what another program has written. After a missing record no later one is found, which is detected at the end.
 *
 * The core's thread. There is one state in a process, `handover`; server/upgrade.c owns its memory.
 */
#ifndef REACTOR_HANDOVER_H
#define REACTOR_HANDOVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The first record, a HANDED_TEXT, which all versions begin with. After the version come the features that the sequence
 * of records depends on, and those that were negotiated with clients or are recorded on the disk. */
#define HANDOVER_VERSION "xnbd state 7" IF_FEATURE_XNBD_SERVER_INIT(" init") IF_FEATURE_XNBD_SERVER_AUTO(" auto") \
	IF_FEATURE_XNBD_SERVER_STRUCTURED(" structured") IF_FEATURE_XNBD_SERVER_VERIFY(" verify") IF_FEATURE_XNBD_SERVER_COVER(" cover") \
	IF_FEATURE_XNBD_TLS(" tls") IF_FEATURE_XNBD_SERVER_TRACE(" trace") IF_FEATURE_XNBD_WRAPPER_PROXY(" proxies")

enum handed {
	HANDED_NUMBER,
	HANDED_FD,
	HANDED_TEXT, /* bytes; the padding behind them makes them a string */
	HANDED_PATH,
	HANDED_EXPORT,
	HANDED_PROXY,
	HANDED_CONTROL,
	HANDED_DEVICE,
	HANDED_SESSION,
	/* Of the session before them. */
	HANDED_REPLY,
	HANDED_REQUEST,
	HANDED_PIECE, /* of the WRITE before it */
	HANDED_TYPES
};

#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wpadded"

/* A path that is removed in the end. Behind it: the path. */
struct handed_path {
	uint64_t dev, ino;
};

/* As in struct disk, from `fd` on; commit_base is not behind the others there. */
struct handed_disk {
	int32_t fd[3], header_fd, direct_fd, cover_fd;
	bool is_device, holes_known, switched, removed;
	uint32_t direct_unit;
	uint64_t commit_base;
};

/* Behind it: its name; then a HANDED_TEXT for the path of each file. */
struct handed_export {
	struct handed_disk disk;
	uint64_t size_bytes, serial;
};

/* Of xnbd-wrapper: then a HANDED_TEXT, what it was added with. Then a HANDED_TEXT for host, port and name of the origin, and for the
 * file of its key; what its policy and its boot trace have; of xnbd-wrapper: its control socket. */
struct handed_proxy {
	uint64_t export; /* serial */
	uint64_t hold_ms, copy_rate, verify_rate;
	uint32_t copy, verify; /* enum job_state */
};

/* Behind it: what it has sent. Then a HANDED_TEXT: what it has to be sent. */
struct handed_control {
	int32_t fd;
	bool waiting, follow, verifies, owns_job, heard, talks, xnbd04_detects, eof; /* as in struct control; waiting: for this upgrade */
	uint32_t reserved;
	uint64_t export; /* of one that talks: the serial of what its request is about, or NO_EXPORT */
};

/* Of /dev/nbdN, then a HANDED_NUMBER for the socket of each connection; or, behind all those, of /dev/ublkbN, with no more
 * than its export, then a HANDED_NUMBER for its identity. */
struct handed_device {
	bool is_new, is_scanned; /* as in struct device */
	uint16_t reserved_16;
	uint32_t pid, index, reserved_32;
	uint64_t export; /* serial; NO_EXPORT: it has ended */
};

/* As in struct nbd_server_handshake, from got_client_flags on. */
struct handed_handshake {
	bool got_client_flags, fixed, structured, allocation, local, sized;
	uint16_t reserved;
	uint32_t skip_bytes, skip_option;
};

/* Behind it: what was received and not taken. Then two HANDED_TEXTs: what the handshake has to send, and the name
 * of the client's key. */
struct handed_session {
	int32_t fd;
	bool open, hang_up; /* as in struct session */
	bool is_owned;      /* somebody waits for its end: a device */
	bool disconnected;
	struct handed_handshake handshake;
	uint32_t state, out_sent; /* as in struct session */
	uint64_t export, meta;    /* serials; export: or NO_EXPORT */
};

/* As in struct request, from its beginning. */
struct handed_request {
	uint64_t offset;
	uint32_t length;
	uint16_t type, flags;
};

/* A reply that is not sent, a request that is not answered, or a piece of a WRITE that is not written. Followed by as
 * much of its data as has arrived. */
struct handed_command {
	bool begun;
	bool held;     /* of a reply: behind the READ that is open */
	bool payload;  /* of a WRITE: its data is still coming */
	bool reserved;
	uint32_t bytes; /* of data, when all is there */
	struct handed_request request;
	struct handed_progress {
		uint64_t cookie, at; /* as in struct command */
		uint32_t rest, error;
	} progress;
	uint8_t header_bytes, header[32]; /* as in struct command */
	uint8_t reserved_end[7];
};

#pragma GCC diagnostic pop

/* On i386 the alignment of uint64_t is less than its size, so -Wpadded has checked other layouts there: the sizes must
 * be the same. */
_Static_assert(sizeof(struct handed_path) == 16 && sizeof(struct handed_export) == 56 && sizeof(struct handed_proxy) == 40 &&
	       sizeof(struct handed_control) == 24 && sizeof(struct handed_device) == 24 && sizeof(struct handed_session) == 48 &&
	       sizeof(struct handed_command) == 88, "the same in a 32-bit program");

/* Of each type: the bytes of its struct, and how many descriptors and bools it begins with. */
extern const struct handed_kind {
	uint8_t bytes, fds, bools;
} handed_kinds[HANDED_TYPES];

enum { NO_EXPORT = UINT32_MAX };

extern struct handover {
	uint8_t *bytes;
	size_t count;    /* written, or to be read */
	size_t room;     /* for writing */
	size_t at;       /* of the next to be read */
	const void *more; /* what is behind the last record that was read; a zero is behind that */
	size_t more_bytes;
	bool reads;
	const char *why; /* writing: one line: what cannot be handed over now, or that memory is lacking. NULL: nothing */
} handover;

extern const char handover_busy[]; /* for why */

/* At the start: what was handed over is not for this program. */
void handover_die(void) NORETURN;

/* Bytes in a file that is nowhere but in memory, and mapped: of a process whose memory is locked, it cannot be swapped
 * out to the disk that this process serves. Any thread. */
struct memory {
	int fd; /* -1: none */
	uint8_t *map;
	size_t bytes;
};

/* The bytes, zeroed. NULL: there is none. To be freed in any case. */
void *memory_new(struct memory *m, size_t bytes);
void memory_free(struct memory *m);

/* Writes one with n bytes behind it. Returns its struct, zeroed, until the next call. */
void *handover_put(enum handed type, const void *more, size_t n);
/* The struct of the next one, if that is of this type; else NULL. It stays where it is. */
void *handover_get(enum handed type);
/* Reads over all of this type and those behind it, up to any other. */
void handover_skip(enum handed first);

/* One, by handover.reads. What is not there to be read stays as it is. */
void handover_number(uint64_t *n);
void handover_fd(int *fd);
/* A text that was read is allocated, the caller's; "" is none: *s stays as it is. NULL is "". */
void handover_text(char **s);

/* Checks all records from handover.at on, and applies this ioctl(2), FIOCLEX or FIONCLEX (0: none), to their
 * descriptors. False: the records are incomplete, or a descriptor is not open. */
bool handover_walk(unsigned request);

#endif
