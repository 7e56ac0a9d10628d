/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Counters of requests, and what all loops tell of their sessions. */
//config:config FEATURE_XNBD_SERVER_COUNTERS
//config:	bool "Counters, and the list of clients (7.1 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_PROXY || XNBD_WRAPPER || FEATURE_XNBD_SERVER_CONTROL
//config:	help
//config:	The control socket tells who is connected, and counts requests, bytes,
//config:	errors, refused clients, waits for the origin and latencies, also as
//config:	Prometheus wants them.
#include "client/session.h"

enum { SESSION_LINE = 768 };

uint64_t clients_refused[REFUSALS];

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

/* NULL: there was no memory for it. */
static struct tally *tally_here(const struct session *s)
{
	return s->tally && ENABLE_FEATURE_XNBD_SERVER_THREADS ? s->tally + this_loop->index : s->tally;
}

void count_client(const struct session *s)
{
	struct tally *t = tally_here(s);

	if (t)
		tally_count(&t->clients, 1);
}

/* One that has used no export is of none, and on the core's thread. */
void count_end(const struct session *s)
{
	struct tally *t = s->state == SESSION_HANDSHAKE ? &tally_apart : tally_here(s);

	if (t)
		tally_count(&t->ended[s->end], 1);
}

void count_done(const struct command *x)
{
	struct tally *t = tally_here(x->session);
	struct tally_type *of;

	if (!t)
		return;
	of = &t->of[type_index(x)];
	tally_count(&of->requests, 1);
	tally_count(&of->bytes, x->given_bytes);
}

void count_failed(const struct command *x, uint32_t error)
{
	struct tally *t = tally_here(x->session);

	if (t)
		tally_count(&t->errors[error_index(error)], 1);
}

static unsigned latency_index(uint64_t us)
{
	unsigned i = us ? 64 - (unsigned)__builtin_clzll(us) : 0;

	return i < LATENCY_BUCKETS ? i : LATENCY_BUCKETS - 1;
}

void count_left(struct command *x, uint64_t now_us)
{
	struct tally *t = tally_here(x->session);
	uint64_t us = now_us - x->begun_us;
	struct tally_type *of;

	x->is_timed = false;
	if (!t)
		return;
	of = &t->of[type_index(x)];
	tally_count(&of->us, us);
	tally_count(&of->latency[latency_index(us)], 1);
	if (command_awaits(x)) {
		tally_count(&t->waits, 1);
		tally_count(&t->wait_us, us);
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

static bool is_wanted(const struct session *s, const struct export *e)
{
	return s->state != SESSION_CLOSED && (!ENABLE_FEATURE_XNBD_WRAPPER_PROXY || !e || s->export == e);
}

static void part_list(struct report_part *p)
{
	const struct export *e = p->report->export;
	const struct session *s;
	size_t n = 0;

	for (s = front_here()->sessions; s; s = s->next)
		n += is_wanted(s, e);
	p->text = n ? malloc(n * SESSION_LINE) : NULL;
	p->lacks = n && !p->text;
	for (s = front_here()->sessions; s && p->text; s = s->next)
		if (is_wanted(s, e))
			p->bytes += session_line(s, p->text + p->bytes);
}

static void part_fill(struct report_part *p)
{
	if (p->report->lists)
		part_list(p);
}

/* ---- a report -------------------------------------------------------------------------------------- */

static void part_answered(struct message *m)
{
	struct report_part *p = container_of(m, struct report_part, message);
	struct client_report *r = p->report;

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

bool client_report(const struct export *e, bool lists, void (*done)(void *ctx, struct client_report *r), void *ctx)
{
	struct client_report *r = calloc(1, sizeof(*r));
	unsigned i;

	if (!r)
		return false;
	r->export = e;
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

void client_tally(const struct export *e, struct tally *sum)
{
	memset(sum, 0, sizeof(*sum));
	if (TALLY_STOPS)
		fronts_stop();
	tally_sum(e, sum);
	if (TALLY_STOPS)
		fronts_go_on();
}
#endif
