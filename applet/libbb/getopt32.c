/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* Options of the command line. */
#include "libbb.h"

/* tests/doc/man_pages.sh counts the options of each applet, with all features: nothing here does. */
enum {
	OPTIONS_MAX = 64,
	BITS = 32, /* of the result: an option without an argument, and a list, has a bit below that */
};

int optind;
static char **words; /* of the command line */

struct parser {
	const char *letters;
	const char *longs;
	char **argv;
	void *value[OPTIONS_MAX]; /* where arguments go; NULL: it takes none */
	uint32_t lists;           /* those that may be given many times */
	uint32_t found;
};

/* The bit of a letter of `letters`, -1 when there is none. */
static int bit_of(const char *letters, char letter)
{
	int bit = -1;

	for (; *letters; letters++) {
		if (*letters == ':' || *letters == '*')
			continue;
		bit++;
		if (*letters == letter)
			return bit;
	}
	return -1;
}

/* written: the option as it was. argument: what stood in the same word, or NULL. */
static void option(struct parser *p, int bit, const char *written, const char *argument)
{
	void *value = p->value[bit];

	if (value) {
		if (!argument)
			argument = p->argv[optind] ? p->argv[optind++] : NULL;
		if (!argument)
			bb_error_msg_and_die("option '%s' needs an argument; try --help", written);
		/* Only that applet has such an option; others are spared malloc(3). */
		if (ENABLE_XNBD_WRAPPER && bit < BITS && p->lists >> bit & 1)
			llist_add_to_end(value, (char *)argument);
		else
			*(const char **)value = argument;
	}
	if (bit < BITS)
		p->found |= 1U << bit;
}

/* The letter of the long option of n bytes, or of the only one it can be short for;
 * '\0' when there is none. */
static char find_long(const char *longs, const char *name, size_t n)
{
	char found = '\0';
	bool ambiguous = false;

	for (; *longs; longs += strlen(longs) + 3) {
		char letter = longs[strlen(longs) + 2];

		if (strncmp(longs, name, n) != 0)
			continue;
		if (!longs[n])
			return letter;
		ambiguous |= found && found != letter;
		found = letter;
	}
	return ambiguous ? '\0' : found;
}

static void long_option(struct parser *p, char *word)
{
	char *equals = strchr(word, '=');
	char letter = '\0';
	int bit;

	if (strcmp(word, "--help") == 0) {
		xfunc_error_retval = 0;
		bb_show_usage();
	}
	if (ENABLE_LONG_OPTS)
		letter = find_long(p->longs, word + 2, equals ? (size_t)(equals - word) - 2 : strlen(word + 2));
	if (equals)
		*equals++ = '\0';
	bit = bit_of(p->letters, letter);
	if (bit < 0)
		bb_error_msg_and_die("unrecognized option '%s'; try --help", word);
	if (equals && !p->value[bit])
		bb_error_msg_and_die("option '%s' takes no argument; try --help", word);
	option(p, bit, word, equals);
}

static void short_options(struct parser *p, const char *word)
{
	char written[] = "-x";
	int bit;

	while (*++word) {
		written[1] = *word;
		bit = bit_of(p->letters, *word);
		if (bit < 0)
			bb_error_msg_and_die("unrecognized option '%s'; try --help", written);
		if (!p->value[bit]) {
			option(p, bit, written, NULL);
			continue;
		}
		option(p, bit, written, word[1] ? word + 1 : NULL);
		return;
	}
}

/* Moves the words [from, to) of argv before those that begin at `first`. Returns where
 * these begin now. */
static int move_before(char **argv, int first, int from, int to)
{
	for (; from < to; from++, first++) {
		char *word = argv[from];

		memmove(argv + first + 1, argv + first, (size_t)(from - first) * sizeof(*argv));
		argv[first] = word;
	}
	return first;
}

static void parse(struct parser *p)
{
	int first = 1; /* words [first, optind) are arguments */
	int start;
	char *word;

	for (optind = 1; (word = p->argv[optind]);) {
		start = optind++;
		if (word[0] != '-' || !word[1])
			continue;
		if (word[1] != '-')
			short_options(p, word);
		else if (word[2])
			long_option(p, word);
		first = move_before(p->argv, first, start, optind);
		if (word[1] == '-' && !word[2])
			break; /* what is behind "--" are arguments */
	}
	optind = first;
}

/* In memory, an argument of its own begins behind the end of the word before, as one behind '=' begins behind the end that
 * took the place of that. */
const char *bb_option_of(const char *argument)
{
	char **w = words;

	while (w && *w && (uintptr_t)argument - (uintptr_t)*w - 1 > strlen(*w))
		w++;
	return w && *w ? *w : "number";
}

#if ENABLE_LONG_OPTS
uint32_t getopt32long(char **argv, const char *options, const char *long_options, ...)
#else
uint32_t getopt32(char **argv, const char *options, ...)
#endif
{
	struct parser p = { .letters = options, .argv = argv };
	const char *o;
	va_list args;
	int bit = 0;

	IF_LONG_OPTS(p.longs = long_options; va_start(args, long_options);)
	IF_NOT_LONG_OPTS(va_start(args, options);)
	for (o = options; *o; o++) {
		if (*o == ':' || *o == '*')
			continue;
		if (o[1] == ':') {
			p.value[bit] = va_arg(args, void *);
			if (o[2] == '*')
				p.lists |= 1U << bit;
		}
		bit++;
	}
	va_end(args);
	words = argv;
	parse(&p);
	return p.found;
}
