/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The kernel's TLS (Documentation/networking/tls.rst): after the handshake, the TCP socket itself carries plain data,
 * and the kernel encrypts and decrypts the records.
 *
 * A record that is not application data makes recv(2) fail with EIO: every recv(2) and recvmsg(2) on such a socket must
 * go through kernel_tls_received(). A KeyUpdate of the peer ends the connection: Linux 6.1 and 6.12 do not support it.
 * GnuTLS and OpenSSL send none by themselves with this cipher.
 *
 * Any thread, one at a time for a socket.
 */
#ifndef SECURE_KERNEL_TLS_H
#define SECURE_KERNEL_TLS_H

#include "libbb.h"
#include "tls/tls.h"

/* True: do not use the kernel's TLS. Set at the start with --root-storage, since the kernel allocates memory for each
 * record, and when the module is found to be missing. */
extern _Atomic bool kernel_tls_off;

enum { X_SIOCOUTQ = 0x5411 }; /* linux/sockios.h: bytes that the peer has not acknowledged */

enum kernel_tls {
	KERNEL_TLS_NONE, /* not for this socket: it is as it was */
	KERNEL_TLS_ON,   /* in use from the next byte on, in both directions; t must not be used any more */
	KERNEL_TLS_HALF, /* for one direction only: the connection is to be closed */
};

/* t: after the handshake, with nothing received beyond it, and all sent that is to be. fd: any socket. */
enum kernel_tls kernel_tls_begin(int fd, const struct tls *t);

/* Receives the record because of which recv(2) has failed with EIO. server: as which side. Returns what recv(2) would:
 * 0: close_notify or end of stream; -1 with EAGAIN: the record can be ignored; -1 with any other errno: close the
 * connection. */
ssize_t kernel_tls_control(int fd, bool server);

/* n: what recv(2) or recvmsg(2) has returned; returns the value to use instead. */
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
