/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * The interactive protocol of xNBD's xnbd-wrapper, for its xnbd-wrapper-ctl and for ours. A client that is silent at
 * first gets a greeting, and speaks this protocol from then on. Each of its lines is a verb with words; the reply is
 * any lines, then "return code N" and a prompt.
 *
 * The verbs do the same as the requests of the text protocol; control_answer() ends the reply in both.
 */
#include "libbb.h"
#include "control/connection.h"
#include "control/control.h"
#include "nbd/nbd.h"
#include "storage/paths.h"

#include <signal.h>

#if ENABLE_FEATURE_XNBD_WRAPPER_CONVERSATION
static const char prompt[] = "(xnbd) ";

void talk_begin(struct control *k)
{
	k->talks = true;
	control_print(k, "\"help\" command displays help for other commands\n%s", prompt);
	control_flush(k);
}

/* The disk that the request was about is held no more. */
void talk_release(struct control *k)
{
	if (!k->talks || !k->export)
		return;
	export_drop(k->export);
	k->export = NULL;
}

void talk_answer(struct control *k, const char *error)
{
	static const char cannot[] = "cannot open '";
	const char *end = error && strncmp(error, cannot, sizeof(cannot) - 1) == 0 ? strstr(error, "': ") : NULL;

	if (end) { /* in xNBD's words: without the quotes */
		control_print(k, "cannot open ");
		error += sizeof(cannot) - 1;
		control_emit_line(k, error, (size_t)(end - error));
		control_emit_line(k, end + 1, strlen(end + 1));
	} else if (error) {
		control_emit_line(k, error, strlen(error));
	}
	control_print(k, "%sreturn code %u\n%s", error ? "\n" : "", error != NULL, prompt);
	control_answered(k);
}

static void emit_paths(struct control *k, const char *name, const char *path)
{
	control_emit_escaped(k, name, " ");
	control_print(k, " ");
	control_emit_escaped(k, path, " ");
}

void talk_list(struct control *k, const struct export *e)
{
	control_print(k, "%llu ", (unsigned long long)e->nbd.serial);
	emit_paths(k, e->nbd.name, e->disk.path[FILE_IMAGE]);
	control_print(k, "%s\n", !e->disk.words ? " target" : core_is_proxy(e->disk.core) ? " proxy" : " switched");
}

void talk_list_kept(struct control *k, const struct kept_image *i)
{
	control_print(k, "- ");
	emit_paths(k, i->name, i->path);
	control_emit_string(k, " kept:", i->why);
}

void talk_list_end(struct control *k)
{
	const struct export *e = exports;

	if (k->list_next > KEPT_SERIAL)
		return;
	while (e && e->removed)
		e = e->next;
	if (!e)
		control_print(k, "no item\n");
}

/* ---- what the verbs do ------------------------------------------------------------------------ */

enum { WORDS_MAX = 8 };

struct words {
	char *at[WORDS_MAX]; /* the verb, and what follows it; NULL: no more */
	unsigned n;
};

static bool is_of_file(const struct export *e, const char *path)
{
	return strcmp(e->disk.path[FILE_IMAGE], path) == 0;
}

static bool is_of_name(const struct export *e, const char *name)
{
	return strcmp(e->nbd.name, name) == 0;
}

static bool is_of_index(const struct export *e, const char *index)
{
	char text[24];

	snprintf(text, sizeof(text), "%llu", (unsigned long long)e->nbd.serial);
	return strcmp(text, index) == 0;
}

/* The first one that is served, of this word; NULL: there is none. */
static const struct export *find(const char *word, bool (*is_it)(const struct export *e, const char *word))
{
	const struct export *e = exports;

	while (e && (e->removed || !is_it(e, word)))
		e = e->next;
	return e;
}

static const struct export *find_file(const char *path)
{
	char *full = path_absolute(path);
	const struct export *e = full ? find(full, is_of_file) : NULL;

	free(full);
	return e;
}

/* Of what is kept, as it is listed. */
static const char *name_of_kept(const char *path)
{
	const struct kept_image *i = control_database->next_kept(0);

	while (i && strcmp(i->path, path) != 0)
		i = control_database->next_kept(i->serial + 1);
	return i ? i->name : NULL;
}

static const char twice[] = "image cannot be added twice";

static void talk_add(struct control *k, const struct words *w)
{
	const char *name = w->at[1], *path = w->at[w->n - 1]; /* add FILE: its name is its path */

	if (find(name, is_of_name) || find_file(path))
		control_answer(k, twice);
	else
		image_add(k, name, path);
}

static void talk_add_proxy(struct control *k, const struct words *w)
{
	const char *why = "this xnbdbox has no proxies";

	if (ENABLE_FEATURE_XNBD_WRAPPER_PROXY)
		why = find(w->at[1], is_of_name) ? twice : proxy_add_words(k, (const char *const *)w->at + 1);
	if (why)
		control_answer(k, why);
}

static void talk_del(struct control *k, const char *name)
{
	if (name)
		image_remove(k, name);
	else
		control_answer(k, "there is no such image");
}

static void talk_del_file(struct control *k, const struct words *w)
{
	const struct export *e = find_file(w->at[1]);
	const char *name = e ? e->nbd.name : NULL;

	if (ENABLE_FEATURE_XNBD_WRAPPER_DBPATH && !e && control_database)
		name = name_of_kept(w->at[1]);
	talk_del(k, name);
}

static void talk_del_index(struct control *k, const struct words *w)
{
	const struct export *e = find(w->at[1], is_of_index);

	talk_del(k, e ? e->nbd.name : NULL);
}

static void talk_del_name(struct control *k, const struct words *w)
{
	image_remove(k, w->at[1]);
}

/* The verbs of xnbd-bgctl: the same requests, about one proxy, which is held until they are answered. */
static void talk_bgctl(struct control *k, const struct words *w)
{
	struct export *e = export_find(w->at[1], strlen(w->at[1]));

	if (!e || !e->disk.words) {
		control_answer(k, "there is no proxy of this name");
		return;
	}
	export_hold(e);
	k->export = e;
	control_bgctl(k, w->at[0] + sizeof("bgctl-") - 1, w->at[2], w->at[3], w->at[4]);
}

static void talk_save(struct control *k, const struct words *w UNUSED_PARAM)
{
	images_save(k);
}

static void talk_reload(struct control *k, const struct words *w UNUSED_PARAM)
{
	images_reload(k);
}

static void talk_shutdown(struct control *k, const struct words *w UNUSED_PARAM)
{
	control_answer(k, NULL);
	kill(getpid(), SIGTERM);
}

static void talk_orphan(struct control *k, const struct words *w UNUSED_PARAM)
{
	control_answer(k, "this wrapper serves in its own process: it cannot end and leave its servers");
}

static void talk_images(struct control *k, const struct words *w UNUSED_PARAM)
{
	images_list(k);
}

static void talk_quit(struct control *k, const struct words *w UNUSED_PARAM)
{
	control_finish(k);
}

static void talk_help(struct control *k, const struct words *w);

static const struct verb {
	const char *name, *usage;
	unsigned fewest, most; /* words behind it */
	void (*run)(struct control *k, const struct words *w);
} verbs[] = {
	{ "list", "", 0, 0, talk_images },
	{ "add-target", "NAME FILE", 2, 2, talk_add },
	{ "add", "[NAME] FILE", 1, 2, talk_add },
	{ "add-proxy", "NAME HOST PORT CACHE_IMAGE BITMAP_IMAGE CONTROL_SOCKET [REMOTE_EXPORTNAME]", 6, 7, talk_add_proxy },
	{ "del", "INDEX", 1, 1, talk_del_index },
	{ "del-file", "FILE", 1, 1, talk_del_file },
	{ "del-exportname", "NAME", 1, 1, talk_del_name },
	{ "bgctl-query", "NAME", 1, 1, talk_bgctl },
	{ "bgctl-switch", "NAME", 1, 1, talk_bgctl },
	{ "bgctl-cache-all", "NAME", 1, 1, talk_bgctl },
	{ "bgctl-reconnect", "NAME HOST PORT [REMOTE_EXPORTNAME]", 3, 4, talk_bgctl },
	{ "reload", "", 0, 0, talk_reload },
	{ "save", "", 0, 0, talk_save },
	{ "shutdown", "", 0, 0, talk_shutdown },
	{ "orphan", "", 0, 0, talk_orphan },
	{ "help", "", 0, 0, talk_help },
	{ "quit", "", 0, 0, talk_quit },
};

static void talk_help(struct control *k, const struct words *w UNUSED_PARAM)
{
	const struct verb *v;

	for (v = verbs; v < verbs + ARRAY_SIZE(verbs); v++)
		control_print(k, "%s%s%s\n", v->name, *v->usage ? " " : "", v->usage);
	control_answer(k, NULL);
}

void talk_request(struct control *k, char *line)
{
	const struct verb *v = verbs;
	struct words w = { 0 };
	char *word;
	bool well = true;

	line[strcspn(line, "\r")] = '\0';
	while ((word = strsep(&line, " "))) {
		if (!*word)
			continue;
		well = well && w.n < WORDS_MAX && nbd_percent_decode(word);
		if (well)
			w.at[w.n++] = word;
	}
	if (!w.n && well) {
		control_print(k, "%s", prompt);
		control_answered(k);
		return;
	}
	while (well && v < verbs + ARRAY_SIZE(verbs) && strcmp(v->name, w.at[0]) != 0)
		v++;
	if (!well || v == verbs + ARRAY_SIZE(verbs))
		control_answer(k, "unknown command: see \"help\"");
	else if (w.n - 1 < v->fewest || w.n - 1 > v->most)
		control_answer(k, "too few or too many words: see \"help\"");
	else
		v->run(k, &w);
}
#endif
