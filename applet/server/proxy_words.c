/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* A proxy of xnbd-wrapper in words: what --proxy and add-proxy take, and what the database has. */
#include "libbb.h"
#include "secure/keys.h"
#include "server/proxy_words.h"
#include "storage/paths.h"

static const struct word {
	const char *key;
	size_t at;
	bool has_value;
} words[] = {
	{ "cache", offsetof(struct proxy_words, image), true },
	{ "bitmap", offsetof(struct proxy_words, bitmap), true },
	{ "control", offsetof(struct proxy_words, socket), true },
	{ "commit-file", offsetof(struct proxy_words, commit), true },
	{ "hold", offsetof(struct proxy_words, hold), true },
	{ "rate", offsetof(struct proxy_words, rate), true },
	{ "clear-bitmap", offsetof(struct proxy_words, clear), false },
	{ "adopt-bitmap", offsetof(struct proxy_words, adopt), false },
	{ "accept-image", offsetof(struct proxy_words, accept), false },
	{ "switched", offsetof(struct proxy_words, switched), false },
#if ENABLE_FEATURE_XNBD_SERVER_COVER
	{ "cover", offsetof(struct proxy_words, cover), false },
#endif
#if ENABLE_FEATURE_XNBD_SERVER_AUTO
	{ "exec", offsetof(struct proxy_words, hook), true },
	{ "auto-switch", offsetof(struct proxy_words, auto_switch), false },
# if ENABLE_FEATURE_XNBD_SERVER_VERIFY
	{ "verify", offsetof(struct proxy_words, verify), false },
# endif
#endif
};

static void parse_word(struct proxy_words *to, char *key)
{
	char *value = strchr(key, '=');
	const struct word *w = words;

	if (value)
		*value++ = '\0';
	while (w < words + ARRAY_SIZE(words) && strcmp(key, w->key) != 0)
		w++;
	if (w == words + ARRAY_SIZE(words))
		bb_error_msg_and_die("'%s' is unknown: see xnbd-wrapper(8), PROXIES", key);
	if (w->has_value != (value && *value) || (value && !nbd_percent_decode(value)))
		bb_error_msg_and_die(w->has_value ? "'%s=' needs a value" : "'%s' has no value", key);
	if (w->has_value)
		*(const char **)(void *)((char *)to + w->at) = value;
	else
		*((bool *)to + w->at) = true;
}

void proxy_words_parse(struct proxy_words *w)
{
	char *rest = w->text, *uri = strsep(&rest, w->separator), *word;
	const char *wrong = nbd_uri_parse(uri, &w->uri);

	if (wrong)
		bb_error_msg_and_die("the URI of the origin %s", wrong);
	while ((word = strsep(&rest, w->separator)))
		if (*word)
			parse_word(w, word);
	if (!w->image || !w->bitmap || !w->socket)
		bb_simple_error_msg_and_die("a proxy needs cache=, bitmap= and control=");
	if (w->verify && !w->auto_switch)
		bb_simple_error_msg_and_die("verify is for auto-switch");
	origin_address_of(&w->origin, &w->uri);
	w->origin.psk_file = NULL; /* it is to be one of its own, which proxy_words_free() frees; psk_one() may not come back */
	if (ENABLE_FEATURE_XNBD_TLS && w->uri.tls) {
		w->origin.psk = psk_one(w->uri.psk_file, w->uri.user);
		w->origin.psk_file = xpath_absolute(w->uri.psk_file);
	}
	if (w->hold)
		w->hold_s = xatou(w->hold);
	if (w->rate)
		w->rate_bytes = xatoull_sfx(w->rate, kMG_suffixes);
}

void proxy_words_free(struct proxy_words *w)
{
	if (ENABLE_FEATURE_XNBD_TLS && w->origin.psk)
		secret_free((struct psk *)w->origin.psk, sizeof(*w->origin.psk));
	free((char *)w->origin.psk_file);
	free((char *)w->origin.host);
	free(w->text);
}

/* ---- for the database ---------------------------------------------------------------------------------- */

void proxy_words_put_uri(struct database_text *t, const char *host, const char *port, const char *export, const char *user, const char *psk_file)
{
	const char *path = strncmp(host, "unix:", 5) == 0 ? host + 5 : NULL;

	database_put_text(t, psk_file ? "nbds" : "nbd");
	database_put_text(t, path ? "+unix://" : "://");
	if (psk_file && user && *user) {
		database_put_encoded(t, user, "");
		database_put_text(t, "@");
	}
	if (!path) {
		database_put_encoded(t, host, "");
		database_put_text(t, ":");
		database_put_encoded(t, port, "");
	}
	database_put_text(t, "/");
	if (export)
		database_put_encoded(t, export, "/");
	if (path) {
		database_put_text(t, "?socket=");
		database_put_encoded(t, path, "/");
	}
	if (psk_file) {
		database_put_text(t, path ? "&tls-psk-file=" : "?tls-psk-file=");
		database_put_encoded(t, psk_file, "/");
	}
}

char *proxy_words_text(const struct database_image *i)
{
	struct database_text t = { 0 };

	if (i->field[DATABASE_URI])
		database_put_text(&t, i->field[DATABASE_URI]);
	else
		proxy_words_put_uri(&t, i->field[DATABASE_HOST], i->field[DATABASE_PORT], i->field[DATABASE_EXPORT], NULL, NULL);
	database_put_text(&t, " cache=");
	database_put_encoded(&t, i->field[DATABASE_IMAGE], "/");
	database_put_text(&t, " bitmap=");
	database_put_encoded(&t, i->field[DATABASE_BITMAP], "/");
	database_put_text(&t, " control=");
	database_put_encoded(&t, i->field[DATABASE_CONTROL], "/");
	database_put_text(&t, " ");
	if (i->field[DATABASE_WORDS])
		database_put_text(&t, i->field[DATABASE_WORDS]);
	if (!t.lacks)
		return t.text;
	free(t.text);
	return NULL;
}

void proxy_words_put(const struct proxy_words *w, const char *commit, const char *hook, struct database_text *t)
{
	if (w->commit) {
		database_put_text(t, " commit-file=");
		database_put_encoded(t, commit, "/");
	}
	if (w->hold) {
		database_put_text(t, " hold=");
		database_put_encoded(t, w->hold, "");
	}
	if (w->rate) {
		database_put_text(t, " rate=");
		database_put_encoded(t, w->rate, "");
	}
	if (w->switched)
		database_put_text(t, " switched");
	if (w->auto_switch)
		database_put_text(t, " auto-switch");
	if (w->verify)
		database_put_text(t, " verify");
	if (w->hook) {
		database_put_text(t, " exec=");
		database_put_encoded(t, hook, "/");
	}
}
