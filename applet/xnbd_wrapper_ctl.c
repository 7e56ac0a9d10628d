/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-wrapper-ctl: controls a running xnbd-wrapper, ours or xNBD's, through its control socket. It waits for the prompt,
 * sends one line, prints the reply, and ends with its return code. xnbd-wrapper(8) describes the protocol.
 */
//config:config XNBD_WRAPPER_CTL
//config:	bool "xnbd-wrapper-ctl (3.3 kb)"
//config:	default y
//config:	help
//config:	Controls a running xnbd-wrapper: adds and removes images and proxies, with
//config:	the options of xNBD's.
//applet:IF_XNBD_WRAPPER_CTL(APPLET_ODDNAME(xnbd-wrapper-ctl, xnbd_wrapper_ctl, BB_DIR_USR_SBIN, BB_SUID_DROP, xnbd_wrapper_ctl))
//kbuild:lib-$(CONFIG_XNBD_WRAPPER_CTL) += xnbd_wrapper_ctl.o
//usage:#define xnbd_wrapper_ctl_trivial_usage
//usage:       "COMMAND [ARGUMENT]... [OPTIONS]"
//usage:#define xnbd_wrapper_ctl_full_usage "\n\n"
//usage:       "Control a running xnbd-wrapper\n"
//usage:     "\n	-l,--list		List what is served"
//usage:     "\n	-A,--add-target NAME FILE"
//usage:     "\n	-a,--add FILE		... named by its path"
//usage:     "\n	-p,--add-proxy NAME HOST PORT CACHE_IMAGE BITMAP_IMAGE CONTROL_SOCKET"
//usage:     "\n	-r,--remove INDEX	Its number in the list"
//usage:     "\n	-f,--remove-by-file FILE"
//usage:     "\n	-n,--remove-by-exportname NAME"
//usage:     "\n	-q,--bgctl-query NAME	State of a proxy"
//usage:     "\n	-c,--bgctl-cache-all NAME	Copy all of it"
//usage:     "\n	-w,--bgctl-switch NAME	Make it a target"
//usage:     "\n	-R,--bgctl-reconnect NAME HOST PORT"
//usage:     "\n	-e,--target-exportname NAME	For -p and -R"
//usage:     "\n	-L,--reload		Retry what could not be opened"
//usage:     "\n	-S,--save		Write the database"
//usage:     "\n	-d,--shutdown		Stop the server"
//usage:     "\n	-o,--orphan		... but not those that it has started"
//usage:     "\n	-s,--socket PATH	Control socket (/var/run/xnbd-wrapper.ctl)"
#include "libbb.h"

#include <sys/time.h>
#include <sys/un.h>

enum {
	GREETING_S = 30,       /* how long a server has until its prompt, */
	SILENT_S = 3,          /* ... and may be silent before it is asked what it is: ours greets after half a second; */
	PROMPT_S = 5,          /* ... and until the next one, behind its reply */
	LINE_BYTES = 16384,    /* of a request, and of a line of a reply that is looked at as a whole */
	OPTBIT_COMMANDS = 2,   /* the first two letters have values */
};

static const char prompt[] = "(xnbd) ";

static const char options[] ALIGN1 = "s:e:lAaprfnqcwRLSdo";

#if ENABLE_LONG_OPTS
static const char long_options[] ALIGN1 =
	"socket\0" Required_argument "s"
	"target-exportname\0" Required_argument "e"
	"list\0" No_argument "l"
	"add-target\0" No_argument "A"
	"add\0" No_argument "a"
	"add-proxy\0" No_argument "p"
	"remove\0" No_argument "r"
	"remove-by-file\0" No_argument "f"
	"remove-by-exportname\0" No_argument "n"
	"bgctl-query\0" No_argument "q"
	"bgctl-cache-all\0" No_argument "c"
	"bgctl-switch\0" No_argument "w"
	"bgctl-reconnect\0" No_argument "R"
	"reload\0" No_argument "L"
	"save\0" No_argument "S"
	"shutdown\0" No_argument "d"
	"orphan\0" No_argument "o";
#endif

/* In the order of the options. */
static const struct command {
	const char *verb;
	unsigned words;
} commands[] = {
	{ "list", 0 },		  { "add-target", 2 },	   { "add", 1 },	{ "add-proxy", 6 },   { "del", 1 },
	{ "del-file", 1 },	  { "del-exportname", 1 }, { "bgctl-query", 1 }, { "bgctl-cache-all", 1 }, { "bgctl-switch", 1 },
	{ "bgctl-reconnect", 3 }, { "reload", 0 },	   { "save", 0 },	{ "shutdown", 0 },    { "orphan", 0 },
};

static void limit_wait(int fd, unsigned seconds)
{
	const struct timeval limit = { .tv_sec = seconds };

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)); /* also of connect(2) */
}

static int connect_to(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (strlen(path) >= sizeof(a.sun_path))
		bb_error_msg_and_die("'%s' is too long for a socket", path);
	strcpy(a.sun_path, path);
	limit_wait(fd, GREETING_S);
	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)) < 0)
		bb_perror_msg_and_die("cannot connect to '%s'", path);
	return fd;
}

/* Words are encoded as in URLs. Returns behind the word. */
static char *put_word(char *to, const char *end, const char *word)
{
	for (; *word; word++) {
		unsigned char c = (unsigned char)*word;
		bool plain = c > ' ' && c < 0x7f && c != '%';

		if (end - to < 8)
			bb_simple_error_msg_and_die("the arguments are too long");
		to += snprintf(to, 4, plain ? "%c" : "%%%02x", c);
	}
	*to++ = ' ';
	return to;
}

/* What has come, and is not looked at yet. */
struct input {
	int fd;
	size_t n;
	bool has_requested; /* what it is */
	bool is_second;     /* the second connection */
	char text[LINE_BYTES];
};

/* Receives more, or asks who is silent. Dies at the end. */
static void receive(struct input *in)
{
	ssize_t n = safe_read(in->fd, in->text + in->n, sizeof(in->text) - in->n);

	if (n < 0 && errno == EAGAIN && !in->has_requested) {
		in->has_requested = true;
		limit_wait(in->fd, GREETING_S);
		full_write(in->fd, "status\n", 7);
		return;
	}
	if (n < 0)
		bb_simple_perror_msg_and_die("no answer");
	if (!n)
		bb_simple_error_msg_and_die("the server has hung up");
	in->n += (size_t)n;
}

static void drop(struct input *in, size_t n)
{
	in->n -= n;
	memmove(in->text, in->text + n, in->n);
}

/* The next line, with its end; or without, if it is longer than the room. */
static size_t next_line(struct input *in)
{
	const char *end;

	while (!(end = memchr(in->text, '\n', in->n)) && in->n < sizeof(in->text))
		receive(in);
	return end ? (size_t)(end - in->text) + 1 : in->n;
}

static bool begins_with(const struct input *in, const char *text)
{
	return in->n >= strlen(text) && memcmp(in->text, text, strlen(text)) == 0;
}

/* The greeting, which ends with the prompt. A target or proxy of ours sends none: it is asked what it is. False: a
 * wrapper of ours has answered that, which may have been too slow to greet. */
static bool skip_greeting(struct input *in)
{
	unsigned long long until_ms = monotonic_ms() + GREETING_S * 1000ULL;

	while (!begins_with(in, prompt)) {
		const char *end = memchr(in->text, '\n', in->n);

		if (!in->is_second && end && in->has_requested && begins_with(in, "mode wrapper\n"))
			return false;
		if (end && in->has_requested && begins_with(in, "mode "))
			bb_error_msg_and_die("this is a %.*s's control socket: use xnbd-bgctl", (int)(end - in->text) - 5, in->text + 5);
		if (monotonic_ms() >= until_ms)
			bb_simple_error_msg_and_die("no answer");
		if (end)
			drop(in, (size_t)(end - in->text) + 1);
		else if (in->n == sizeof(in->text))
			bb_simple_error_msg_and_die("not an xnbd-wrapper");
		else
			receive(in);
	}
	drop(in, sizeof(prompt) - 1);
	return true;
}

/* Behind the last line of a reply, of n bytes. A client that disconnects earlier may kill xNBD's wrapper: it writes to
 * a socket that nobody has. One that ends sends no prompt. */
static void wait_for_prompt(struct input *in, size_t n)
{
	ssize_t got = 1;

	drop(in, n);
	limit_wait(in->fd, PROMPT_S);
	while (in->n < sizeof(prompt) - 1 && got > 0) {
		got = safe_read(in->fd, in->text + in->n, sizeof(in->text) - in->n);
		in->n += got > 0 ? (size_t)got : 0;
	}
}

/* Prints the reply, or drops it. Returns its code. */
static int read_reply(struct input *in, bool prints)
{
	static const char code[] = "return code ";
	bool at_begin = true;

	for (;;) {
		size_t n = next_line(in);
		const char *p = in->text;
		unsigned value = 0;

		if (at_begin && begins_with(in, code) && in->text[n - 1] == '\n') { /* else it has no end in this room */
			for (p += sizeof(code) - 1; *p >= '0' && *p <= '9'; p++)
				value = value < 256 ? value * 10 + (unsigned)(*p - '0') : value;
			if (*p == '\n' && p[-1] != ' ') {
				wait_for_prompt(in, n);
				return value < 256 ? (int)value : 1;
			}
		}
		at_begin = in->text[n - 1] == '\n';
		bb_make_printable(in->text, n - at_begin);
		if (prints && full_write(STDOUT_FILENO, in->text, n) != (ssize_t)n)
			bb_simple_perror_msg_and_die("standard output");
		drop(in, n);
	}
}

int xnbd_wrapper_ctl_main(int argc, char **argv) MAIN_EXTERNALLY_VISIBLE;
int xnbd_wrapper_ctl_main(int argc UNUSED_PARAM, char **argv)
{
	RESERVE_CONFIG_BUFFER(line, LINE_BYTES);
	static struct input in;
	const char *socket_path = "/var/run/xnbd-wrapper.ctl", *name = NULL;
	unsigned opt = getopt32long(argv, options, long_options, &socket_path, &name) >> OPTBIT_COMMANDS;
	const struct command *c = commands;
	char **word = argv + optind, *to;
	unsigned n;

	if (!opt || (opt & (opt - 1)))
		bb_simple_error_msg_and_die("one command, such as " IF_LONG_OPTS("--list") IF_NOT_LONG_OPTS("-l"));
	for (; opt > 1; opt >>= 1)
		c++;
	to = put_word(line, line + sizeof(line), c->verb);
	for (n = 0; word[n]; n++)
		to = put_word(to, line + sizeof(line), word[n]);
	if (n != c->words)
		bb_error_msg_and_die("%s: it has %u arguments, not %u", c->verb, c->words, n);
	if (name && c->words < 3)
		bb_simple_error_msg_and_die("the name of an export at the origin is for a proxy");
	if (name)
		to = put_word(to, line + sizeof(line), name);
	to[-1] = '\n';
	in.fd = connect_to(socket_path);
	limit_wait(in.fd, SILENT_S);
	if (!skip_greeting(&in)) {
		close(in.fd);
		in = (struct input){ .fd = connect_to(socket_path), .is_second = true };
		limit_wait(in.fd, SILENT_S);
		skip_greeting(&in);
	}
	if (in.has_requested) { /* xNBD's wrapper, which was busy: its reply to that comes first */
		read_reply(&in, false);
		limit_wait(in.fd, GREETING_S);
		skip_greeting(&in); /* the prompt behind it */
	}
	if (full_write(in.fd, line, (size_t)(to - line)) != to - line)
		bb_simple_perror_msg_and_die("cannot send");
	limit_wait(in.fd, 0); /* a copy takes its time */
	return read_reply(&in, true);
}
