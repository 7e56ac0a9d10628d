/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* What the files of xnbd-client call of each other. One thread. */
#ifndef XNBD_CLIENT_H
#define XNBD_CLIENT_H

#include "device/kernel_nbd.h"
#include "nbd/nbd.h"
#include "origin/endpoint.h"
#include "secure/relay.h"

/* ---- xnbd_client_dial.c: servers ----------------------------------------------------------- */

struct server {
	const char *host, *port; /* is_local: "unix", and the path of a Unix socket. For messages: host:port */
	const char *export_name;
	bool is_local;
	const struct psk *psk; /* TLS with this key, or no connection; NULL: no TLS */
	struct endpoints at; /* looked up at the first use, and never again: the name service may depend on the device */
	bool plain;          /* as in struct nbd_client_handshake */
	char told[64];       /* what was wrong last, as it was told */
};

enum { SERVERS_MAX = 8 };
extern struct server servers[SERVERS_MAX + 1]; /* in order; one without host ends them */

/* Puts into servers what words name: HOST [PORT], unix:PATH [-], or a URI. Words end with a NULL, and stay in use.
 * export_name: for those that do not name one. Dies if a word makes no sense, or if there is none. */
void servers_parse(char **words, const char *export_name);
bool servers_use_tls(void);
/* Their keys stay out of the swap space; once more after a fork(2). */
void servers_lock(void);
/* A server on a Unix socket. */
void servers_local(const char *path, const char *export_name);

/* Connects to s and shakes hands. Takes seconds at most, but for a name to be looked up. h: what its caller has to set,
 * but send, ctx, export_name and plain, is set; gets the results. Returns a socket that does not block; -1: server_error
 * tells why, without the name. */
int server_dial(struct server *s, struct nbd_client_handshake *h);
extern char server_error[256];

/* Ends a session in its transmission phase. */
void server_hang_up(int fd);

/* ---- xnbd_client_attach.c: the device ---------------------------------------------------------- */

struct client {
	const char *path; /* of the device */
	unsigned connections; /* 1..KERNEL_NBD_CONNECTIONS_MAX */
	unsigned block_bytes; /* 0: as small as kernel and server allow */
	unsigned timeout_s;   /* 0: none */
	unsigned retries;     /* how often the servers are tried; 0: forever */
	bool readonly, persist, swap, use_ioctl, stay;
	const char *recovery; /* run when the device has lost its server; NULL: nothing */
	bool reboot;          /* instead of that */
};

/* The number of a device; dies if it is none. */
unsigned client_index(const char *path);
/* Opens netlink; false: this kernel has none for nbd. Dies of other errors. */
bool client_netlink(struct kernel_nbd *k);
/* The first server that answers, as server_dial() does; s gets which. Each that does not costs a line; dies if
 * none does. */
int client_dial(const struct client *c, struct nbd_client_handshake *h, struct server **s);
/* Connects the device. Returns the exit status, at once or when the device has been disconnected. */
int client_attach(const struct client *c);

enum { CLIENT_NOTICE_MS = 100 }; /* the kernel tells of a lost connection before it accepts another one */

enum { CLIENT_IDENTIFIER_BYTES = 96 };

/* A device, and what is behind it. */
struct attachment {
	const struct client *c;
	struct kernel_nbd_device device;
	uint64_t size_bytes; /* as the server says it */
	uint32_t max_payload; /* bytes; the longest request of the device, or more */
	struct server *server; /* of the present connections */
	bool is_gone;          /* disconnected, although it may still be open, or another one's */
	unsigned count, pid; /* pid: whoever has connected it, as the kernel says; another one has another device */
	int fds[KERNEL_NBD_CONNECTIONS_MAX]; /* until the kernel has them; without --persist also while their loss is waited for */
	char identifier[CLIENT_IDENTIFIER_BYTES];
};

extern struct kernel_nbd client_kernel, client_events;

/* How long the kernel's requests may be, and when it sends them again. To be called before there are any: from Linux 6.12
 * on, who writes to a file in queue/ waits until all are answered, and cannot be killed; to have them answered may be
 * up to us. So a device that is taken over keeps what it has. */
void client_set_limits(struct attachment *a);
/* Whoever opens a device that is new has its partitions read. */
void client_scan(const struct attachment *a);
void client_die_busy(const struct attachment *a) NORETURN;
void client_die_unconnected(const struct attachment *a, int error) NORETURN;

/* ---- xnbd_client_identity.c: whether this is our disk ------------------------------------------ */

/* Whether a connection made later is to the disk that the device has, and to a server that can what the device was told
 * of the first one. False: server_error tells. */
bool client_is_same_disk(const struct attachment *a, const struct nbd_client_handshake *h);
/* Makes the device's identifier. */
void client_identify(struct attachment *a);
/* Whether the device is of what we serve, and the server can what the device was told of the first one; it stays what
 * it is. */
bool client_is_ours(struct attachment *a);

/* ---- xnbd_client_keep.c: the process that stays with the device -------------------------------- */

/* Memory is locked from now on, as the machine swaps onto the device. Dies if that is not allowed. */
void client_lock_memory(void);
/* Two processes from here on: one keeps the device, and gets true; the other one has its partitions found, and
 * ends. --nofork decides which of the two is the one that was started. */
bool client_divide(const struct client *c);
/* Nobody may wait for our end, or for what we have open. Messages go to the kernel's log. */
void client_to_background(const struct client *c);
/* A server that is waited for has to be found dead: soon, and also while requests wait for it. */
void client_prepare_socket(const struct client *c, int fd);
/* Keeps the device connected, or sees that it is not. Returns the exit status when the device has ended. */
int client_follow(struct attachment *a);

/* ---- xnbd_client_ioctl.c ----------------------------------------------------------------------- */

/* Connects the device for a kernel without netlink for nbd. Returns the exit status. */
int client_attach_by_ioctl(struct attachment *a);

#endif
