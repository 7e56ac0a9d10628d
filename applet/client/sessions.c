/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* All sessions of a thread: detection of dead or slow clients, the work of each turn, and shutdown. */
#include "client/session.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

enum {
	HANDSHAKE_MS = 10000, /* after this long in the handshake, a client may lose its place to a new one */
	SHAKING_MS = 500,     /* ... and so soon if it has shown no key, and nobody else makes no progress: a handshake is a few
				 round trips, and strangers could take all places */
	PAYLOAD_MS = 30000,   /* ... and after this long with one piece of the data of a WRITE */
	CHECK_MS = 5000,      /* how often to look for clients that are gone */
	SILENT_MS = 40000,    /* no TCP acknowledgement for this long, and after */
	SILENT_TRIES = 4,     /* so many retransmissions or probes: the client's machine is gone */
};

struct front fronts[LOOPS_MAX];
_Atomic unsigned session_count, command_count;
bool sessions_stopping;
struct client_limits client_limits;

unsigned sessions_count(void)
{
	return session_count;
}

unsigned sessions_in_flight(void)
{
	return command_count;
}

bool sessions_dirty(void)
{
	return front_here()->dirty != NULL;
}

bool session_peer_is_dead(int fd)
{
	struct tcp_info i;
	socklen_t n = sizeof(i);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &i, &n) == 0 && i.tcpi_retransmits + i.tcpi_probes >= SILENT_TRIES &&
	       i.tcpi_last_ack_recv > SILENT_MS;
}

/* Whether s makes no progress, and so may lose its place to another. */
static bool session_is_late(const struct session *s)
{
	uint64_t ms = loop_now_ms() - s->since_ms;

	return (s->state == SESSION_HANDSHAKE && ms >= HANDSHAKE_MS) || (s->state == SESSION_TRANSMISSION && s->gone) ||
	       (s->piece && ms >= PAYLOAD_MS);
}

static void check(struct timer *t)
{
	struct session *s;

	for (s = front_here()->sessions; s; s = s->next) {
		if (s->state == SESSION_HANDSHAKE && s->export && s->export->removed && (!s->export->replaced || session_is_late(s)))
			session_use(s, NULL); /* a proxy would never end, and its files could not be used again */
		if (s->state != SESSION_CLOSED && session_peer_is_dead(s->event.fd)) {
			session_note_end(s, END_SILENT);
			session_close(s);
		}
	}
	if (front_here()->sessions)
		timer_set(t, loop_now_ms() + CHECK_MS);
}

void sessions_watch(void)
{
	struct front *f = front_here();

	f->check.fire = check;
	if (!f->check.set)
		timer_set(&f->check, loop_now_ms() + CHECK_MS);
}

bool session_close_late(void)
{
	struct session *s = front_here()->sessions;

	while (s && !session_is_late(s))
		s = s->next;
	if (s) {
		session_note_end(s, END_LATE);
		session_close(s);
	}
	return s;
}

bool session_close_shaking(void)
{
	struct session *s, *oldest = NULL;
	unsigned shaking = 0;

	for (s = fronts[LOOP_CORE].sessions; s; s = s->next) /* new ones come first */
		if (s->state == SESSION_HANDSHAKE && !s->key) {
			oldest = s;
			shaking++;
		}
	/* Half of the places: else it is a server that is full, and a few of its clients are slow. */
	if (!oldest || loop_now_ms() - oldest->since_ms < SHAKING_MS || shaking < client_limits.sessions / 2)
		return false;
	session_note_end(oldest, END_LATE);
	session_close(oldest);
	return true;
}

/* Lets those go on that waited for memory. */
static void sessions_unthrottle(void)
{
	struct session *s;

	for (s = front_here()->throttled ? front_here()->sessions : NULL; s; s = s->next) {
		if (!s->throttled)
			continue;
		session_unthrottle(s);
		session_read(s);
		if (!s->throttled && !session_process(s))
			session_close(s);
		if (!s->throttled)
			session_mark(s);
	}
}

/* Sending frees memory, so throttled sessions go on and then have something to send; this ends
 * because nothing is received meanwhile. Throttled sessions are tried even if no other one has moved:
 * answers from the origin free memory, too. */
void sessions_turn(void)
{
	struct front *f = front_here();

	do {
		struct session *s = f->dirty;

		f->dirty = NULL;
		while (s) {
			struct session *next = s->next_dirty;

			s->dirty = false;
			session_end_of_turn(s);
			s = next;
		}
		sessions_unthrottle();
	} while (f->dirty);
}

bool sessions_part(void)
{
	struct session *s;
	bool more = false;

	for (s = front_here()->sessions; s; s = s->next) {
		int domain = AF_UNIX;
		socklen_t n = sizeof(domain);

		if (s->state == SESSION_CLOSED || session_is_ublk(s))
			continue;
		if (ENABLE_FEATURE_XNBD_TLS_KERNEL) {
			if (kernel_tls_is_sending(s->event.fd)) {
				more = true;
				continue;
			}
			kernel_tls_end(s->event.fd);
		}
		/* A relay need not wait for the end of its client, which may never come; TCP would reset the connection. */
		getsockopt(s->event.fd, SOL_SOCKET, SO_DOMAIN, &domain, &n);
		shutdown(s->event.fd, domain == AF_UNIX ? SHUT_RDWR : SHUT_WR);
		in_get(s);
		more |= recv(s->event.fd, s->in, RECV_BYTES, MSG_DONTWAIT) > 0;
	}
	return more;
}

void sessions_stop(void)
{
	struct session *s;

	sessions_stopping = true;
	for (s = front_here()->sessions; s; s = s->next) {
		if (s->state == SESSION_HANDSHAKE)
			s->hang_up = true;
		payload_drop(s);
		s->in_first = s->in_end = 0;
		session_mark(s);
		session_abandon(s);
	}
}
