/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The control socket: lines of text, see xnbd-server(8), CONTROL SOCKET.
 *
 * A connection sends a line, gets its reply, and may send the next. Nothing here
 * waits: a client that is silent is dropped after a while, one that does not read
 * misses news of the copy.
 */
#include "libbb.h"
#include "client/client.h"
#include "client/listen.h"
#include "control/connection.h"
#include "control/control.h"
#include "origin/origin.h"
#include "reactor/buf.h"
#include "reactor/log.h"

enum {
	CONNECTIONS_MAX = 32,
	IDLE_MS = 60000,
	FOLLOW_MS = 200,
	RANGES_MAX = 8, /* failed ranges that are named */
};

/* The words behind the verb of a request. */
struct words {
	char *host, *port, *name;
	uint64_t blocks, rate, seconds;
	bool force, follow, rate_given, seconds_given;
};

static struct listener listener;
static struct control *controls;
static unsigned control_count;
static struct export *exported;
struct control_config control_config;

/* ---- text --------------------------------------------------------------------------- */

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
	event_set(&k->event, (k->eof || k->in_bytes == CONTROL_IN_BYTES ? 0 : EPOLLIN) | (k->out_bytes ? EPOLLOUT : 0));
}

void control_say(struct control *k, const void *p, size_t n)
{
	if (k->dead || k->out_bytes + n > CONTROL_OUT_BYTES_MAX)
		return;
	memcpy(k->out + k->out_bytes, p, n);
	k->out_bytes += (unsigned)n;
}

static void say(struct control *k, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct control *k, const char *format, ...)
{
	char line[512];
	va_list args;
	int n;

	va_start(args, format);
	n = vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	if (n >= (int)sizeof(line))
		n = sizeof(line) - 1;
	control_say(k, line, (size_t)n);
}

/* "key value": what would break the line, or a terminal, is %XX. */
void control_say_string(struct control *k, const char *key, const char *value)
{
	say(k, "%s ", key);
	for (; *value; value++) {
		unsigned char b = (unsigned char)*value;

		if (b < ' ' || b == 0x7f || b == '%')
			say(k, "%%%02x", b);
		else
			control_say(k, value, 1);
	}
	control_say(k, "\n", 1);
}

void control_say_number(struct control *k, const char *key, uint64_t value)
{
	say(k, "%s %llu\n", key, (unsigned long long)value);
}

/* The end of a line that may be taken now: one after the other's answer, and only as
 * long as the answers are read. */
static char *line_end(struct control *k)
{
	if (k->old || k->waiting || k->follow || k->listing || k->out_bytes > CONTROL_OUT_BYTES_MAX / 2)
		return NULL;
	return memchr(k->in, '\n', k->in_bytes);
}

/* The reply is complete. What is to be done next (the line behind this one, or to
 * hang up) is the timer's, since this may run inside the core. */
static void answer_sent(struct control *k)
{
	control_flush(k);
	timer_set(&k->timer, line_end(k) || (k->eof && !k->out_bytes) ? loop_now_ms : loop_now_ms + IDLE_MS);
}

void control_finish(struct control *k)
{
	k->eof = true;
	k->in_bytes = 0;
	answer_sent(k);
}

void control_answer(struct control *k, const char *error)
{
	if (error)
		say(k, "error %s\n", error);
	else
		say(k, "ok\n");
	answer_sent(k);
}

/* ---- status --------------------------------------------------------------------------- */

static const char *job_name(enum job_state state)
{
	static const char *const names[] = { "idle", "running", "paused", "done", "failed" };

	return names[state];
}

/* Rounded down, so that 100.0% means every block. */
static void say_percent(struct control *k, uint64_t done, uint64_t blocks)
{
	/* Blocks are below 2^52: the product fits. */
	unsigned permille = blocks ? (unsigned)(done * 1000 / blocks) : 1000;

	say(k, "percent %u.%u%%\n", permille / 10, permille % 10);
}

static void say_pace(struct control *k, uint64_t rate, uint64_t eta)
{
	control_say_number(k, "job_rate", rate);
	if (eta == UINT64_MAX)
		say(k, "job_eta -\n");
	else
		control_say_number(k, "job_eta", eta);
}

static void say_job(struct control *k, const struct core *c)
{
	uint64_t fetched = c->copier.state == JOB_IDLE ? 0 : c->map.local - c->copier.found;

	control_say_string(k, "job", job_name(c->copier.state));
	control_say_number(k, "job_found", c->copier.found);
	control_say_number(k, "job_fetched", fetched);
	say_pace(k, c->copier.rate, core_job_eta_s(c));
}

void control_say_verify(struct control *k, const struct core *c)
{
	const struct verify *v = &c->verify;

	control_say_string(k, "verify", core_verify_is_partial(c) ? "partial" : job_name(v->state));
	control_say_number(k, "verify_compared", v->compared);
	control_say_number(k, "verify_comparable", core_verify_comparable(c));
	control_say_number(k, "verify_different", v->different);
	control_say_number(k, "verify_unreadable", v->unreadable);
	if (v->different)
		control_say_number(k, "verify_first", v->first);
}

static void say_origin(struct control *k, const struct origin *o)
{
	control_say_string(k, "origin_host", origin_host(o));
	control_say_string(k, "origin_port", origin_port(o));
	control_say_string(k, "origin_exportname", origin_export(o));
	control_say_string(k, "origin_state", origin_state(o));
	control_say_string(k, "origin_error", origin_error(o));
}

static void say_errors(struct control *k, const struct core *c)
{
	if (c->commit.count)
		control_say_number(k, "last_commit", (loop_now_ms - c->commit.last_ms) / 1000);
	else
		say(k, "last_commit never\n");
	if (c->first_error_what)
		say(k, "first_error %s: %s\n", c->first_error_what, strerror(c->first_error));
	else
		say(k, "first_error none\n");
}

void control_say_cache(struct control *k, const struct disk *d, uint64_t size_bytes, const struct map *m)
{
	control_say_string(k, "cache_image", d->path[FILE_IMAGE]);
	control_say_string(k, "bitmap", d->path[FILE_BITMAP]);
	control_say_number(k, "disk_size", size_bytes);
	control_say_number(k, "block_size", BLOCK_BYTES);
	control_say_number(k, "blocks", m->blocks);
	control_say_number(k, "cached", m->local);
	say_percent(k, m->local, m->blocks);
	say(k, "state %s\n", map_is_complete(m) ? "complete" : "incomplete");
}

static void say_status(struct control *k)
{
	const struct disk *d = &exported->disk;
	const struct core *c = &d->core;

	say(k, "mode %s\npid %u\n", c->mode == MODE_PROXY ? "proxy" : "target", (unsigned)getpid());
	control_say_cache(k, d, c->size_bytes, &c->map);
	say_origin(k, d->origin);
	say_job(k, c);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		control_say_verify(k, c);
	control_say_number(k, "sessions", sessions_count());
	control_say_number(k, "in_flight", c->in_flight);
	control_say_number(k, "waiting", c->waiting);
	control_say_number(k, "waited", c->waited);
	control_say_number(k, "hold", c->hold_ms / 1000);
	control_say_number(k, "buffer_used", buf_used());
	control_say_number(k, "buffer_limit", control_config.max_buf_bytes);
	control_say_number(k, "messages_lost", log_lost());
	say_errors(k, c);
}

/* ---- the copy, and the comparison --------------------------------------------------------- */

/* A group of lines for a follower; ends with `percent`. */
static void say_news(struct control *k)
{
	const struct core *c = &exported->disk.core;

	if (k->out_bytes > CONTROL_OUT_BYTES_MAX / 2)
		return; /* does not read: keep room for the answer */
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && k->verifies) {
		control_say_verify(k, c);
		control_say_number(k, "looked_at", c->verify.cursor);
		say_pace(k, c->verify.rate, core_verify_eta_s(c));
	} else {
		say_job(k, c);
		control_say_number(k, "cached", c->map.local);
	}
	control_say_number(k, "blocks", c->map.blocks);
	control_say_string(k, "origin_state", origin_state(exported->disk.origin));
	say_percent(k, k->verifies ? c->verify.cursor : c->map.local, c->map.blocks);
	control_flush(k);
}

/* What is missing after a copy that failed: "16384+4096 28672+8192". */
static void say_failure(struct control *k, const struct core *c)
{
	const struct map *m = &c->map;
	uint64_t block = 0;
	unsigned n;

	say(k, "error %llu blocks are still missing (%s):", (unsigned long long)(m->blocks - m->local),
	    strerror(c->copier.error));
	for (n = 0; n <= RANGES_MAX && (block = map_next_missing(m, block, m->blocks)) < m->blocks; n++) {
		uint64_t end = map_next_local(m, block, m->blocks);
		uint64_t stop = end * BLOCK_BYTES < c->size_bytes ? end * BLOCK_BYTES : c->size_bytes;

		if (n == RANGES_MAX)
			say(k, " ...");
		else
			say(k, " %llu+%llu", (unsigned long long)block * BLOCK_BYTES,
			    (unsigned long long)(stop - block * BLOCK_BYTES));
		block = end;
	}
	say(k, "\n");
}

bool control_verdict(const struct core *c, const char **text)
{
	static char line[256];
	const struct verify *v = &c->verify;
	size_t n = (size_t)snprintf(line, sizeof(line), "compared %llu of %llu blocks", (unsigned long long)v->compared,
				    (unsigned long long)core_verify_comparable(c));
	size_t room = sizeof(line) - n;

	*text = line;
	if (v->state == JOB_IDLE)
		*text = "the comparison with the origin was cancelled";
	else if (v->different)
		snprintf(line + n, room, ": %llu differ from the origin, the first at byte %llu: keep the origin",
			 (unsigned long long)v->different, (unsigned long long)v->first);
	else if (v->unreadable)
		snprintf(line + n, room, ": the origin cannot read %llu (%s)", (unsigned long long)v->unreadable, strerror(v->error));
	else if (v->state != JOB_DONE)
		snprintf(line + n, room, ": the comparison failed: %s", strerror(v->error));
	else if (!written_is_known(c))
		snprintf(line + n, room, ": who has written the others is not known");
	else if (v->written)
		snprintf(line + n, room, ", %llu were written by clients", (unsigned long long)v->written);
	return v->state == JOB_DONE && !core_verify_is_partial(c);
}

/* The job has come to an end: so has the reply. */
static void follow_end(struct control *k)
{
	const struct core *c = &exported->disk.core;

	say_news(k);
	k->follow = k->owns_job = false;
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && k->verifies) {
		const char *text;
		bool good = control_verdict(c, &text);

		if (good)
			say(k, "note %s\n", text);
		control_answer(k, good ? NULL : text);
		return;
	}
	if (c->copier.state != JOB_FAILED) {
		control_answer(k, c->copier.state == JOB_DONE ? NULL : "the copy was cancelled; start it again to go on");
		return;
	}
	say_failure(k, c);
	answer_sent(k);
}

static bool job_is_open(const struct core *c, bool verify)
{
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && verify)
		return c->verify.state == JOB_RUNNING;
	return c->copier.state == JOB_RUNNING || c->copier.state == JOB_PAUSED;
}

void port_job_changed(struct core *c)
{
	struct control *k;

	for (k = controls; k; k = k->next)
		if (k->follow && !job_is_open(c, k->verifies))
			follow_end(k);
}

/* The job is begun, as k has asked for. was_open: it ran already. */
static void job_begun(struct control *k, bool follow, bool verify, bool was_open)
{
	struct control *other;

	for (other = follow ? NULL : controls; other; other = other->next)
		if (other->verifies == verify)
			other->owns_job = false; /* asked to go on by itself */
	if (!follow || exported->disk.core.mode == MODE_TARGET) {
		control_answer(k, NULL);
		return;
	}
	k->follow = true;
	k->verifies = verify;
	k->owns_job = !was_open;
	timer_set(&k->timer, loop_now_ms + FOLLOW_MS);
	if (!job_is_open(&exported->disk.core, verify))
		follow_end(k);
}

static void begin_copy(struct control *k, struct words *w)
{
	struct core *c = &exported->disk.core;
	bool was_open = job_is_open(c, false);

	if (!w->rate_given)
		w->rate = was_open ? c->copier.rate_limit : control_config.rate_bytes;
	if (core_job_start(c, w->blocks > FETCH_BLOCKS_MAX ? 0 : (uint32_t)w->blocks, w->rate))
		control_answer(k, "this server was switched with blocks missing: there is no origin to copy from");
	else
		job_begun(k, w->follow, false, was_open);
}

static void begin_verify(struct control *k, struct words *w)
{
	struct core *c = &exported->disk.core;
	bool was_open = job_is_open(c, true);
	int error;

	if (!w->rate_given)
		w->rate = was_open ? c->verify.rate_limit : control_config.rate_bytes;
	error = core_verify(c, w->rate);
	if (error == ENOLINK)
		control_answer(k, "this server was switched: there is no origin to compare with");
	else if (error)
		control_answer(k, strerror(error));
	else
		job_begun(k, w->follow, true, was_open);
}

/* ---- requests that take time ---------------------------------------------------------------- */

void control_answer_late(struct control *k, const char *error)
{
	k->waiting = false;
	if (k->dead) {
		free(k);
		return;
	}
	control_answer(k, error);
}

static void switch_done(struct commit_waiter *w, int error)
{
	struct control *k = (struct control *)(void *)((char *)w - offsetof(struct control, commit));

	control_answer_late(k, error ? "the cache could not be synced to disk: not switched" : NULL);
}

static void begin_switch(struct control *k, bool force)
{
	const struct core *c = &exported->disk.core;
	char text[160];
	const char *why;

	k->commit.done = switch_done;
	k->waiting = true;
	why = core_switch(&exported->disk.core, force, &k->commit);
	if (!why)
		return;
	k->waiting = false;
	if (!c->commit.error && !c->bitmap_error) { /* these are told first: --force does not help */
		snprintf(text, sizeof(text),
			 "%llu of %llu blocks are missing: run --cache-all first, or --force to do without them",
			 (unsigned long long)(c->map.blocks - c->map.local), (unsigned long long)c->map.blocks);
		why = text;
	}
	control_answer(k, why);
}

static void reconnect_done(void *ctx, const char *error, bool refused)
{
	struct control *k = ctx;
	char text[300];

	if (error && refused)
		snprintf(text, sizeof(text), "the new origin is refused: %s; the old one stays", error);
	else if (error)
		snprintf(text, sizeof(text), "%s", error);
	control_answer_late(k, error ? text : NULL);
}

static void begin_reconnect(struct control *k, const char *host, const char *port, const char *name, bool force)
{
	const char *why;

	if (!host || !port || !*host) {
		control_answer(k, "reconnect needs host= and port=");
	} else if (exported->disk.core.mode == MODE_TARGET) {
		control_answer(k, "this server was switched: it needs no origin");
	} else {
		k->waiting = true;
		why = origin_reconnect(exported->disk.origin, host, port, name, force, reconnect_done, k);
		if (why) {
			k->waiting = false;
			control_answer(k, why);
		}
	}
}

/* ---- requests --------------------------------------------------------------------------------- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %XX in place. False: malformed, or a NUL. */
bool control_decode(char *p)
{
	char *to = p;

	for (; *p; p++) {
		int hi, lo;

		if (*p != '%') {
			*to++ = *p;
			continue;
		}
		hi = hex(p[1]);
		lo = hi < 0 ? -1 : hex(p[2]);
		if (lo < 0 || (hi | lo) == 0)
			return false;
		*to++ = (char)(hi << 4 | lo);
		p += 2;
	}
	*to = '\0';
	return true;
}

static bool number(const char *p, uint64_t *n)
{
	*n = 0;
	if (!*p)
		return false;
	for (; *p; p++) {
		if (*p < '0' || *p > '9' || *n > (UINT64_MAX - 9) / 10)
			return false;
		*n = *n * 10 + (uint64_t)(*p - '0');
	}
	return true;
}

static bool word(struct words *w, char *p)
{
	char *value = strchr(p, '=');

	if (!value) {
		if (strcmp(p, "force") == 0)
			return w->force = true;
		if (strcmp(p, "follow") == 0)
			return w->follow = true;
		return false;
	}
	*value++ = '\0';
	if (!control_decode(value))
		return false;
	if (strcmp(p, "blocks") == 0)
		return number(value, &w->blocks);
	if (strcmp(p, "rate") == 0)
		return w->rate_given = number(value, &w->rate);
	if (strcmp(p, "seconds") == 0)
		return w->seconds_given = number(value, &w->seconds) && w->seconds <= UINT32_MAX;
	if (strcmp(p, "host") == 0)
		return (w->host = value) != NULL;
	if (strcmp(p, "port") == 0)
		return (w->port = value) != NULL;
	if (strcmp(p, "exportname") == 0)
		return (w->name = value) != NULL && strlen(value) <= NBD_NAME_MAX;
	return false;
}

static void request(struct control *k, char *line)
{
	struct core *c;
	struct words w = { 0 };
	char *verb = strsep(&line, " ");
	char *p;

	if (!ENABLE_FEATURE_XNBD_SERVER_PROXY || (ENABLE_XNBD_WRAPPER && !exported)) {
		images_request(k, verb, line);
		return;
	}
	c = &exported->disk.core;
	while ((p = strsep(&line, " ")))
		if (*p && !word(&w, p)) {
			control_answer(k, "unknown or malformed word in the request");
			return;
		}
	if (strcmp(verb, "status") == 0) {
		say_status(k);
		control_answer(k, NULL);
	} else if (strcmp(verb, "switch") == 0) {
		begin_switch(k, w.force);
	} else if (strcmp(verb, "cache-all") == 0) {
		begin_copy(k, &w);
	} else if (strcmp(verb, "reconnect") == 0) {
		begin_reconnect(k, w.host, w.port, w.name, w.force);
	} else if (strcmp(verb, "hold") == 0 && w.seconds_given) {
		core_hold(c, w.seconds * 1000);
		control_answer(k, NULL);
	} else if (strcmp(verb, "pause") == 0) {
		control_answer(k, core_job_pause(c) ? NULL : "no copy is running");
	} else if (strcmp(verb, "resume") == 0) {
		control_answer(k, core_job_resume(c) ? NULL : "no copy is paused");
	} else if (strcmp(verb, "cancel") == 0) {
		core_job_cancel(c);
		if (ENABLE_FEATURE_XNBD_SERVER_VERIFY)
			core_verify_cancel(c);
		control_answer(k, NULL);
	} else if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && strcmp(verb, "verify") == 0) {
		begin_verify(k, &w);
	} else {
		control_answer(k, "unknown request");
	}
}

/* Takes the lines that have come. False: one is too long. */
static bool take_lines(struct control *k)
{
	char *end;

	while ((end = line_end(k))) {
		unsigned n = (unsigned)(end - k->in) + 1;
		char line[CONTROL_IN_BYTES];

		memcpy(line, k->in, n);
		line[n - 1] = '\0';
		k->in_bytes -= n;
		memmove(k->in, k->in + n, k->in_bytes);
		request(k, line);
	}
	return k->in_bytes < CONTROL_IN_BYTES || memchr(k->in, '\n', k->in_bytes);
}

/* ---- connections --------------------------------------------------------------------------------- */

/* False: close it. */
static bool take(struct control *k)
{
	if (ENABLE_FEATURE_XNBD_SERVER_OLD_CONTROL) {
		k->old |= exported && old_begins(k);
		if (k->old)
			return old_take(k, exported);
	}
	return take_lines(k);
}

/* It has not got yet what it asked for. */
static bool is_busy(const struct control *k)
{
	return k->waiting || k->follow || k->out_bytes || k->old_session || k->old_detects;
}

/* As recv(2). A descriptor that comes along is kept: one, the kernel closes others, for
 * which there is no room. (CMSG_SPACE would be room for two.) */
static ssize_t receive(struct control *k)
{
	struct iovec v = { .iov_base = k->in + k->in_bytes, .iov_len = CONTROL_IN_BYTES - k->in_bytes };
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} u;
	struct msghdr m = { .msg_iov = &v, .msg_iovlen = 1, .msg_control = &u,
			    .msg_controllen = ENABLE_FEATURE_XNBD_SERVER_OLD_CONTROL ? CMSG_LEN(sizeof(int)) : 0 };
	ssize_t n = recvmsg(k->event.fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	const struct cmsghdr *c = n < 0 ? NULL : CMSG_FIRSTHDR(&m);

	if (c && c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS && c->cmsg_len == CMSG_LEN(sizeof(int))) {
		if (k->passed_fd >= 0)
			close(k->passed_fd);
		memcpy(&k->passed_fd, CMSG_DATA(c), sizeof(int));
	}
	return n;
}

static void control_ready(struct event *e, uint32_t events)
{
	struct control *k = (struct control *)e;
	ssize_t n;

	if (events & EPOLLOUT) {
		control_flush(k);
		if (ENABLE_XNBD_WRAPPER && k->listing) {
			timer_set(&k->timer, loop_now_ms + IDLE_MS);
			images_list(k);
		}
		if (!take(k) || (k->eof && !is_busy(k))) {
			control_close(k);
			return;
		}
	}
	if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
		return;
	if (k->in_bytes == CONTROL_IN_BYTES && !(events & (EPOLLHUP | EPOLLERR))) {
		control_flush(k); /* whole lines, which wait for their turn */
		return;
	}
	n = receive(k);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		k->in_bytes += (unsigned)n;
		if (take(k))
			return;
	} else if (n == 0 && !(events & EPOLLHUP) && is_busy(k)) {
		/* As `echo | nc -U` does: it waits for its answer. When it goes for
		 * good there will be EPOLLHUP. */
		k->eof = true;
		control_flush(k);
		return;
	}
	control_close(k);
}

static void control_timer(struct timer *t)
{
	struct control *k = (struct control *)(void *)((char *)t - offsetof(struct control, timer));

	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && k->follow) {
		say_news(k);
		timer_set(t, loop_now_ms + FOLLOW_MS);
	} else if (k->waiting || k->old_session || k->old_detects) {
		timer_set(t, loop_now_ms + IDLE_MS);
	} else if (line_end(k)) {
		take_lines(k);
	} else {
		control_close(k);
	}
}

void control_close(struct control *k)
{
	struct control **p = &controls;
	bool owner = k->owns_job;
	bool verifies = ENABLE_FEATURE_XNBD_SERVER_VERIFY && k->verifies;

	while (*p != k)
		p = &(*p)->next;
	*p = k->next;
	control_count--;
	event_remove(&k->event);
	close(k->event.fd);
	timer_clear(&k->timer);
	if (ENABLE_FEATURE_XNBD_SERVER_OLD_CONTROL)
		old_end(k);
	if (k->passed_fd >= 0)
		close(k->passed_fd);
	k->dead = true;
	k->follow = false;
	if (!k->waiting)
		free(k);
	if (owner && verifies)
		core_verify_cancel(&exported->disk.core);
	else if (ENABLE_FEATURE_XNBD_SERVER_PROXY && owner)
		core_job_cancel(&exported->disk.core);
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

static void listener_ready(struct event *e, uint32_t events UNUSED_PARAM)
{
	struct endpoint from;
	int fd = listener_accept(e, &from);
	struct control *k;

	if (fd < 0)
		return;
	if (control_count >= CONNECTIONS_MAX || !may_control(fd) || !(k = calloc(1, sizeof(*k)))) {
		static const char no[] = "error not allowed, or too many control clients\n";

		send(fd, no, sizeof(no) - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
		close(fd);
		return;
	}
	k->event.fd = fd;
	k->event.ready = control_ready;
	k->timer.fire = control_timer;
	k->passed_fd = -1;
	if (!event_add(&k->event, EPOLLIN)) {
		close(fd);
		free(k);
		return;
	}
	timer_set(&k->timer, loop_now_ms + IDLE_MS);
	k->next = controls;
	controls = k;
	control_count++;
}

/* The origin is no longer needed: those who wait for it are told. */
static void control_switched(void)
{
	struct control *k;

	for (k = controls; k; k = k->next)
		if (k->old_detects) {
			k->old_detects = false;
			control_finish(k);
		}
}

void control_begin(struct export *e, const char *path)
{
	exported = e;
	origin_closed = control_switched;
	listener.event.fd = listen_unix(path);
	listener_begin(&listener, listener_ready);
}

void control_end(void)
{
	timer_clear(&listener.pause);
	while (controls) {
		controls->owns_job = false;
		control_flush(controls);
		control_close(controls);
	}
}
