/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Counters of requests, and what all loops tell of their sessions. */
//config:config FEATURE_XNBD_SERVER_COUNTERS
//config:	bool "Counters, and the list of clients (6.7 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY || XNBD_WRAPPER || FEATURE_XNBD_SERVER_CONTROL
//config:	help
//config:	The control socket tells who is connected, and counts requests, bytes,
//config:	errors, refused clients, waits for the origin and latencies, also as
//config:	Prometheus wants them.
#include "client/session.h"

enum { SESSION_LINE = 768 };

static const struct { uint32_t error; const char *word; } error_words[COUNTED_ERRORS] = {
	{ NBD_EPERM, "EPERM" }, { NBD_EIO, "EIO" }, { NBD_ENOMEM, "ENOMEM" }, { NBD_EINVAL, "EINVAL" },
	{ NBD_ENOSPC, "ENOSPC" }, { NBD_EOVERFLOW, "EOVERFLOW" }, { NBD_ENOTSUP, "ENOTSUP" },
	{ NBD_ESHUTDOWN, "ESHUTDOWN" }, { 0, "other" },
};

unsigned error_index(uint32_t error)
{
	unsigned i = 0;

	while (i < COUNTED_ERRORS - 1 && error_words[i].error != error)
		i++;
	return i;
}

const char *error_word(unsigned index)
{
	return error_words[index].word;
}

const char *command_word(unsigned type)
{
	static const char *const words[COUNTED_TYPES] = {
		[NBD_CMD_READ] = "read", [NBD_CMD_WRITE] = "write", [NBD_CMD_FLUSH] = "flush", [NBD_CMD_TRIM] = "trim",
		[NBD_CMD_CACHE] = "cache", [NBD_CMD_WRITE_ZEROES] = "zeroes", [NBD_CMD_BLOCK_STATUS] = "status",
	};

	return type < COUNTED_TYPES && words[type] ? words[type] : "unknown";
}

/* ---- requests: the session's thread ----------------------------------------------------------- */

#if ENABLE_FEATURE_XNBD_SERVER_COUNTERS
/* DISC is not a request: its place is for unknown commands. */
static unsigned type_index(const struct command *x)
{
	return x->given_type < COUNTED_TYPES ? x->given_type : NBD_CMD_DISC;
}

/* Nobody else writes it. */
static void tally_add(unsigned long *n, uint64_t more)
{
	__atomic_store_n(n, *n + (unsigned long)more, __ATOMIC_RELAXED);
}

static struct export_tally *tally_here(const struct command *x)
{
	struct export *e = x->session->export;

	return &(e->base ? e->base : e)->tally[front_here() - fronts];
}

static void tally_done(const struct command *x)
{
	struct export_tally *t = tally_here(x);

	tally_add(&t->requests, 1);
	if (x->given_type == NBD_CMD_READ)
		tally_add(&t->read, x->given_bytes);
	else if (x->given_type == NBD_CMD_WRITE)
		tally_add(&t->written, x->given_bytes);
}

void count_done(const struct command *x)
{
	struct counters *c = &front_here()->counters;

	c->of[type_index(x)].requests++;
	c->of[type_index(x)].bytes += x->given_bytes;
	if (ENABLE_XNBD_WRAPPER)
		tally_done(x);
}

void count_failed(const struct command *x, uint32_t error)
{
	front_here()->counters.errors[error_index(error)]++;
	if (ENABLE_XNBD_WRAPPER)
		tally_add(&tally_here(x)->errors, 1);
}

static unsigned latency_index(uint64_t us)
{
	unsigned i = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	return i < LATENCY_BUCKETS ? i : LATENCY_BUCKETS - 1;
}

void count_left(struct command *x, uint64_t now_us)
{
	struct counters *c = &front_here()->counters;
	uint64_t us = now_us - x->begun_us;

	x->is_timed = false;
	c->of[type_index(x)].us += us;
	c->of[type_index(x)].latency[latency_index(us)]++;
	if (command_awaits(x)) {
		c->waits++;
		c->wait_us += us;
	}
}

/* ---- the list of sessions: the session's thread -------------------------------------------------- */

/* The oldest request that is not answered, or whose answer has not left; NULL: none. */
static const struct command *oldest_of(const struct session *s, unsigned *in_flight)
{
	const struct command *x, *oldest = NULL;

	*in_flight = 0;
	for (x = s->commands; x; x = x->next)
		if (x->is_timed) {
			oldest = x; /* newer ones come first */
			++*in_flight;
		}
	return oldest;
}

/* What x waits for. */
static const char *obstacle(const struct session *s, const struct command *x)
{
	if (!x)
		return "-";
	if (x->replied || x == s->payload)
		return "client";
	if (command_awaits(x))
		return "origin";
	return s->throttled ? "memory" : "disk";
}

static size_t session_line(const struct session *s, char *to)
{
	static const char *const states[] = { "handshake", "transmission", "draining" };
	const char *name = s->export ? s->export->nbd.name : "";
	unsigned in_flight;
	const struct command *x = oldest_of(s, &in_flight);
	const char *key = ENABLE_FEATURE_XNBD_TLS && s->key ? s->key->name : "-";
	char word[VERBOSE_WORD], key_word[VERBOSE_WORD];

	return (size_t)snprintf(to, SESSION_LINE,
				"client=%s key=%s export=%s state=%s seconds=%llu read=%llu written=%llu in_flight=%u oldest=%s oldest_ms=%llu waits=%s\n",
				s->peer, verbose_word(key_word, sizeof(key_word), key, strlen(key)),
				verbose_word(word, sizeof(word), name, strlen(name)), states[s->state],
				(unsigned long long)(loop_now_ms() - s->began_ms) / 1000, (unsigned long long)s->read_total,
				(unsigned long long)s->written_total, in_flight, x ? command_word(x->given_type) : "-",
				(unsigned long long)(x ? (loop_clock_us() - x->begun_us) / 1000 : 0), obstacle(s, x));
}

static void part_list(struct report_part *p)
{
	const struct session *s;
	size_t n = 0;

	for (s = front_here()->sessions; s; s = s->next)
		n += s->state != SESSION_CLOSED;
	p->text = n ? malloc(n * SESSION_LINE) : NULL;
	p->lacks = n && !p->text;
	for (s = front_here()->sessions; s && p->text; s = s->next)
		if (s->state != SESSION_CLOSED)
			p->bytes += session_line(s, p->text + p->bytes);
}

static void part_fill(struct report_part *p)
{
	p->counters = front_here()->counters;
	if (p->report->lists)
		part_list(p);
}

/* ---- a report -------------------------------------------------------------------------------------- */

static void report_add(struct client_report *r, const struct counters *c)
{
	const uint64_t *from = (const void *)c;
	uint64_t *to = (void *)&r->sum;
	unsigned i;

	_Static_assert(sizeof(*c) % sizeof(*to) == 0, "counters are nothing but numbers");
	for (i = 0; i < sizeof(*c) / sizeof(*to); i++)
		to[i] += from[i];
}

static void part_answered(struct message *m)
{
	struct report_part *p = container_of(m, struct report_part, message);
	struct client_report *r = p->report;

	report_add(r, &p->counters);
	if (!--r->pending)
		r->done(r->ctx, r);
}

/* On a front. */
static void part_wanted(struct message *m)
{
	part_fill(container_of(m, struct report_part, message));
	m->deliver = part_answered;
	message_post(LOOP_CORE, m);
}

bool client_report(bool lists, void (*done)(void *ctx, struct client_report *r), void *ctx)
{
	struct client_report *r = calloc(1, sizeof(*r));
	unsigned i;

	if (!r)
		return false;
	r->lists = lists;
	r->done = done;
	r->ctx = ctx;
	r->pending = front_count();
	for (i = 0; i < LOOPS_MAX; i++) {
		r->part[i].report = r;
		r->part[i].message.deliver = part_wanted;
	}
	/* Sessions on their way to a front are there before this message. */
	for (i = LOOP_CORE + 1; i < front_count(); i++)
		message_post(i, &r->part[i].message);
	part_fill(&r->part[LOOP_CORE]);
	part_answered(&r->part[LOOP_CORE].message);
	return true;
}

void client_report_free(struct client_report *r)
{
	unsigned i;

	for (i = 0; r && i < LOOPS_MAX; i++)
		free(r->part[i].text);
	free(r);
}
#endif
