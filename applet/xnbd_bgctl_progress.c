/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* xnbd-bgctl --progress: a bar on a terminal, else a line every few seconds. */
//config:config FEATURE_XNBD_BGCTL_PROGRESS
//config:	bool "--progress (2.2 kb)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	A bar, or a line now and then, while blocks are copied.
//kbuild:lib-$(CONFIG_FEATURE_XNBD_BGCTL_PROGRESS) += xnbd_bgctl_progress.o
#include "libbb.h"
#include "xnbd_bgctl.h"

#include <sys/ioctl.h>

enum {
	GROUPS_PER_LINE = 25, /* without a terminal: a line every five seconds */
};

/* Takes a line over into p. True: it was the last one of a group. */
static bool parse_line(struct progress *p, const char *key, const char *value)
{
	static const char numbers[] ALIGN1 = "blocks\0cached\0job_found\0job_rate\0"
		IF_FEATURE_XNBD_BGCTL_VERIFY("looked_at\0");
	unsigned long long *to[] = { &p->blocks, &p->cached, &p->found, &p->rate, &p->cached };
	const char *name = numbers;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(to); i++, name += strlen(name) + 1)
		if (strcmp(key, name) == 0)
			*to[i] = strtoull(value, NULL, 10);
	if (strcmp(key, "job_eta") == 0)
		snprintf(p->eta, sizeof(p->eta), "%s", value);
	if (strcmp(key, "origin_state") == 0)
		snprintf(p->origin, sizeof(p->origin), "%s", value);
	if (strcmp(key, "percent") != 0)
		return false;
	snprintf(p->percent, sizeof(p->percent), "%s", value);
	return true;
}

/* The mean rate, from one group to another if there are two. 0: unknown. */
static unsigned long long mean_rate(const struct progress *p)
{
	bool many = p->groups > 1;
	unsigned long long ms = monotonic_ms() - (many ? p->first_ms : p->began_ms);

	return (p->cached - (many ? p->first : p->found)) * BLOCK_BYTES * 1000 / (ms + 1);
}

/* " 53.2% 118.4 MB/s 12 s left": what stands behind the bar; at the end, " 100.0% 97.1 MB/s
 * in 60.4 s", the mean of it all. */
static int format_state(char *to, size_t room, const struct progress *p)
{
	unsigned rate = (unsigned)((p->ended ? mean_rate(p) : p->rate) / 100000);
	unsigned took = (unsigned)((monotonic_ms() - p->began_ms) / 100);
	int bytes = snprintf(to, room, " %s", p->percent);

	if (p->ended ? rate : p->paced)
		bytes += snprintf(to + bytes, room - (size_t)bytes, " %u.%u MB/s", rate / 10, rate % 10);
	if (p->ended)
		bytes += snprintf(to + bytes, room - (size_t)bytes, " in %u.%u s", took / 10, took % 10);
	else if (strcmp(p->origin, "up") != 0)
		bytes += snprintf(to + bytes, room - (size_t)bytes, " origin is %s", p->origin);
	else if (p->eta[0] && p->eta[0] != '-')
		bytes += snprintf(to + bytes, room - (size_t)bytes, " %s s left", p->eta);
	return bytes;
}

/* To the begin of the bar's row; behind the name of its disk, if it has one. */
static char *put_row_begin(char *to)
{
	if (!ENABLE_FEATURE_XNBD_BGCTL_ALL || !bgctl_row.name) {
		*to++ = '\r';
		return to;
	}
	return to + snprintf(to, 128, "\r\033[%uA%-*s ", bgctl_row.above, bgctl_row.width, bgctl_row.name);
}

/* Blocks that were local before as '=', those fetched since as '#'. */
static void draw_bar(struct progress *p)
{
	char text[128], line[640];
	int width = get_terminal_width(STDERR_FILENO) - 1;
	int bar = width - 2 - format_state(text, sizeof(text), p);
	int found, local, i;
	char *to = put_row_begin(line);

	if (ENABLE_FEATURE_XNBD_BGCTL_ALL && bgctl_row.name)
		bar -= bgctl_row.width + 1;
	if (width > 504)
		bar -= width - 504;
	if (bar > 3) {
		found = p->blocks ? (int)(p->found * (unsigned)bar / p->blocks) : bar;
		local = p->blocks ? (int)(p->cached * (unsigned)bar / p->blocks) : bar;
		*to++ = '[';
		for (i = 0; i < bar; i++)
			*to++ = i < found ? '=' : i < local ? '#' : ' ';
		*to++ = ']';
	}
	to = stpcpy(to, text);
	to = stpcpy(to, "\033[K"); /* clear what an earlier, longer line left */
	if (ENABLE_FEATURE_XNBD_BGCTL_ALL && bgctl_row.name)
		to += snprintf(to, 16, "\r\033[%uB", bgctl_row.above);
	full_write(STDERR_FILENO, line, (size_t)(to - line));
	p->drawn = true;
}

static void print_line(const struct progress *p)
{
	char text[128], line[256];
	int bytes;

	format_state(text, sizeof(text), p);
	bytes = snprintf(line, sizeof(line), "%s: %llu of %llu blocks,%s\n", applet_name, p->cached, p->blocks, text);
	full_write(STDERR_FILENO, line, (size_t)bytes);
}

void bgctl_progress_begin(struct progress *p)
{
	struct winsize w;

	memset(p, 0, sizeof(*p));
	p->terminal = ioctl(STDERR_FILENO, TIOCGWINSZ, &w) == 0; /* isatty(3), without more of libc */
	if (ENABLE_FEATURE_XNBD_BGCTL_ALL && bgctl_row.name && !bgctl_row.above)
		p->terminal = false;
	p->began_ms = monotonic_ms();
}

void bgctl_progress_line(struct progress *p, const char *key, const char *value)
{
	if (!parse_line(p, key, value))
		return;
	p->paced |= p->rate != 0;
	if (!p->groups) {
		p->first_ms = monotonic_ms();
		p->first = p->cached;
	}
	if (p->terminal)
		draw_bar(p);
	else if (p->groups % GROUPS_PER_LINE == 0 && p->cached != p->blocks)
		print_line(p);
	p->groups++;
}

void bgctl_progress_end(struct progress *p)
{
	p->ended = true;
	if (p->drawn) {
		draw_bar(p);
		if (!ENABLE_FEATURE_XNBD_BGCTL_ALL || !bgctl_row.name)
			full_write(STDERR_FILENO, "\n", 1);
	} else if (p->groups) {
		print_line(p);
	}
	p->drawn = false; /* the end is shown once */
	p->groups = 0;
}
