/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The kernel's TLS (Documentation/networking/tls.rst): after the handshake the TCP socket itself takes and gives data,
 * and the kernel makes and opens the records.
 *
 * Records of a peer that are not data make recv(2) fail with EIO: every recv(2), recvmsg(2) of who has such a socket goes
 * through kernel_tls_received(). New keys of the peer (KeyUpdate) are the end of a connection: Linux 6.1 and 6.12 do
 * not take any. GnuTLS and OpenSSL send none by themselves with this cipher.
 *
 * Any thread, one at a time for a socket.
 */
#ifndef SECURE_KERNEL_TLS_H
#define SECURE_KERNEL_TLS_H

#include "libbb.h"
#include "tls/tls.h"

/* No connection goes to the kernel: it allocates memory for each record. Set at the start, and when
 * it is known that there is no module. */
extern _Atomic bool kernel_tls_off;

enum { X_SIOCOUTQ = 0x5411 }; /* linux/sockios.h: bytes that the peer has not acknowledged */

enum kernel_tls {
	KERNEL_TLS_NONE, /* not for this socket: it is as it was */
	KERNEL_TLS_ON,   /* from the next byte on in each direction; t is of no use any more */
	KERNEL_TLS_HALF, /* for one direction only: the connection is to be closed */
};

/* t: after the handshake, with nothing received beyond it, and all sent that is to be. fd: any socket. */
enum kernel_tls kernel_tls_begin(int fd, const struct tls *t);

/* Receives the record because of which recv(2) has failed with EIO. server: as which side. Returns what recv(2) would:
 * 0: the peer's close_notify, or its end; -1 with EAGAIN: it means nothing; -1: the connection is to be closed. */
ssize_t kernel_tls_control(int fd, bool server);

/* n: what recv(2) or recvmsg(2) has returned; returns what is to be done in its place. */
static inline ssize_t kernel_tls_received(int fd, bool server, ssize_t n)
{
	return ENABLE_FEATURE_XNBD_TLS_KERNEL && n < 0 && errno == EIO ? kernel_tls_control(fd, server) : n;
}

/* Whether not all that was sent has reached the peer. Then close(2) and shutdown(2) might lose the end of it: the
 * kernel drops a record that TCP has had no room for. False for a socket without the kernel's TLS. */
bool kernel_tls_is_sending(int fd);
/* Sends close_notify, if there is room for it. Nothing for any other socket. */
void kernel_tls_end(int fd);

#endif
