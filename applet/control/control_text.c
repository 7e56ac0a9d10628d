/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* The control socket, its text protocol: what a line asks for, and when that is answered. */
#include "libbb.h"
#include "control/connection.h"
#include "control/control.h"
#include "origin/origin.h"

enum {
	FOLLOW_MS = 200,
	RANGES_MAX = 8, /* failed ranges that are named */
};

/* Words that may stand behind the verb of a request; as bits, those that are given. */
enum {
	WORD_FORCE = 1 << 0,
	WORD_FOLLOW = 1 << 1,
	WORD_COUNTERS = 1 << 2,
	WORD_BLOCKS = 1 << 3,
	WORD_RATE = 1 << 4,
	WORD_SECONDS = 1 << 5,
	WORD_HOST = 1 << 6,
	WORD_PORT = 1 << 7,
	WORD_NAME = 1 << 8,
	WORD_URI = 1 << 9,
	WORDS = 10,
};

struct args {
	unsigned given;
	char *host, *port, *name, *uri;
	uint64_t blocks, rate, seconds;
};

/* ---- the copy, and the comparison --------------------------------------------------------- */

void control_follow(struct control *k)
{
	if (!k->talks)
		control_emit_progress(k);
	timer_set(&k->timer, loop_now_ms() + FOLLOW_MS);
}

/* What is missing after a copy that failed: "16384+4096 28672+8192". */
static void emit_failure(struct control *k, int error)
{
	const struct map *m = core_map(k->export->disk.core);
	uint64_t size_bytes = k->export->nbd.size_bytes;
	uint64_t block = 0;
	unsigned n;

	control_print(k, "error %llu blocks are still missing (%s):", (unsigned long long)(m->blocks - m->local),
	    strerror(error));
	for (n = 0; n <= RANGES_MAX && (block = map_next_missing(m, block, m->blocks)) < m->blocks; n++) {
		uint64_t end = map_next_local(m, block, m->blocks);
		uint64_t stop = end * BLOCK_BYTES < size_bytes ? end * BLOCK_BYTES : size_bytes;

		if (n == RANGES_MAX)
			control_print(k, " ...");
		else
			control_print(k, " %llu+%llu", (unsigned long long)block * BLOCK_BYTES,
			    (unsigned long long)(stop - block * BLOCK_BYTES));
		block = end;
	}
	control_print(k, "\n");
}

/* The job has come to an end: so has the reply. */
static void follow_end(struct control *k)
{
	struct core_status s;

	if (!k->talks)
		control_emit_progress(k);
	core_status(k->export->disk.core, &s);
	k->follow = k->owns_job = false;
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && k->verifies) {
		const char *text;
		bool good = control_verify_result(&s, &text);

		if (good)
			control_print(k, "note %s\n", text);
		control_answer(k, good ? NULL : text);
		return;
	}
	if (s.copy.state != JOB_FAILED || k->talks) {
		control_answer(k, s.copy.state == JOB_DONE ? NULL : "the copy was cancelled; start it again to go on");
		return;
	}
	emit_failure(k, s.copy.error);
	control_answered(k);
}

/* Whether the copy (verify: the comparison) is running or paused; if so, *rate_bytes is its limit. */
static bool job_is_open(const struct control *k, bool verify, uint64_t *rate_bytes)
{
	struct core_status s;

	core_status(k->export->disk.core, &s);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY && verify) {
		*rate_bytes = s.verify.rate_limit;
		return s.verify.state == JOB_RUNNING;
	}
	*rate_bytes = s.copy.rate_limit;
	return s.copy.state == JOB_RUNNING || s.copy.state == JOB_PAUSED;
}

void port_job_changed(struct core *c UNUSED_PARAM)
{
	struct control *k;
	uint64_t rate;

	for (k = controls; k; k = k->next)
		if (k->follow && (!ENABLE_FEATURE_XNBD_WRAPPER_PROXY || k->export->disk.core == c) && !job_is_open(k, k->verifies, &rate))
			follow_end(k);
}

/* k has asked for the copy (verify: the comparison), which was begun. follow: k wants its progress.
 * was_open: it was running or paused already. */
static void job_begun(struct control *k, bool follow, bool verify, bool was_open)
{
	struct control *other;

	for (other = follow ? NULL : controls; other; other = other->next)
		if ((!ENABLE_FEATURE_XNBD_WRAPPER_PROXY || other->export == k->export) && other->verifies == verify)
			other->owns_job = false; /* asked to go on by itself */
	if (!follow || !core_is_proxy(k->export->disk.core)) {
		control_answer(k, NULL);
		return;
	}
	k->verifies = verify;
	k->owns_job = !was_open;
	control_follow_again(k);
}

static void begin_copy(struct control *k, struct args *w)
{
	uint64_t rate;
	bool was_open = job_is_open(k, false, &rate);

	if (!(w->given & WORD_RATE))
		w->rate = was_open ? rate : k->export->disk.rate_bytes;
	if (core_job_start(k->export->disk.core, w->blocks > FETCH_BLOCKS_MAX ? 0 : (uint32_t)w->blocks, w->rate))
		control_answer(k, "this server was switched with blocks missing: there is no origin to copy from");
	else
		job_begun(k, w->given & WORD_FOLLOW, false, was_open);
}

#if ENABLE_FEATURE_XNBD_SERVER_VERIFY
static void begin_verify(struct control *k, struct args *w)
{
	uint64_t rate;
	bool was_open = job_is_open(k, true, &rate);
	int error;

	if (!(w->given & WORD_RATE))
		w->rate = was_open ? rate : k->export->disk.rate_bytes;
	error = core_verify(k->export->disk.core, w->rate);
	if (error == ENOLINK)
		control_answer(k, "this server was switched: there is no origin to compare with");
	else if (error)
		control_answer(k, strerror(error));
	else
		job_begun(k, w->given & WORD_FOLLOW, true, was_open);
}
#endif

void control_follow_again(struct control *k)
{
	uint64_t rate;

	k->follow = true;
	timer_set(&k->timer, loop_now_ms() + FOLLOW_MS);
	if (!job_is_open(k, k->verifies, &rate))
		follow_end(k);
}

/* ---- requests that take time ---------------------------------------------------------------- */

static void switch_done(struct commit_waiter *w, int error)
{
	struct control *k = container_of(w, struct control, commit);

	if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && control_database && !error)
		control_database->save(control_saved, k);
	else
		control_answer_late(k, error ? "the cache could not be synced to disk: not switched" : NULL);
}

static void begin_switch(struct control *k, bool force)
{
	const struct map *m = core_map(k->export->disk.core);
	char text[160];
	const char *why;

	k->commit.done = switch_done;
	k->waiting = true;
	why = core_switch(k->export->disk.core, force, &k->commit);
	if (!why)
		return;
	k->waiting = false;
	if (!core_has_failed(k->export->disk.core)) { /* these are told first: --force does not help */
		snprintf(text, sizeof(text),
			 "%llu of %llu blocks are missing: run --cache-all first, or --force to do without them",
			 (unsigned long long)(m->blocks - m->local), (unsigned long long)m->blocks);
		why = text;
	}
	control_answer(k, why);
}

/* The program comes as a descriptor: its path need not lead to it from the server's root directory. */
static void begin_upgrade(struct control *k)
{
	const char *why = "no program came with the request";

	if (k->passed_fd >= 0) {
		why = control_upgrade(k->passed_fd);
		k->passed_fd = -1;
	}
	if (why) {
		control_answer(k, why);
		return;
	}
	k->waiting = true;
	control_upgrades = k;
}

/* ---- requests --------------------------------------------------------------------------------- */

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

/* Adds the word p, which this request may have if it is one of `words`. False: it may not, or is malformed. */
static bool parse_arg(struct args *w, char *p, unsigned words)
{
	static const char names[] ALIGN1 = "force\0follow\0counters\0blocks\0rate\0seconds\0host\0port\0exportname\0uri";
	char *value = strchr(p, '=');
	const char *name = names;
	unsigned i;

	if (value)
		*value++ = '\0';
	for (i = 0; i < WORDS && strcmp(p, name) != 0; i++)
		name += strlen(name) + 1;
	i = i < WORDS ? words & 1U << i : 0;
	if (!i || !value != !(i & ~(WORD_FORCE | WORD_FOLLOW | WORD_COUNTERS)))
		return false;
	w->given |= i;
	if (!value)
		return true;
	if (!nbd_percent_decode(value))
		return false;
	switch (i) {
	case WORD_BLOCKS: return number(value, &w->blocks);
	case WORD_RATE: return number(value, &w->rate);
	case WORD_SECONDS: return number(value, &w->seconds) && w->seconds <= UINT32_MAX;
	case WORD_HOST: w->host = value; break;
	case WORD_PORT: w->port = value; break;
	case WORD_NAME: w->name = value; return strlen(value) <= NBD_NAME_MAX;
	case WORD_URI: w->uri = value; break;
	}
	return true;
}

/* What each kind of server tells of itself. False: it is none of these. */
static bool request_seen(struct control *k, const char *verb, const char *rest)
{
	bool counters = ENABLE_FEATURE_XNBD_SERVER_COUNTERS && rest && strcmp(rest, "counters") == 0;

	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS && !rest && strcmp(verb, "metrics") == 0) {
		control_counters(k, true);
	} else if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS && !rest && strcmp(verb, "clients") == 0) {
		control_clients(k);
	} else if (!control_is_proxy(k) && strcmp(verb, "status") == 0 && (!rest || counters)) {
		control_emit_target(k);
		if (counters)
			control_counters(k, false);
		else
			control_answer(k, NULL);
	} else {
		return false;
	}
	return true;
}

/* ---- what a proxy can be asked for ----------------------------------------------------------- */

static void do_status(struct control *k, struct args *w)
{
	control_emit_status(k);
	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS && w->given & WORD_COUNTERS)
		control_counters(k, false);
	else
		control_answer(k, NULL);
}

static void do_switch(struct control *k, struct args *w)
{
	begin_switch(k, w->given & WORD_FORCE);
}

static void do_reconnect(struct control *k, struct args *w)
{
	bool force = w->given & WORD_FORCE;

	if (ENABLE_FEATURE_XNBD_SERVER_RECONNECT_URI && w->uri && !w->host && !w->port && !w->name)
		reconnect_to_uri(k, w->uri, force);
	else if (w->host && *w->host && w->port && *w->port && !w->uri)
		reconnect_to(k, w->host, w->port, w->name, force);
	else
		control_answer(k, "reconnect needs " IF_FEATURE_XNBD_SERVER_RECONNECT_URI("uri=, or ") "host= and port=");
}

static void do_hold(struct control *k, struct args *w)
{
	if (!(w->given & WORD_SECONDS)) {
		control_answer(k, "hold needs seconds=");
		return;
	}
	core_hold(k->export->disk.core, w->seconds * 1000);
	if (k->export->disk.origin)
		origin_hurry(k->export->disk.origin); /* its pauses are shorter with --hold */
	control_answer(k, NULL);
}

static void do_pause(struct control *k, struct args *w UNUSED_PARAM)
{
	control_answer(k, core_job_pause(k->export->disk.core) ? NULL : "no copy is running");
}

static void do_resume(struct control *k, struct args *w UNUSED_PARAM)
{
	control_answer(k, core_job_resume(k->export->disk.core) ? NULL : "no copy is paused");
}

static void do_cancel(struct control *k, struct args *w UNUSED_PARAM)
{
	core_job_cancel(k->export->disk.core);
	if (ENABLE_FEATURE_XNBD_SERVER_VERIFY)
		core_verify_cancel(k->export->disk.core);
	control_answer(k, NULL);
}

static const struct verb {
	char name[10];
	uint16_t words;
	void (*run)(struct control *k, struct args *w);
} proxy_verbs[] = {
	{ "status", ENABLE_FEATURE_XNBD_SERVER_COUNTERS * WORD_COUNTERS, do_status },
	{ "switch", WORD_FORCE, do_switch },
	{ "cache-all", WORD_BLOCKS | WORD_RATE | WORD_FOLLOW, begin_copy },
	IF_FEATURE_XNBD_SERVER_VERIFY({ "verify", WORD_RATE | WORD_FOLLOW, begin_verify },)
	{ "reconnect", WORD_HOST | WORD_PORT | WORD_NAME | ENABLE_FEATURE_XNBD_SERVER_RECONNECT_URI * WORD_URI | WORD_FORCE, do_reconnect },
	{ "hold", WORD_SECONDS, do_hold },
	{ "pause", 0, do_pause },
	{ "resume", 0, do_resume },
	{ "cancel", 0, do_cancel },
};

/* NULL: there is none of this name. */
static const struct verb *find_verb(const char *name)
{
	const struct verb *v;

	for (v = proxy_verbs; v < proxy_verbs + ARRAY_SIZE(proxy_verbs); v++)
		if (strcmp(v->name, name) == 0)
			return v;
	return NULL;
}

void control_bgctl(struct control *k, const char *verb, const char *host, const char *port, const char *name)
{
	struct args w = { .given = WORD_FOLLOW };

	if (strcmp(verb, "query") == 0)
		do_status(k, &w);
	else if (strcmp(verb, "switch") == 0)
		begin_switch(k, false);
	else if (strcmp(verb, "cache-all") == 0)
		begin_copy(k, &w);
	else
		reconnect_to(k, host, port, name, false);
}

static void request(struct control *k, char *line)
{
	struct args w = { 0 };
	char *name = strsep(&line, " ");
	const struct verb *v;
	char *p;

	/* What each server has comes first, then what a wrapper, a target and a proxy have. */
	if (ENABLE_FEATURE_XNBD_SERVER_UPGRADE && strcmp(name, "upgrade") == 0) {
		begin_upgrade(k);
		return;
	}
	if (request_seen(k, name, line))
		return;
	if (ENABLE_XNBD_WRAPPER && !k->export) {
		images_request(k, name, line);
		return;
	}
	v = find_verb(name);
	if (!v || !control_is_proxy(k)) {
		control_answer(k, v ? "this is a target's control socket: that is for a proxy's" : "unknown request");
		return;
	}
	while ((p = strsep(&line, " ")))
		if (*p && !parse_arg(&w, p, v->words)) {
			control_answer(k, "unknown or malformed word in the request");
			return;
		}
	v->run(k, &w);
}

char *control_line_end(struct control *k)
{
	if (k->xnbd04 || k->waiting || k->follow || k->listing || k->out_bytes > CONTROL_OUT_BYTES_MAX / 2)
		return NULL;
	return memchr(k->in, '\n', k->in_bytes);
}

bool control_parse_lines(struct control *k)
{
	char *end;

	while ((end = control_line_end(k))) {
		unsigned n = (unsigned)(end - k->in) + 1;
		char line[CONTROL_IN_BYTES];

		memcpy(line, k->in, n);
		line[n - 1] = '\0';
		k->in_bytes -= n;
		memmove(k->in, k->in + n, k->in_bytes);
		if (ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION && k->talks)
			talk_request(k, line);
		else
			request(k, line);
	}
	return k->in_bytes < CONTROL_IN_BYTES || memchr(k->in, '\n', k->in_bytes);
}
