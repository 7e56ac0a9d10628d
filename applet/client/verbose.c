/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Counts clients that connect, disconnect or are refused; with --verbose, also logs them: a sentence for people,
 * key=value words for programs. */
#include "client/session.h"

#include <sys/socket.h>

enum {
	TOLD_MS = 10000, /* so often a reason to refuse clients is told, at most */
};

/* ---- words -------------------------------------------------------------------------------- */

static const struct { const char *word, *sentence; } ends[ENDS] = {
	[END_LOST] = { "lost", "the connection was lost" },
	[END_DISCONNECT] = { "disconnect", "it has disconnected" },
	[END_ABORT] = { "abort", "it wanted no export" },
	[END_HANG_UP] = { "hang-up", "it hung up without disconnecting" },
	[END_PROTOCOL] = { "protocol", "it broke the protocol" },
	[END_SILENT] = { "silent", "its machine does not answer any more" },
	[END_LATE] = { "late", "it made no progress, and another client needed its place" },
	[END_STUCK] = { "stuck", "it took no replies" },
	[END_BROKEN] = { "broken", "a reply that had begun could not be completed" },
	[END_MEMORY] = { "memory", "out of memory" },
};

const char *end_word(enum session_end why)
{
	return ends[why].word;
}

void peer_name(char *to, int fd, const struct endpoint *e)
{
	struct endpoint peer = { .bytes = sizeof(peer.address) };
	char host[ENDPOINT_TEXT_BYTES], port[8];
	struct ucred process;
	socklen_t n = sizeof(process);

	if (!e && getpeername(fd, &peer.address.any, &peer.bytes) == 0)
		e = &peer;
	strcpy(to, "unknown");
	if (!e || !e->bytes)
		return;
	if (e->address.any.sa_family == AF_UNIX) {
		if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &process, &n) == 0)
			snprintf(to, PEER_BYTES, process.pid == getpid() ? "device" : "pid:%u", (unsigned)process.pid);
	} else if (endpoint_text(e, host, port)) {
		snprintf(to, PEER_BYTES, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
	}
}

/* ---- lines -------------------------------------------------------------------------------- */

/* The name of its export as a word. */
static char *export_word(const struct session *s, char *to)
{
	const char *name = s->export ? s->export->nbd.name : "";

	return verbose_word(to, VERBOSE_WORD, name, strlen(name));
}

void client_begins(const struct session *s)
{
	char name[VERBOSE_WORD];

	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS)
		count_client(s);
	if (!is_verbose())
		return;
	export_word(s, name);
	verbose_line(VERBOSE_CLIENTS, "client %s uses export '%s' event=connect client=%s export=%s", s->peer, name, s->peer, name);
}

/* In the handshake: with an export, if it has asked for one and then not used it. */
static void leaves_handshake(const struct session *s)
{
	const char *word = ends[s->end].word;

	if (ENABLE_FEATURE_XNBD_TLS && s->handshake.tls == NBD_TLS_REQUIRE && s->handshake.got_client_flags && !sessions_stopping)
		client_refused(s->peer, REFUSED_NO_TLS, NULL, NULL, 0);
	else if (is_verbose() && !s->was_refused)
		verbose_line(VERBOSE_CLIENTS, "client %s is gone before it used an export: %s event=leave client=%s reason=%s",
			     s->peer, ends[s->end].sentence, s->peer, word);
}

void client_ends(const struct session *s)
{
	char name[VERBOSE_WORD];

	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS)
		count_end(s);
	if (s->state == SESSION_HANDSHAKE) {
		leaves_handshake(s);
		return;
	}
	if (!is_verbose())
		return;
	export_word(s, name);
	verbose_line(VERBOSE_CLIENTS,
		     "client %s has left export '%s': %s event=disconnect client=%s export=%s reason=%s read=%llu written=%llu seconds=%llu",
		     s->peer, name, ends[s->end].sentence, s->peer, name, ends[s->end].word,
		     (unsigned long long)s->read_total, (unsigned long long)s->written_total,
		     (unsigned long long)(loop_now_ms() - s->began_ms) / 1000);
}

const char *refusal_word(enum refusal why)
{
	static const char *const words[REFUSALS] = { "max-clients", "allow", "unknown-export", "allow-key", "tls-required",
						     "tls-resources", "tls-failed", "memory" };

	return words[why];
}

/* ALWAYS: without --verbose, too. */
enum { ALWAYS = 1 << REFUSED_PLACE | 1 << REFUSED_ADDRESS | 1 << REFUSED_KEY | 1 << REFUSED_RELAY | 1 << REFUSED_MEMORY };
#define IF_TOLD(text) (ENABLE_FEATURE_XNBD_SERVER_VERBOSE ? (text) : NULL)

static const char *const refusals[REFUSALS] = {
	[REFUSED_PLACE] = "too many clients (--max-clients)",
	[REFUSED_ADDRESS] = "its address is not in --allow",
	[REFUSED_NAME] = IF_TOLD("there is no export of this name"),
	[REFUSED_KEY] = "no --allow-key gives it this export",
	[REFUSED_NO_TLS] = IF_TOLD("it does not use TLS, which --tls requires"),
	[REFUSED_RELAY] = "there is no thread, memory or descriptor for TLS",
	[REFUSED_HANDSHAKE] = IF_TOLD("TLS has failed"), /* the relay has told why */
	[REFUSED_MEMORY] = "out of memory or descriptors",
};

/* Without --verbose: the first of each reason, then one every TOLD_MS. *more: how many there were between. */
static bool is_to_tell(enum refusal why, unsigned *more)
{
	static struct { uint64_t told_ms; unsigned more; } told[REFUSALS];

	if (!(ALWAYS >> why & 1))
		return false;
	if (told[why].told_ms && loop_now_ms() - told[why].told_ms < TOLD_MS) {
		told[why].more++;
		return false;
	}
	*more = told[why].more;
	told[why].told_ms = loop_now_ms();
	told[why].more = 0;
	return true;
}

void client_refused(const char *peer, enum refusal why, const char *key, const char *name, size_t n)
{
	char words[2 * (VERBOSE_WORD + sizeof(" export="))] = "", *p = words;
	unsigned more = 0;

	if (ENABLE_FEATURE_XNBD_SERVER_COUNTERS)
		clients_refused[why]++;
	if (!is_verbose() && !is_to_tell(why, &more))
		return;
	if ((ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY || (ENABLE_FEATURE_XNBD_TLS && ENABLE_FEATURE_XNBD_SERVER_VERBOSE)) && key)
		p = strchr(verbose_word(stpcpy(p, " key="), VERBOSE_WORD, key, strlen(key)), '\0');
	if ((ENABLE_FEATURE_XNBD_WRAPPER_ALLOW_KEY || ENABLE_FEATURE_XNBD_SERVER_VERBOSE) && name)
		verbose_word(stpcpy(p, " export="), VERBOSE_WORD, name, n);
	if (is_verbose())
		verbose_line(VERBOSE_REFUSALS, "client %s is refused: %s event=refuse client=%s%s reason=%s", peer,
			     refusals[why], peer, words, refusal_word(why));
	else
		bb_error_msg("client %s is refused (%u more before): %s%s", peer, more, refusals[why], words);
}

void session_refused(struct session *s, enum refusal why, const char *name, size_t n)
{
	if (!s->was_refused)
		client_refused(s->peer, why, ENABLE_FEATURE_XNBD_TLS && s->key ? s->key->name : NULL, name, n);
	s->was_refused = true;
}

void verbose_fails(const struct command *x, uint32_t error)
{
	const struct session *s = x->session;
	const char *why = reason(x, error);
	char name[VERBOSE_WORD], why_word[VERBOSE_WORD];

	export_word(s, name);
	verbose_line(VERBOSE_ERRORS,
		     "client %s gets an error of export '%s': %s of %u bytes at %llu: %s%s%s event=error client=%s export=%s request=%s offset=%llu bytes=%u error=%s why=%s",
		     s->peer, name, command_word(x->given_type), x->given_bytes, (unsigned long long)x->given_offset,
		     error_word(error_index(error)), *why ? ", " : "", why, s->peer, name, command_word(x->given_type),
		     (unsigned long long)x->given_offset, x->given_bytes, error_word(error_index(error)),
		     verbose_word(why_word, sizeof(why_word), why, strlen(why)));
}
