/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The control socket, its connections: lines of text, see xnbd-server(8), CONTROL SOCKET.
 *
 * A connection sends a line, gets its reply, and may send the next. Nothing here
 * waits: a client that is silent is dropped after a while, one that does not read
 * misses progress of the copy.
 */
#include "libbb.h"
#include "client/counters.h"
#include "client/listen.h"
#include "control/connection.h"
#include "control/control.h"
#include "origin/origin.h"

enum {
	CONNECTIONS_MAX = 32,
	IDLE_MS = 60000,
	GREET_MS = 500, /* who has not sent anything by then waits for a greeting */
};

struct control *controls;
struct control_config control_config;

/* ---- text --------------------------------------------------------------------------- */

static void watch(struct control *k)
{
	event_set(&k->event, (k->eof || k->in_bytes == CONTROL_IN_BYTES ? 0 : EPOLLIN) | (k->out_bytes ? EPOLLOUT : 0));
}

void control_flush(struct control *k)
{
	ssize_t n = 0;

	if (k->dead)
		return;
	if (k->out_bytes)
		n = send(k->event.fd, k->out, k->out_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n > 0) {
		k->out_bytes -= (unsigned)n;
		memmove(k->out, k->out + n, k->out_bytes);
	}
	watch(k);
}

/* What is there is not sent before the next turn: a client that reads as fast as it is written to would get a list of ten thousand
 * exports in one. */
bool control_has_room(struct control *k)
{
	if (k->out_bytes <= CONTROL_OUT_BYTES_MAX / 2)
		return true;
	watch(k);
	return false;
}

void control_emit(struct control *k, const void *p, size_t n)
{
	if (k->dead || k->out_bytes + n > CONTROL_OUT_BYTES_MAX)
		return;
	memcpy(k->out + k->out_bytes, p, n);
	k->out_bytes += (unsigned)n;
}

void control_print(struct control *k, const char *format, ...)
{
	char line[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (n >= (int)sizeof(line))
		n = sizeof(line) - 1;
	control_emit(k, line, (size_t)n);
}

const char *control_emit_char(struct control *k, const char *p, bool encoded)
{
	unsigned char b = (unsigned char)*p;
	bool two = b == 0xc2 && (p[1] & 0xe0) == 0x80; /* U+0080 to U+009F */

	if (encoded || two || b < ' ' || b == 0x7f || b == '%')
		control_print(k, "%%%02x", b);
	else
		control_emit(k, p, 1);
	if (two)
		control_print(k, "%%%02x", (unsigned char)*++p);
	return p;
}

void control_emit_escaped(struct control *k, const char *value, const char *also)
{
	for (; *value; value++)
		value = control_emit_char(k, value, strchr(also, *value));
}

void control_emit_line(struct control *k, const char *text, size_t n)
{
	for (; n--; text++)
		control_emit(k, (unsigned char)*text < ' ' || *text == 0x7f ? "?" : text, 1);
}

void control_emit_string(struct control *k, const char *key, const char *value)
{
	control_print(k, "%s ", key);
	control_emit_escaped(k, value, "");
	control_emit(k, "\n", 1);
}

void control_emit_number(struct control *k, const char *key, uint64_t value)
{
	control_print(k, "%s %llu\n", key, (unsigned long long)value);
}

/* The next step (the following line, or closing) is left to the timer, since this may run inside
 * the core. */
void control_answered(struct control *k)
{
	control_flush(k);
	timer_set(&k->timer, control_line_end(k) || (k->eof && !k->out_bytes) ? loop_now_ms() : loop_now_ms() + IDLE_MS);
}

void control_finish(struct control *k)
{
	k->eof = true;
	k->in_bytes = 0;
	control_answered(k);
}

void control_answer(struct control *k, const char *error)
{
	if (ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION && k->talks) {
		talk_answer(k, error);
		talk_release(k);
		return;
	}
	if (error) { /* of any length: a line without its end would be waited for */
		control_print(k, "error ");
		control_emit_line(k, error, strlen(error));
		control_print(k, "\n");
	} else {
		control_print(k, "ok\n");
	}
	control_answered(k);
}

void control_answer_late(struct control *k, const char *error)
{
	k->waiting = false;
	if (k->dead) {
		if (ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION)
			talk_release(k);
		free(k);
		return;
	}
	control_answer(k, error);
}

void control_saved(void *k, const char *error)
{
	control_answer_late(k, error);
}

/* ---- connections --------------------------------------------------------------------------------- */

/* False: close it. */
static bool parse_input(struct control *k)
{
	if (ENABLE_FEATURE_XNBD_SERVER_OLD_CONTROL) {
		k->xnbd04 |= control_is_proxy(k) && !k->talks && xnbd04_begins(k);
		if (k->xnbd04)
			return xnbd04_parse(k);
	}
	return control_parse_lines(k);
}

/* It has not got yet what it asked for; perhaps a whole line waits for the timer. */
static bool is_busy(struct control *k)
{
	return control_line_end(k) || k->waiting || k->follow || k->listing || k->out_bytes || k->xnbd04_session || k->xnbd04_detects;
}

/* Like recv(2). Keeps one descriptor that is passed along; the kernel closes further ones, since
 * there is no room for them. (CMSG_SPACE would be room for two.) */
static ssize_t receive(struct control *k)
{
	struct iovec v = { .iov_base = k->in + k->in_bytes, .iov_len = CONTROL_IN_BYTES - k->in_bytes };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} u;
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &u,
			    .msg_controllen = ENABLE_FEATURE_XNBD_SERVER_OLD_CONTROL || ENABLE_FEATURE_XNBD_SERVER_UPGRADE ? CMSG_LEN(sizeof(int)) : 0 };
	ssize_t n = recvmsg(k->event.fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
		if (k->passed_fd >= 0)
			close(k->passed_fd);
		memcpy(&k->passed_fd, CMSG_DATA(c), sizeof(int));
	}
	return n;
}

/* The rest of a list, if there is room for it now. */
static void list_on(struct control *k)
{
	if (!k->listing)
		return;
	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS && k->report)
		control_clients_list(k);
	else if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS && ENABLE_XNBD_WRAPPER && k->tallies)
		control_tallies_list(k);
	else if (ENABLE_XNBD_WRAPPER)
		images_list(k);
}

static void control_ready(struct event *e, uint32_t events)
{
	struct control *k = (struct control *)e;
	ssize_t n;

	if (events & EPOLLOUT) {
		control_flush(k);
		if (k->listing)
			timer_set(&k->timer, loop_now_ms() + IDLE_MS);
		list_on(k);
		if (!parse_input(k) || (k->eof && !is_busy(k))) {
			control_close(k);
			return;
		}
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	if (k->in_bytes == CONTROL_IN_BYTES && !(events & (EPOLLHUP | EPOLLERR))) {
		control_flush(k); /* whole lines, which wait for their place */
		return;
	}
	n = receive(k);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	k->heard = true;
	if (n > 0) {
		k->in_bytes += (unsigned)n;
		if (parse_input(k))
			return;
	} else if (n == 0 && !(events & EPOLLHUP) && is_busy(k)) {
		/* As `echo | nc -U` does: it waits for its answer. When it goes for
		 * good there will be EPOLLHUP. */
		k->eof = true;
		control_flush(k);
		list_on(k);
		return;
	}
	control_close(k);
}

static void control_timer(struct timer *t)
{
	struct control *k = container_of(t, struct control, timer);

	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && k->follow) {
		control_follow(k);
	} else if (k->waiting || k->xnbd04_session || k->xnbd04_detects) {
		timer_set(t, loop_now_ms() + IDLE_MS);
	} else if (control_line_end(k)) {
		control_parse_lines(k);
	} else if (ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION && !k->socket->export && !k->heard) {
		k->heard = true;
		talk_begin(k);
		timer_set(t, loop_now_ms() + IDLE_MS);
	} else {
		control_close(k);
	}
}

void control_close(struct control *k)
{
	struct control **p = &controls;
	bool owner = k->owns_job;
	bool verifies = ENABLE_FEATURE_XNBD_SERVER_VERIFY && k->verifies;
	struct core *c = owner ? k->export->disk.core : NULL;

	while (*p != k)
		p = &(*p)->next;
	*p = k->next;
	k->socket->connections--;
	k->socket = NULL;
	event_remove(&k->event);
	close(k->event.fd);
	timer_clear(&k->timer);
	if (ENABLE_FEATURE_XNBD_SERVER_OLD_CONTROL)
		xnbd04_end(k);
	if (k->passed_fd >= 0)
		close(k->passed_fd);
	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS)
		client_report_free(k->report);
	k->report = NULL;
	k->dead = true;
	k->follow = false;
	if (owner && verifies)
		core_verify_cancel(c);
	else if (ENABLE_FEATURE_XNBD_SERVER_PROXY && owner)
		core_job_cancel(c);
	if (k->waiting)
		return;
	if (ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION)
		talk_release(k);
	free(k);
}

/* Only root and the server's own user may give orders, whatever the mode says. */
static bool may_control(int fd)
{
	struct ucred peer;
	socklen_t n = sizeof(peer);

	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &n) < 0)
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

/* NULL: no memory; fd is closed. */
static struct control *control_new(struct control_socket *s, int fd)
{
	struct control *k = calloc(1, sizeof(*k));

	if (!k) {
		close(fd);
		return NULL;
	}
	k->event.fd = fd;
	k->event.ready = control_ready;
	k->timer.fire = control_timer;
	k->passed_fd = -1;
	if (!event_add(&k->event, EPOLLIN)) {
		close(fd);
		free(k);
		return NULL;
	}
	timer_set(&k->timer, loop_now_ms() + (ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION && !s->export ? GREET_MS : IDLE_MS));
	k->socket = s;
	k->export = s->export;
	k->next = controls;
	controls = k;
	s->connections++;
	return k;
}

static void control_listener_ready(struct event *e, uint32_t events UNUSED_PARAM)
{
	static const char no[] = "error not allowed, or too many control clients\n";
	struct control_socket *s = (struct control_socket *)e;
	struct endpoint from;
	int fd = listener_accept(e, &from);

	if (fd < 0)
		return;
	if (s->connections < CONNECTIONS_MAX && may_control(fd)) {
		control_new(s, fd);
		return;
	}
	send(fd, no, sizeof(no) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

/* After a switch: answers the connections that wait for it (XNBD04_DETECT_SWITCH). */
static void control_switched(const struct disk *d UNUSED_PARAM)
{
	struct control *k;

	for (k = controls; k; k = k->next)
		if (k->xnbd04_detects && (!ENABLE_FEATURE_XNBD_WRAPPER_PROXY || &k->export->disk == d)) {
			k->xnbd04_detects = false;
			control_finish(k);
		}
}

bool control_awaits_switch(const struct export *e)
{
	const struct control *k = controls;

	while (k && !(k->xnbd04_detects && k->export == e))
		k = k->next;
	return k;
}

void control_begin(struct control_socket *s, struct export *e, const char *path)
{
	origin_closed = control_switched;
	s->export = e;
	if (path)
		s->listener.event.fd = listen_unix(path, NULL);
	listener_begin(&s->listener, control_listener_ready);
}

void control_renewed(struct control_socket *s, const struct export *old, struct export *new)
{
	struct control *k;

	if (s->export == old)
		s->export = new;
	for (k = controls; k; k = k->next)
		if (k->export == old)
			k->export = new;
}

void control_end(struct control_socket *s)
{
	struct control *k, *next;

	listener_end(&s->listener);
	for (k = controls; k; k = next) {
		next = k->next;
		if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY && k->socket != s)
			continue;
		k->owns_job = false;
		control_flush(k);
		control_close(k);
	}
}

/* ---- a live upgrade --------------------------------------------------------------------------- */

const char *(*control_upgrade)(int program_fd);

#if ENABLE_FEATURE_XNBD_SERVER_UPGRADE
struct control *control_upgrades;

void control_upgraded(const char *why)
{
	control_answer_late(control_upgrades, why);
	control_upgrades = NULL;
}

enum { HANDED = offsetof(struct control, eof) + 1 - offsetof(struct control, waiting) };

_Static_assert(HANDED == offsetof(struct handed_control, eof) + 1 - offsetof(struct handed_control, waiting), "as struct handed_control");

static void connection_put(const struct control *k)
{
	struct handed_control *r;

	if (k->xnbd04_session || k->listing || (k->waiting && k != control_upgrades))
		handover.why = handover_busy;
	r = handover_put(HANDED_CONTROL, k->in, k->in_bytes);
	r->fd = k->event.fd;
	memcpy(&r->waiting, &k->waiting, HANDED);
	r->export = k->export ? k->export->nbd.serial : NO_EXPORT;
	handover_put(HANDED_TEXT, k->out, k->out_bytes);
}

static void connection_get(struct control_socket *s, const struct handed_control *r)
{
	struct control *k = control_new(s, r->fd);

	if (k && handover.more_bytes <= CONTROL_IN_BYTES) {
		k->in_bytes = (unsigned)handover.more_bytes;
		memcpy(k->in, handover.more, k->in_bytes);
		memcpy(&k->waiting, &r->waiting, HANDED);
	}
	if (k && k->talks && k->export) /* they are a wrapper's */
		handover_die();
	if (ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION && k && k->talks && (k->export = export_by_serial(r->export)))
		export_hold(k->export);
	if (k && (k->follow || k->owns_job || k->xnbd04_detects) && !control_is_proxy(k))
		handover_die();
	if (!handover_get(HANDED_TEXT) || !k)
		return;
	control_emit(k, handover.more, handover.more_bytes);
	if (k->waiting)
		control_answer_late(k, NULL);
	else if (k->follow)
		control_follow_again(k);
	else if (k->heard) /* else it may wait for a greeting */
		control_answered(k);
}

void control_handover(struct control_socket *s, struct export *e)
{
	const struct handed_control *r;
	const struct control *k;

	handover_fd(&s->listener.event.fd);
	for (k = handover.reads ? NULL : controls; k; k = k->next)
		if (k->socket == s)
			connection_put(k);
	if (!handover.reads)
		return;
	control_begin(s, e, NULL);
	while ((r = handover_get(HANDED_CONTROL)))
		connection_get(s, r);
}
#endif
