/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A relay: the handshake, then data to records and back, if the kernel does not. Only wait_for_more() blocks. */
#include "libbb.h"
#include "secure/relay.h"

#include <poll.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/random.h>

enum {
	IN_BYTES = 2 * TLS_RECORD_MAX, /* of records that have come: one recv(2) brings several short ones */
	OUT_BYTES = TLS_DATA_MAX + TLS_OVERHEAD,
	WHO_BYTES = 128,
	CHECK_MS = 5000,     /* how often a peer that is silent is looked at */
	LINGER_CHECKS = 6,   /* ... and after so many, one that takes nothing of what is left for it is given up */
	LEAVE_MS = LINGER_CHECKS * CHECK_MS, /* how long one that has all of it in its queue may take to acknowledge it */
	LEAVE_POLL_MS = 20,
	TELL_S = 10,         /* a failed handshake is told no more often, nor is one that has not */
};

struct relay {
	int net, local;
	bool server;
	bool keyed;      /* the handshake is done, but for what it has to send */
	bool up;         /* ... and who has the connection knows */
	bool done;
	bool in_ended;   /* the peer sends no more */
	bool out_ended;  /* nor does who has the connection; close_notify is in out, or was */
	bool deaf;       /* ... nor takes it anything */
	bool update;     /* a KeyUpdate is to be sent */
	bool sent;       /* all has been, no more comes */
	bool (*is_dead)(int net);
	const char *failure; /* of the handshake */
	const uint8_t *data; /* to local: in `in`, or a constant */
	size_t data_bytes;
	size_t in_first, in_end, out_first, out_end;
	struct tls tls;
	struct psk psk;
	char who[WHO_BYTES];
	uint8_t in[IN_BYTES], out[OUT_BYTES];
};

_Atomic unsigned relays_served, relays_open;

struct relay *relay_new(int net, int local, const struct psk *psk, const char *who, bool (*is_dead)(int net))
{
	struct relay *r = secret_new(sizeof(*r));

	if (!r)
		return NULL;
	r->net = net;
	r->local = local;
	r->server = !psk;
	r->is_dead = is_dead;
	if (psk)
		r->psk = *psk;
	snprintf(r->who, sizeof(r->who), "%s", who);
	relays_served += r->server;
	return r;
}

void relay_free(struct relay *r)
{
	relays_served -= r->server;
	relays_open -= r->server && r->up;
	secret_free(r, sizeof(*r));
}

/* ---- what goes wrong ---------------------------------------------------------------------- */

/* By which name a key was asked for, as text for a message. */
static void name_text(const struct relay *r, char *to, size_t room)
{
	size_t n, i;
	const uint8_t *name = tls_name(&r->tls, &n);

	for (i = 0; i < n && i < room - 1; i++)
		to[i] = (char)(name[i] > ' ' && name[i] <= '~' ? name[i] : '?');
	to[i] = '\0';
}

/* what: why TLS has failed; NULL: it is up. */
static void tell(const struct relay *r, const char *what)
{
	static struct {
		_Atomic unsigned told_s, more;
	} told[2], *t;
	unsigned last, now = (unsigned)(monotonic_ms() / 1000) + 1; /* never 0 */
	char name[64];

	t = &told[!what];
	last = t->told_s;
	if ((last && now - last < TELL_S) || !atomic_compare_exchange_strong(&t->told_s, &last, now)) {
		t->more++;
		return;
	}
	name_text(r, name, sizeof(name));
	bb_error_msg("%s, key '%s': TLS: %s; %u more have %s", r->who, name, what ? what : "connected", atomic_exchange(&t->more, 0),
		     what ? "failed" : "connected");
}

/* The end of r, with the last record to the peer, if it takes one. */
static void give_up(struct relay *r, const char *why)
{
	r->done = true;
	if (!r->up)
		r->failure = why;
	else if (r->server)
		tell(r, why);
}

/* ---- the socket of the peer ------------------------------------------------------------------ */

/* False: there is nothing to send now, or no room for it. */
static bool send_records(struct relay *r)
{
	ssize_t n;

	if (r->out_first == r->out_end)
		return false;
	n = send(r->net, r->out + r->out_first, r->out_end - r->out_first, MSG_NOSIGNAL | MSG_DONTWAIT); /* that of inetd blocks, and is others' too */
	if (n < 0) {
		r->done = errno != EAGAIN && errno != EINTR;
		return false;
	}
	r->out_first += (size_t)n;
	if (r->out_first < r->out_end)
		return true;
	r->out_first = r->out_end = 0;
	if (r->out_ended) {
		r->sent = true;
		shutdown(r->net, SHUT_WR);
		r->done = r->in_ended || r->deaf;
	}
	return true;
}

/* False: there is nothing. */
static bool receive_records(struct relay *r)
{
	ssize_t n;

	if (r->in_ended || r->deaf || r->data_bytes)
		return false;
	memmove(r->in, r->in + r->in_first, r->in_end - r->in_first);
	r->in_end -= r->in_first;
	r->in_first = 0;
	/* What is behind the handshake may be for the kernel. */
	n = recv(r->net, r->in + r->in_end, r->up ? sizeof(r->in) - r->in_end : tls_wanted(&r->tls), MSG_DONTWAIT);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		if (!r->up)
			r->failure = n < 0 ? strerror(errno) : "the peer hung up in the handshake";
		r->done = true;
		return false;
	}
	r->in_end += (size_t)n;
	return true;
}

/* ---- the handshake ------------------------------------------------------------------------------ */

static const uint8_t *lookup(void *ctx, const uint8_t *name, size_t bytes, size_t *psk_bytes)
{
	struct relay *r = ctx;

	if (!psk_find(name, bytes, &r->psk))
		return NULL;
	*psk_bytes = r->psk.key_bytes;
	return r->psk.key;
}

static void step(struct relay *r)
{
	size_t used = 0;

	switch (tls_handshake(&r->tls, r->in + r->in_first, r->in_end - r->in_first, &used, r->out, &r->out_end)) {
	case TLS_DONE:
		r->keyed = true;
		wipe(&r->psk, sizeof(r->psk));
		break;
	case TLS_FAILED:
		send_records(r);
		give_up(r, tls_reason(&r->tls));
		break;
	default:
		break;
	}
	r->in_first += used;
}

static bool start(struct relay *r)
{
	uint8_t random[TLS_RANDOM_BYTES];
	size_t have = 0;

	/* Waits, early in the life of a machine, until there is randomness. */
	while (have < sizeof(random)) {
		ssize_t n = getrandom(random + have, sizeof(random) - have, 0);

		if (n < 0 && errno != EINTR)
			return false;
		have += n > 0 ? (size_t)n : 0;
	}
	if (r->server)
		tls_begin_server(&r->tls, lookup, r, random);
	else if (!tls_begin_client(&r->tls, r->psk.name, r->psk.name_bytes, r->psk.key, r->psk.key_bytes, random))
		return false;
	wipe(random, sizeof(random));
	if (!r->server)
		step(r);
	return true;
}

/* The first that is said to who has the connection: a zero, the length of the name of a client's key, the name; perhaps
 * with a descriptor to go on with. In one piece, so that all of it is there when the first byte is. */
static bool tell_local(const struct relay *r, int fd)
{
	uint8_t hello[2 + TLS_NAME_MAX] = { 0 };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec v = { hello, 2 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1 };
	const uint8_t *name;
	size_t n = 0;

	if (r->server) {
		name = tls_name(&r->tls, &n);
		memcpy(hello + 2, name, n);
		hello[1] = (uint8_t)n;
		v.iov_len += n;
	}

	if (fd >= 0) {
		memset(&control, 0, sizeof(control));
		m.msg_control = &control;
		m.msg_controllen = sizeof(control.room);
		control.head.cmsg_level = SOL_SOCKET;
		control.head.cmsg_type = SCM_RIGHTS;
		control.head.cmsg_len = CMSG_LEN(sizeof(fd));
		memcpy(CMSG_DATA(&control.head), &fd, sizeof(fd));
	}
	return sendmsg(r->local, &m, MSG_NOSIGNAL) == (ssize_t)v.iov_len;
}

/* All of the handshake has been sent: records are the kernel's, or this relay's. */
static void begin_data(struct relay *r)
{
	enum kernel_tls kernel = ENABLE_FEATURE_XNBD_TLS_KERNEL ? kernel_tls_begin(r->net, &r->tls) : KERNEL_TLS_NONE;

	r->up = true;
	relays_open += r->server;
	r->done = kernel != KERNEL_TLS_NONE;
	if (kernel == KERNEL_TLS_HALF)
		r->failure = "the kernel's TLS has failed";
	else if (!tell_local(r, kernel == KERNEL_TLS_ON ? r->net : -1))
		r->done = true;
	else if (r->server)
		tell(r, NULL);
}

/* False: nothing has happened. */
static bool handshake(struct relay *r)
{
	if (send_records(r))
		return true;
	if (r->out_end || r->done)
		return false;
	if (r->keyed) {
		begin_data(r);
		return true;
	}
	if (!receive_records(r))
		return false;
	step(r);
	return true;
}

/* ---- data ------------------------------------------------------------------------------------- */

/* The next record, if all of it is there. False: it is not. */
static bool open_record(struct relay *r)
{
	size_t have = r->in_end - r->in_first, bytes, n = 0;
	uint8_t *record = r->in + r->in_first, *data = NULL;

	if (r->in_ended || r->data_bytes || have < TLS_HEADER_BYTES)
		return false;
	bytes = tls_record_bytes(record);
	if (bytes > have)
		return false;
	switch (tls_open(&r->tls, record, bytes ? bytes : TLS_HEADER_BYTES, &data, &n)) {
	case TLS_DATA:
		r->data = data;
		r->data_bytes = n;
		break;
	case TLS_REPLY:
		r->update = true;
		break;
	case TLS_NOTHING:
		break;
	case TLS_CLOSED:
		r->in_ended = true;
		shutdown(r->local, SHUT_WR);
		r->done = r->sent;
		break;
	default:
		if (r->out_first == r->out_end) { /* else the peer is in the middle of another record */
			r->out_first = 0;
			r->out_end = tls_end(&r->tls, r->out);
			send_records(r);
		}
		give_up(r, tls_reason(&r->tls));
		break;
	}
	r->in_first += bytes;
	return true;
}

static bool send_data(struct relay *r)
{
	ssize_t n;

	if (!r->data_bytes)
		return false;
	n = r->deaf ? (ssize_t)r->data_bytes : send(r->local, r->data, r->data_bytes, MSG_NOSIGNAL);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n < 0) { /* nobody takes it any more: what the peer still sends is thrown away */
		r->deaf = true;
		r->done = r->sent;
		n = (ssize_t)r->data_bytes;
	}
	r->data += n;
	r->data_bytes -= (size_t)n;
	return true;
}

static bool seal_data(struct relay *r)
{
	ssize_t n;

	if (r->out_end || r->out_ended)
		return false;
	if (r->update) {
		r->update = false;
		r->out_end = tls_key_update(&r->tls, r->out);
		return true;
	}
	n = recv(r->local, r->out + TLS_HEADER_BYTES, TLS_DATA_MAX, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n > 0) {
		r->out_end = tls_seal(&r->tls, TLS_TYPE_DATA, r->out, r->out + TLS_HEADER_BYTES, (size_t)n);
		r->done = !r->out_end;
		return true;
	}
	r->out_ended = true;
	r->out_end = tls_end(&r->tls, r->out);
	return true;
}

/* False: nothing has happened. */
static bool transfer(struct relay *r)
{
	bool moved = seal_data(r);

	moved |= send_records(r);
	moved |= send_data(r);
	if (!r->done)
		moved |= open_record(r) || receive_records(r);
	return moved;
}

/* ---- waiting -------------------------------------------------------------------------------------- */

/* Who has the connection has closed its socket. */
static void local_gone(struct relay *r)
{
	r->deaf = true;
	r->done = r->sent || !r->up; /* in the handshake nothing was sent yet */
}

/* Until something can be done. checks: how often nothing could, for CHECK_MS each. */
static void wait_for_more(struct relay *r, unsigned *checks)
{
	bool waits = r->out_first < r->out_end;
	struct pollfd p[2] = { { .fd = r->net, .events = waits ? POLLOUT : 0 }, { .fd = r->deaf ? -1 : r->local } };
	int n;

	if (!r->in_ended && !r->deaf && !r->data_bytes && (r->up || !waits))
		p[0].events |= POLLIN;
	if (r->up && !waits && !r->out_ended)
		p[1].events |= POLLIN;
	if (r->data_bytes)
		p[1].events |= POLLOUT;
	if (!p[0].events) /* an error of it, which nobody would take, is not a reason to wake up */
		p[0].fd = -1;
	n = poll(p, 2, CHECK_MS);
	*checks = n ? 0 : *checks + 1;
	if (!n)
		r->done = (r->is_dead && r->is_dead(r->net)) || (r->deaf && *checks >= LINGER_CHECKS);
	if (p[1].revents & (POLLHUP | POLLERR) && !(p[1].events & POLLIN))
		local_gone(r);
}

/* Waits until the peer has all that was sent, or has ended; what it still sends is thrown away. With a byte of it
 * unread, close(2) would reset the connection, and lose what is on its way. */
static void leave(struct relay *r)
{
	unsigned long long end = monotonic_ms() + LEAVE_MS;
	struct pollfd p = { .fd = r->net, .events = POLLIN };
	int left;

	while (ioctl(r->net, X_SIOCOUTQ, &left) == 0 && left && monotonic_ms() < end) {
		ssize_t n = recv(r->net, r->in, sizeof(r->in), MSG_DONTWAIT);

		if (n == 0 || (n < 0 && errno != EAGAIN))
			return;
		if (n < 0)
			(void)poll(&p, 1, LEAVE_POLL_MS);
	}
}

void *relay_run(void *arg)
{
	struct relay *r = arg;
	unsigned checks = 0;

	secret_stack();
	if (!start(r))
		give_up(r, "no randomness");
	while (!r->done)
		if (!(r->up ? transfer(r) : handshake(r)) && !r->done)
			wait_for_more(r, &checks);
	if (r->failure && r->server)
		tell(r, r->failure);
	else if (r->failure)
		send(r->local, r->failure, strlen(r->failure), MSG_NOSIGNAL | MSG_DONTWAIT);
	close(r->local);
	if (r->sent)
		leave(r);
	close(r->net);
	relay_free(r);
	return NULL;
}

/* ---- who has the connection --------------------------------------------------------------------------- */

/* The descriptor that came with m; -1: none. */
static int passed_fd(struct msghdr *m)
{
	const struct cmsghdr *c = CMSG_FIRSTHDR(m);
	int fd = -1;

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS)
		memcpy(&fd, CMSG_DATA(c), sizeof(fd));
	return fd;
}

int relay_result(int local, char *text)
{
	char control[CMSG_SPACE(sizeof(int))] __attribute__((aligned(__alignof__(struct cmsghdr))));
	struct iovec v = { text, 1 };
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control) };
	ssize_t n = recvmsg(local, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	int fd = n == 1 ? passed_fd(&m) : -1;
	uint8_t name_bytes = 0;

	if (n == 1 && (m.msg_flags & MSG_CTRUNC)) {
		strcpy(text, "no descriptor is left");
		return -1;
	}
	if (n == 1 && !*text) {
		recv(local, &name_bytes, 1, MSG_DONTWAIT);
		n = recv(local, text, name_bytes, MSG_DONTWAIT);
		text[n > 0 ? n : 0] = '\0';
		return fd >= 0 ? fd : local;
	}
	if (n != 1) {
		snprintf(text, RELAY_TEXT_BYTES, "%s", n < 0 ? strerror(errno) : "the connection was lost in the handshake");
		return -1;
	}
	n = recv(local, text + 1, RELAY_TEXT_BYTES - 2, MSG_DONTWAIT);
	text[n > 0 ? n + 1 : 1] = '\0';
	return -1;
}
