/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The control socket: counters, as lines of "KEY VALUE" or in the text format of Prometheus, each line of which follows
 * "metric ". All loops are asked first, so the reply is sent later.
 */
#include "libbb.h"
#include "client/client.h"
#include "client/counters.h"
#include "control/connection.h"
#include "control/control.h"
#include "reactor/buf.h"
#include "origin/origin.h"
#include "reactor/log.h"
#include "reactor/verbose.h"

/* Where the numbers of one counter go. */
struct sink {
	struct control *k;
	const struct export *only; /* control_subject() */
	bool metrics;
	const char *name, *label;
	const char *suffix; /* of the name among metrics */
};

/* The next counter: name and label (NULL: it has one number), and for people what it means. */
static void sink_begin(struct sink *s, const char *name, const char *label, const char *type, const char *help)
{
	s->name = name;
	s->label = label;
	s->suffix = *type == 'c' ? "_total" : ""; /* a counter's */
	if (s->metrics)
		control_print(s->k, "metric # HELP xnbd_%s%s %s\nmetric # TYPE xnbd_%s%s %s\n", name, s->suffix, help, name, s->suffix, type);
}

static void sink_put(const struct sink *s, const char *value, uint64_t n)
{
	if (s->metrics && s->label)
		control_print(s->k, "metric xnbd_%s%s{%s=\"%s\"} %llu\n", s->name, s->suffix, s->label, value, (unsigned long long)n);
	else if (s->metrics)
		control_print(s->k, "metric xnbd_%s%s %llu\n", s->name, s->suffix, (unsigned long long)n);
	else if (s->label)
		control_print(s->k, "%s_%s %llu\n", s->name, value, (unsigned long long)n);
	else
		control_print(s->k, "%s %llu\n", s->name, (unsigned long long)n);
}

static void sink_one(struct sink *s, const char *name, const char *type, const char *help, uint64_t n)
{
	sink_begin(s, name, NULL, type, help);
	sink_put(s, NULL, n);
}

/* Microseconds; metrics are in seconds. */
static void sink_time(struct sink *s, const char *name, const char *help, uint64_t us)
{
	sink_begin(s, name, NULL, "counter", help);
	if (s->metrics)
		control_print(s->k, "metric xnbd_%s%s %llu.%06u\n", name, s->suffix, (unsigned long long)(us / 1000000), (unsigned)(us % 1000000));
	else
		control_print(s->k, "%s %llu\n", name, (unsigned long long)(us / 1000000));
}

/* ---- latency -------------------------------------------------------------------------------------- */

static void histogram_metrics(struct control *k, const char *request, const struct tally *c, unsigned type)
{
	uint64_t total = 0, us = c->of[type].us;
	unsigned i;

	for (i = 0; i < LATENCY_BUCKETS - 1; i++) {
		total += c->of[type].latency[i];
		control_print(k, "metric xnbd_request_seconds_bucket{request=\"%s\",le=\"%u.%06u\"} %llu\n", request,
			      (1U << i) / 1000000, (1U << i) % 1000000, (unsigned long long)total);
	}
	total += c->of[type].latency[i];
	control_print(k, "metric xnbd_request_seconds_bucket{request=\"%s\",le=\"+Inf\"} %llu\n"
			 "metric xnbd_request_seconds_sum{request=\"%s\"} %llu.%06u\n"
			 "metric xnbd_request_seconds_count{request=\"%s\"} %llu\n",
		      request, (unsigned long long)total, request, (unsigned long long)(us / 1000000), (unsigned)(us % 1000000),
		      request, (unsigned long long)total);
}

/* "latency_us_read 16:1 32:120": so many were below 16 us, so many more below 32 us. */
static void histogram_line(struct control *k, const char *request, const struct tally *c, unsigned type)
{
	unsigned i;

	control_print(k, "latency_us_%s", request);
	for (i = 0; i < LATENCY_BUCKETS; i++) {
		unsigned long long n = c->of[type].latency[i];

		if (n && i == LATENCY_BUCKETS - 1)
			control_print(k, " more:%llu", n);
		else if (n)
			control_print(k, " %u:%llu", 1U << i, n);
	}
	control_print(k, "\n");
}

static void emit_latency(struct sink *s, const struct tally *c)
{
	unsigned i;

	if (s->metrics)
		sink_begin(s, "request_seconds", "request", "histogram", "Time from a request to its reply.");
	for (i = 0; i < COUNTED_TYPES; i++) {
		if (s->metrics)
			histogram_metrics(s->k, command_word(i), c, i);
		else
			histogram_line(s->k, command_word(i), c, i);
	}
}

/* ---- all of it --------------------------------------------------------------------------------------- */

static void emit_requests(struct sink *s, const struct tally *c)
{
	unsigned i;

	sink_begin(s, "requests", "request", "counter", "Requests that were done.");
	for (i = 0; i < COUNTED_TYPES; i++)
		sink_put(s, command_word(i), c->of[i].requests);
	sink_begin(s, "request_bytes", "request", "counter", "Bytes of these requests.");
	for (i = 0; i < COUNTED_TYPES; i++)
		sink_put(s, command_word(i), c->of[i].bytes);
	sink_begin(s, "request_errors", "error", "counter", "Requests that got an error.");
	for (i = 0; i < COUNTED_ERRORS; i++)
		sink_put(s, error_word(i), c->errors[i]);
	emit_latency(s, c);
}

static void emit_clients(struct sink *s, const struct tally *c)
{
	unsigned i;

	sink_one(s, "clients", "counter", "Clients that have begun to use an export.", c->clients);
	if (!s->only) {
		sink_begin(s, "clients_refused", "reason", "counter", "Clients that were refused.");
		for (i = 0; i < REFUSALS; i++)
			sink_put(s, refusal_word(i), clients_refused[i]);
	}
	sink_begin(s, "clients_ended", "reason", "counter", "Clients that have gone.");
	for (i = 0; i < ENDS; i++)
		sink_put(s, end_word(i), c->ended[i]);
}

static void emit_disk(struct sink *s)
{
	unsigned i;

	sink_begin(s, "disk_errors", "operation", "counter", "Errors of image, bitmap and commit file.");
	for (i = 0; i < IO_OPS; i++)
		sink_put(s, io_word(i), tally_disk_errors(s->only, i));
}

static void emit_proxy(struct sink *s, const struct tally *c)
{
	const struct disk *d = &s->k->export->disk;
	const struct map *m = core_map(d->core);
	uint64_t lost_ms = origin_lost_ms(d->origin);
	struct core_status status;

	core_status(d->core, &status);
	sink_one(s, "origin_waits", "counter", "Reads that had to wait for the origin.", c->waits);
	sink_time(s, "origin_wait_seconds", "Time that these reads took.", c->wait_us);
	sink_one(s, "origin_errors", "counter", "Reads that the origin has answered with an error.", d->origin_errors);
	sink_one(s, "origin_failures", "counter", "Connections to the origin, and attempts, that have failed.", d->origin_failures);
	if (!s->metrics) /* the others are keys of "status" */
		return;
	sink_one(s, "origin_up", "gauge", "The origin is up, or not needed.", !lost_ms);
	sink_one(s, "origin_lost_seconds", "gauge", "Time without the origin.", lost_ms / 1000);
	sink_one(s, "requests_waiting", "gauge", "Requests that wait for the origin now.", status.waiting);
	sink_one(s, "blocks", "gauge", "Blocks of the disk.", m->blocks);
	sink_one(s, "blocks_local", "gauge", "Blocks that are local.", m->local);
}

static void emit_process(struct sink *s)
{
	if (s->metrics) {
		sink_one(s, "buffer_bytes", "gauge", "Memory for data of requests.", buf_used());
		sink_one(s, "messages_lost", "counter", "Messages that could not be written.", log_lost());
	}
	sink_one(s, "messages_left_out", "counter", "Messages that --verbose has left out.", verbose_left_out());
}

static void emit_counters(struct control *k)
{
	const struct export *e = control_subject(k);
	struct sink s = { .k = k, .only = e, .metrics = k->metrics };
	struct core_status status = { .in_flight = sessions_in_flight() };
	struct tally c;

	if (e)
		core_status(e->disk.core, &status);
	client_tally(e, &c);
	emit_requests(&s, &c);
	emit_clients(&s, &c);
	emit_disk(&s);
	if (control_is_proxy(k))
		emit_proxy(&s, &c);
	if (s.metrics) {
		sink_one(&s, "clients", "gauge", "Clients that are connected.", e ? e->sessions : sessions_count());
		sink_one(&s, "requests_in_flight", "gauge", "Requests that are not answered.", status.in_flight);
	}
	if (!e)
		emit_process(&s);
}

/* ---- exports of a wrapper ---------------------------------------------------------------------------- */

#define NUMBER(member) (offsetof(struct tally, member) / sizeof(uint64_t))

static const struct { const char *name, *help; struct tally_part part; } tallies[] = {
	{ "export_requests", "Requests that were done, by export.", { NUMBER(of[0].requests), sizeof(struct tally_type) / sizeof(uint64_t), COUNTED_TYPES } },
	{ "export_errors", "Requests that got an error, by export.", { NUMBER(errors), 1, COUNTED_ERRORS } },
	{ "export_read_bytes", "Bytes of reads, by export.", { NUMBER(of[NBD_CMD_READ].bytes), 1, 1 } },
	{ "export_written_bytes", "Bytes of writes, by export.", { NUMBER(of[NBD_CMD_WRITE].bytes), 1, 1 } },
};

/* As the value of a label. Prometheus takes UTF-8 only, and no two samples with the same labels; and a terminal is not to
 * obey any of it. */
static void emit_label(struct control *k, const char *name)
{
	bool is_text = nbd_utf8(name, strlen(name)) == strlen(name);

	for (; *name; name++) {
		unsigned char b = (unsigned char)*name;

		if (b == '\\' || b == '"')
			control_print(k, "\\%c", b);
		else if (b == '\n')
			control_print(k, "\\n");
		else
			name = control_emit_char(k, name, b >= 0x80 && !is_text);
	}
}

static void emit_tally(struct control *k, const struct export *e)
{
	unsigned i = k->list_part;

	if (k->metrics) {
		if (!k->list_next)
			control_print(k, "metric # HELP xnbd_%s_total %s\nmetric # TYPE xnbd_%s_total counter\n", tallies[i].name, tallies[i].help, tallies[i].name);
		control_print(k, "metric xnbd_%s_total{export=\"", tallies[i].name);
		emit_label(k, e->nbd.name);
		control_print(k, "\"} %llu\n", (unsigned long long)tally_some(e, tallies[i].part));
		return;
	}
	control_emit_string(k, "export", e->nbd.name);
	for (i = 0; i < ARRAY_SIZE(tallies); i++)
		control_emit_number(k, tallies[i].name, tally_some(e, tallies[i].part));
}

/* False: not all of it. */
static bool emit_tallies(struct control *k)
{
	unsigned parts = k->metrics ? ARRAY_SIZE(tallies) : 1; /* all lines of a metric stand together */
	const struct export *e;

	for (; k->list_part < parts; k->list_part++, k->list_next = 0) {
		for (e = exports; e; e = e->next) {
			if (e->nbd.serial < k->list_next || e->removed)
				continue;
			if (!control_has_room(k))
				return false; /* goes on in another turn */
			emit_tally(k, e);
			k->list_next = e->nbd.serial + 1;
		}
	}
	return true;
}

void control_tallies_list(struct control *k)
{
	bool all;

	if (TALLY_STOPS)
		fronts_stop();
	all = emit_tallies(k);
	if (TALLY_STOPS)
		fronts_go_on();
	k->listing = k->tallies = !all;
	if (all)
		control_answer(k, NULL);
}

/* ---- the answer ------------------------------------------------------------------------------------- */

bool control_report_arrived(struct control *k, struct client_report *r)
{
	k->waiting = false;
	if (!k->dead)
		return true;
	client_report_free(r);
	free(k);
	return false;
}

static void counters_done(void *ctx, struct client_report *r)
{
	struct control *k = ctx;

	if (!control_report_arrived(k, r))
		return;
	client_report_free(r);
	emit_counters(k);
	k->list_part = 0;
	k->list_next = 0;
	if (ENABLE_XNBD_WRAPPER && !k->export)
		control_tallies_list(k);
	else
		control_answer(k, NULL);
}

void control_counters(struct control *k, bool metrics)
{
	k->metrics = metrics;
	k->waiting = true;
	if (client_report(NULL, false, counters_done, k))
		return;
	k->waiting = false;
	control_answer(k, "out of memory");
}
