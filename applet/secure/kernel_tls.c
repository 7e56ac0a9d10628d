/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The kernel's TLS: start, control records, end. */
//config:config FEATURE_XNBD_TLS_KERNEL
//config:	bool "The kernel's TLS (1.6 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_TLS
//config:	help
//config:	Over TCP, the kernel makes and opens the records after the handshake,
//config:	where it has the module tls, from Linux 5.11 on. Without this, threads
//config:	of the server do.
#include "secure/kernel_tls.h"

#include <stdatomic.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

enum { /* linux/tls.h */
	X_TLS_TX = 1,
	X_TLS_RX = 2,
	X_TLS_RX_EXPECT_NO_PAD = 4, /* of Linux 6.0 */
	X_TLS_SET_RECORD_TYPE = 1,
	X_TLS_GET_RECORD_TYPE = 2,
	X_TLS_1_3_VERSION = 0x0304,
	X_TLS_CIPHER_CHACHA20_POLY1305 = 54, /* of Linux 5.11 */
};

enum {
	TELL_S = 10,
	RECORD_BYTES = 2048, /* of what is not data: two tickets of OpenSSL are 500 */
	NEW_SESSION_TICKET = 4,
	KEY_UPDATE = 24,
	MESSAGE_HEADER_BYTES = 4,
	CLOSE_NOTIFY = 0,
	UNEXPECTED_MESSAGE = 10,
	USER_CANCELED = 90,
};

/* As struct tls12_crypto_info_chacha20_poly1305 */
struct crypto_info {
	uint16_t version, cipher;
	struct tls_keys keys;
};
_Static_assert(sizeof(struct crypto_info) == 56, "as the kernel has it");

/* With a place for the type of a record */
struct record {
	struct msghdr m;
	struct iovec v;
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(1)];
	} control;
};

_Atomic bool kernel_tls_off;

static void record_init(struct record *r, void *content, size_t bytes)
{
	memset(r, 0, sizeof(*r));
	r->v.iov_base = content;
	r->v.iov_len = bytes;
	r->m.msg_iov = &r->v;
	r->m.msg_iovlen = 1;
	r->m.msg_control = &r->control;
	r->m.msg_controllen = sizeof(r->control.room);
}

/* ---- begin ----------------------------------------------------------------------------------- */

static bool give_keys(int fd, const struct tls *t, int direction)
{
	struct crypto_info i = { .version = X_TLS_1_3_VERSION, .cipher = X_TLS_CIPHER_CHACHA20_POLY1305 };
	bool ok;

	tls_ktls_keys(t, direction == X_TLS_TX, &i.keys);
	ok = setsockopt(fd, SOL_TLS, direction, &i, sizeof(i)) == 0;
	wipe(&i, sizeof(i));
	return ok;
}

enum kernel_tls kernel_tls_begin(int fd, const struct tls *t)
{
	const int on = 1;

	/* Without keys it is TCP as before, so a kernel without the cipher does no harm. */
	if (kernel_tls_off)
		return KERNEL_TLS_NONE;
	if (setsockopt(fd, IPPROTO_TCP, TCP_ULP, "tls", sizeof("tls")) < 0) {
		kernel_tls_off = errno == ENOENT; /* it would run modprobe(8) for each connection */
		return KERNEL_TLS_NONE;
	}
	if (!give_keys(fd, t, X_TLS_TX))
		return KERNEL_TLS_NONE;
	if (!give_keys(fd, t, X_TLS_RX))
		return KERNEL_TLS_HALF;
	/* Only faster: the data of a record without padding goes to its place at once. */
	setsockopt(fd, SOL_TLS, X_TLS_RX_EXPECT_NO_PAD, &on, sizeof(on));
	return KERNEL_TLS_ON;
}

/* ---- records that are not data ------------------------------------------------------------------- */

static void send_alert(int fd, uint8_t description)
{
	uint8_t alert[2] = { description == CLOSE_NOTIFY ? 1 : 2, description }; /* warning, fatal */
	struct record r;

	record_init(&r, alert, sizeof(alert));
	r.control.head.cmsg_level = SOL_TLS;
	r.control.head.cmsg_type = X_TLS_SET_RECORD_TYPE;
	r.control.head.cmsg_len = CMSG_LEN(1);
	*CMSG_DATA(&r.control.head) = TLS_TYPE_ALERT;
	sendmsg(fd, &r.m, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t refuse(int fd, int error)
{
	send_alert(fd, UNEXPECTED_MESSAGE);
	errno = error;
	return -1;
}

static ssize_t parse_alert(int fd, const uint8_t *content, size_t bytes)
{
	if (bytes != 2)
		return refuse(fd, EPROTO);
	if (content[1] == CLOSE_NOTIFY)
		return 0;
	errno = content[1] == USER_CANCELED ? EAGAIN : ECONNABORTED;
	return -1;
}

/* Of all connections, one every TELL_S is told. */
static void tell_new_keys(void)
{
	static _Atomic unsigned told_s;
	unsigned last = told_s, now = (unsigned)(monotonic_ms() / 1000) + 1; /* never 0 */

	if ((!last || now - last >= TELL_S) && atomic_compare_exchange_strong(&told_s, &last, now))
		bb_simple_error_msg("TLS: this kernel does not support the KeyUpdate of a peer: its connection ends");
}

/* Tickets are skipped, if they are whole: nobody begins a connection with one here. */
static ssize_t parse_messages(int fd, bool server, const uint8_t *content, size_t bytes)
{
	if (bytes && content[0] == KEY_UPDATE)
		tell_new_keys();
	if (server || !bytes)
		return refuse(fd, EPROTO);
	while (bytes) {
		size_t n = MESSAGE_HEADER_BYTES;

		if (bytes >= n)
			n += (size_t)content[1] << 16 | content[2] << 8 | content[3];
		if (bytes < n || content[0] != NEW_SESSION_TICKET)
			return refuse(fd, EPROTO);
		content += n;
		bytes -= n;
	}
	errno = EAGAIN;
	return -1;
}

ssize_t kernel_tls_control(int fd, bool server)
{
	uint8_t content[RECORD_BYTES];
	const struct cmsghdr *c;
	struct record r;
	ssize_t n;
	uint8_t type;

	record_init(&r, content, sizeof(content));
	n = recvmsg(fd, &r.m, MSG_DONTWAIT);
	if (n < 0)
		return -1;
	c = CMSG_FIRSTHDR(&r.m);
	if (!c || c->cmsg_level != SOL_TLS || c->cmsg_type != X_TLS_GET_RECORD_TYPE) {
		errno = EIO;
		return n ? -1 : 0;
	}
	type = *CMSG_DATA(c);
	if (type == TLS_TYPE_ALERT)
		return parse_alert(fd, content, (size_t)n);
	if (type == TLS_TYPE_HANDSHAKE)
		return parse_messages(fd, server, content, (size_t)n);
	return refuse(fd, EPROTO);
}

/* ---- end ----------------------------------------------------------------------------------------- */

static bool is_on(int fd)
{
	char name[16]; /* TCP_ULP_NAME_MAX */
	socklen_t n = sizeof(name);

	return getsockopt(fd, IPPROTO_TCP, TCP_ULP, name, &n) == 0 && n >= sizeof("tls") && memcmp(name, "tls", sizeof("tls")) == 0;
}

bool kernel_tls_is_sending(int fd)
{
	int bytes = 0;

	return is_on(fd) && ioctl(fd, X_SIOCOUTQ, &bytes) == 0 && bytes > 0;
}

void kernel_tls_end(int fd)
{
	if (is_on(fd))
		send_alert(fd, CLOSE_NOTIFY);
}
