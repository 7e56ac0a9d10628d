/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-bgctl: controls a running proxy through its control socket. The proxy does the work; this asks, and shows.
 * xnbd-server(8) describes the text protocol.
 *
 * Builds also inside a BusyBox tree, see xnbd_bgctl.h.
 */
//config:config XNBD_BGCTL
//config:	bool "xnbd-bgctl (13 kb)"
//config:	default y
//config:	help
//config:	Controls a running xnbd-server proxy through its control socket:
//config:	asks for its state, copies all blocks to the local cache,
//config:	switches the proxy to a plain server of the copy.
//config:
//config:config FEATURE_XNBD_BGCTL_CACHE_ALL2
//config:	bool "--cache-all2 (200 bytes)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Copies in the background of the proxy, and returns at once.
//config:
//config:config FEATURE_XNBD_BGCTL_JOB
//config:	bool "--pause, --resume, --cancel and --rate (380 bytes)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Controls a running copy.
//config:
//config:config FEATURE_XNBD_BGCTL_VERIFY
//config:	bool "--verify (310 bytes)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Compares the copy with the origin, before the switch.
//config:
//config:config FEATURE_XNBD_BGCTL_HOLD
//config:	bool "--hold (270 bytes)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Limits how long requests wait for a lost origin, while the proxy
//config:	runs.
//config:
//config:config FEATURE_XNBD_BGCTL_UPGRADE
//config:	bool "--upgrade (320 bytes)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Exchanges the program of a running server.
//config:
//config:config FEATURE_XNBD_BGCTL_CLIENTS
//config:	bool "--clients and --export-metrics (810 bytes)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Shows who is connected, and counters for Prometheus.
//config:
//config:config FEATURE_XNBD_BGCTL_RECONNECT
//config:	bool "--reconnect (2.1 kb)"
//config:	default y
//config:	depends on XNBD_BGCTL
//config:	help
//config:	Tells the proxy a new address of its origin.
//config:
//config:config FEATURE_XNBD_BGCTL_EXPORTNAME
//config:	bool "--exportname"
//config:	default y
//config:	depends on FEATURE_XNBD_BGCTL_RECONNECT
//config:	help
//config:	--reconnect can ask for an export by name.
//config:
//config:config FEATURE_XNBD_BGCTL_RECONNECT_URI
//config:	bool "--reconnect to a URI (1.5 kb)"
//config:	default y
//config:	depends on FEATURE_XNBD_BGCTL_RECONNECT
//config:	help
//config:	The new origin can be given as a URI, also one with TLS, if the server
//config:	has that in it (FEATURE_XNBD_SERVER_RECONNECT_URI).
//config:
//config:config FEATURE_XNBD_BGCTL_ALL
//config:	bool "--all (6.2 kb)"
//config:	default y
//config:	depends on XNBD_BGCTL && FEATURE_XNBD_WRAPPER_DBPATH
//config:	help
//config:	One command for all proxies in the database of an xnbd-wrapper.
//applet:IF_XNBD_BGCTL(APPLET_ODDNAME(xnbd-bgctl, xnbd_bgctl, BB_DIR_USR_BIN, BB_SUID_DROP, xnbd_bgctl))
//kbuild:lib-$(CONFIG_XNBD_BGCTL) += xnbd_bgctl.o
//usage:#define xnbd_bgctl_trivial_usage
//usage:	IF_LONG_OPTS("--query|--switch|--cache-all" IF_FEATURE_XNBD_BGCTL_CACHE_ALL2("|--cache-all2"))
//usage:	IF_NOT_LONG_OPTS("-q|-s|-c" IF_FEATURE_XNBD_BGCTL_CACHE_ALL2("|-C")) " [OPTIONS] CONTROL_SOCKET"
//usage:	IF_FEATURE_XNBD_BGCTL_JOB("\n"
//usage:       "xnbd-bgctl " IF_LONG_OPTS("--pause|--resume|--cancel") IF_NOT_LONG_OPTS("-P|-G|-X") " CONTROL_SOCKET")
//usage:	IF_FEATURE_XNBD_BGCTL_VERIFY("\n"
//usage:       "xnbd-bgctl " IF_LONG_OPTS("--verify") IF_NOT_LONG_OPTS("-v") " [OPTIONS] CONTROL_SOCKET")
//usage:	IF_FEATURE_XNBD_BGCTL_HOLD("\n"
//usage:       "xnbd-bgctl " IF_LONG_OPTS("--hold") IF_NOT_LONG_OPTS("-H") " SECONDS CONTROL_SOCKET")
//usage:	IF_FEATURE_XNBD_BGCTL_CLIENTS("\n"
//usage:       "xnbd-bgctl " IF_LONG_OPTS("--clients|--export-metrics") IF_NOT_LONG_OPTS("-l|-m")
//usage:       IF_FEATURE_XNBD_BGCTL_WATCH(IF_LONG_OPTS("|--watch") IF_NOT_LONG_OPTS("|-w")) " CONTROL_SOCKET")
//usage:	IF_FEATURE_XNBD_BGCTL_UPGRADE("\n"
//usage:       "xnbd-bgctl " IF_LONG_OPTS("--upgrade") IF_NOT_LONG_OPTS("-U") " PROGRAM CONTROL_SOCKET")
//usage:	IF_FEATURE_XNBD_BGCTL_ALL("\n"
//usage:       "xnbd-bgctl " IF_LONG_OPTS("--all --dbpath") IF_NOT_LONG_OPTS("-a -B") " FILE COMMAND [OPTIONS]")
//usage:	IF_FEATURE_XNBD_BGCTL_RECONNECT("\n"
//usage:       "xnbd-bgctl " IF_LONG_OPTS("--reconnect") IF_NOT_LONG_OPTS("-r") " [OPTIONS] CONTROL_SOCKET " IF_FEATURE_XNBD_BGCTL_RECONNECT_URI("{") "REMOTE_HOST REMOTE_PORT" IF_FEATURE_XNBD_BGCTL_RECONNECT_URI("|URI}"))
//usage:#define xnbd_bgctl_full_usage "\n\n"
//usage:       "Control a running xnbd-server proxy\n"
//usage:     "\n	-q,--query		Print its state, 'key value' lines"
//usage:     "\n	-c,--cache-all		Copy all missing blocks; return when done"
//usage:	IF_FEATURE_XNBD_BGCTL_CACHE_ALL2(
//usage:     "\n	-C,--cache-all2		Same, but return at once"
//usage:	)
//usage:     "\n	-s,--switch		Stop using the remote server"
//usage:	IF_LONG_OPTS(" (also --shutdown)")
//usage:	IF_FEATURE_XNBD_BGCTL_RECONNECT(
//usage:     "\n	-r,--reconnect		Reach the remote server at another address"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_VERIFY(
//usage:     "\n	-v,--verify		Compare what no client has written with the remote server"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_HOLD(
//usage:     "\n	-H,--hold SECONDS	How long requests wait for the remote server (0 = forever)"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_CLIENTS(
//usage:     "\n	-l,--clients		List the clients"
//usage:     "\n	-m,--export-metrics	Print counters for Prometheus"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_WATCH(
//usage:     "\n	-w,--watch		Show state and clients every 2 seconds"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_UPGRADE(
//usage:     "\n	-U,--upgrade PROGRAM	Replace its program with PROGRAM"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_ALL(
//usage:     "\n	-a,--all		Control all proxies of an xnbd-wrapper"
//usage:     "\n	-B,--dbpath FILE	... listed in its database"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_EXPORTNAME(
//usage:     "\n	-n,--exportname NAME	Ask it for this export"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_PROGRESS(
//usage:     "\n	-p,--progress		Show progress on stderr"
//usage:	)
//usage:	IF_FEATURE_XNBD_BGCTL_JOB(
//usage:     "\n	-P,--pause		Pause the copy"
//usage:     "\n	-G,--resume		Resume it"
//usage:     "\n	-X,--cancel		Stop it; what was copied is kept"
//usage:     "\n	-R,--rate BYTES		Copy at most BYTES per second (0 = no limit)"
//usage:	)
//usage:     "\n	-b,--blocks-per-request N	Copy N blocks per request"
//usage:     "\n	-f,--force		Switch with blocks missing"
//usage:	IF_FEATURE_XNBD_BGCTL_RECONNECT("; accept other content")
#include "libbb.h"
#include "xnbd_bgctl.h"

enum {
	OPT_COMMANDS = OPT_QUERY | OPT_SWITCH | OPT_CACHE_ALL | OPT_CACHE_ALL2 | OPT_RECONNECT | OPT_PAUSE |
		       OPT_RESUME | OPT_CANCEL | OPT_VERIFY | OPT_HOLD | OPT_UPGRADE | OPT_CLIENTS | OPT_METRICS |
		       OPT_WATCH,

	ADDRESS_MAX_BYTES = 512, /* host and port; a host name has at most 253 */
	REQUEST_BYTES = 3 * (NAME_MAX_BYTES + 2 * ADDRESS_MAX_BYTES) + 128,
};

static const char options[] ALIGN1 = "qscfb:"
	IF_FEATURE_XNBD_BGCTL_CACHE_ALL2("C") IF_FEATURE_XNBD_BGCTL_PROGRESS("p") IF_FEATURE_XNBD_BGCTL_RECONNECT("r")
	IF_FEATURE_XNBD_BGCTL_EXPORTNAME("n:") IF_FEATURE_XNBD_BGCTL_JOB("PGXR:")
	IF_FEATURE_XNBD_BGCTL_VERIFY("v") IF_FEATURE_XNBD_BGCTL_HOLD("H:") IF_FEATURE_XNBD_BGCTL_UPGRADE("U:")
	IF_FEATURE_XNBD_BGCTL_CLIENTS("lm") IF_FEATURE_XNBD_BGCTL_WATCH("w")
	IF_FEATURE_XNBD_BGCTL_ALL("aB:");

#if ENABLE_LONG_OPTS
static const char long_options[] ALIGN1 =
	"query\0" No_argument "q"
	"switch\0" No_argument "s"
	"shutdown\0" No_argument "s"
	"cache-all\0" No_argument "c"
	"force\0" No_argument "f"
	"blocks-per-request\0" Required_argument "b"
	IF_FEATURE_XNBD_BGCTL_CACHE_ALL2("cache-all2\0" No_argument "C")
	IF_FEATURE_XNBD_BGCTL_PROGRESS("progress\0" No_argument "p")
	IF_FEATURE_XNBD_BGCTL_RECONNECT("reconnect\0" No_argument "r")
	IF_FEATURE_XNBD_BGCTL_EXPORTNAME("exportname\0" Required_argument "n")
	IF_FEATURE_XNBD_BGCTL_JOB(
	"pause\0" No_argument "P"
	"resume\0" No_argument "G"
	"cancel\0" No_argument "X"
	"rate\0" Required_argument "R")
	IF_FEATURE_XNBD_BGCTL_VERIFY("verify\0" No_argument "v")
	IF_FEATURE_XNBD_BGCTL_HOLD("hold\0" Required_argument "H")
	IF_FEATURE_XNBD_BGCTL_UPGRADE("upgrade\0" Required_argument "U")
	IF_FEATURE_XNBD_BGCTL_CLIENTS(
	"clients\0" No_argument "l"
	"export-metrics\0" No_argument "m")
	IF_FEATURE_XNBD_BGCTL_WATCH("watch\0" No_argument "w")
	IF_FEATURE_XNBD_BGCTL_ALL(
	"all\0" No_argument "a"
	"dbpath\0" Required_argument "B");
#endif

struct progress_row bgctl_row; /* here: without --progress, too */

/* ---- commands ------------------------------------------------------------------------------- */

void bgctl_print(const char *text, size_t n)
{
	if (full_write(STDOUT_FILENO, text, n) != (ssize_t)n)
		bb_simple_perror_msg_and_die("write error");
}

/* The program goes as a descriptor: the server may see other files than we. */
static void send_upgrade(const struct control *c, const char *program, const char *request, size_t n)
{
	int fd = open(program, O_RDONLY);

	if (fd < 0)
		bb_perror_msg_and_die("cannot open '%s'", program);
	bgctl_send_fd(c->fd, request, n, fd);
}

/* One request and its answer. Returns the exit status; -1: this server does not know
 * the language. */
static int converse(struct control *c, char *request, unsigned opt, const struct arguments *a)
{
	size_t n = strlen(request);
	int status = EXIT_FAILURE; /* of an answer that is an error */
	char *line, *value;
	struct progress progress;

	if (opt & OPT_PROGRESS)
		bgctl_progress_begin(&progress);
	request[n++] = '\n';
	/* A server that went away meanwhile is found by reading. */
	if (opt & OPT_UPGRADE)
		send_upgrade(c, a->program, request, n);
	else
		send(c->fd, request, n, MSG_NOSIGNAL);
	for (;;) {
		line = bgctl_read_line(c);
		if (!line)
			return -1;
		if (strcmp(line, "ok") == 0)
			break;
		value = strchr(line, ' ');
		if (!value)
			bb_error_msg_and_die("%s: the answer is not one of xnbd-server", c->path);
		*value++ = '\0';
		if (strcmp(line, "error") == 0 || strcmp(line, "note") == 0) {
			if (opt & OPT_PROGRESS)
				bgctl_progress_end(&progress);
			bb_error_msg("%s: %s", c->path, value);
			if (line[0] == 'e')
				return status;
			continue;
		}
		if (opt & OPT_VERIFY && strcmp(line, "verify") == 0)
			status = strcmp(value, "partial") == 0 ? EXIT_PARTIAL : EXIT_FAILURE;
		if (opt & (OPT_QUERY | OPT_CLIENTS | OPT_METRICS)) {
			if (opt & OPT_QUERY)
				value[-1] = ' ';
			else
				line = value;
			n = strlen(line);
			if (opt & OPT_WATCH) {
				bgctl_picture_line(&c->picture, line, n, opt & OPT_CLIENTS);
				continue;
			}
			line[n++] = '\n';
			bgctl_print(line, n);
		} else if (opt & OPT_PROGRESS) {
			bgctl_progress_line(&progress, line, value);
		} else if (strcmp(line, "origin_state") == 0 && *value != 'u' && *value != 'n' && ++c->away == 2) { /* nor up, nor none; once might be the end */
			bb_error_msg("%s: the origin is %s: waiting for it", c->path, value);
		}
	}
	if (opt & OPT_PROGRESS)
		bgctl_progress_end(&progress);
	return EXIT_SUCCESS;
}

/* Of an origin, instead of its host and port. The server parses it. */
static bool is_uri(const char *text)
{
	return ENABLE_FEATURE_XNBD_BGCTL_RECONNECT_URI && text && strstr(text, "://");
}

/* The one command, and as many arguments as it takes: else one line, and the end. */
static void check_usage(unsigned opt, char **argv)
{
	static const char *const names[] = { "CONTROL_SOCKET", "REMOTE_HOST", "REMOTE_PORT" };
	const unsigned all = OPT_ALL | OPT_DBPATH;
	unsigned command = opt & OPT_COMMANDS;
	unsigned wanted = command == OPT_RECONNECT && command ? 3 - (argv[0] && is_uri(argv[1])) : !(opt & OPT_ALL);
	unsigned i;

	if (command == 0 || (command & (command - 1)))
		bb_simple_error_msg_and_die("give one command; try --help");
	if (opt & all && (opt & all) != all)
		bb_simple_error_msg_and_die("--all and --dbpath belong together");
	if (opt & OPT_ALL && opt & (OPT_RECONNECT | OPT_UPGRADE | OPT_CLIENTS | OPT_METRICS | OPT_WATCH))
		bb_simple_error_msg_and_die("this command is for one proxy, not for --all");
	for (i = 0; i < wanted; i++)
		if (!argv[i])
			bb_error_msg_and_die("%s is missing; try --help", names[i]);
	if (argv[wanted])
		bb_error_msg_and_die("too many arguments: '%s'", argv[wanted]);
}

/* Part of a word of the request: bytes that would end it are %XX. Returns its end; at
 * most three times as long as the value. */
static char *put_value(char *to, const char *value)
{
	for (; *value; value++) {
		unsigned char b = (unsigned char)*value;

		if (b > ' ' && b < 0x7f && b != '%')
			*to++ = (char)b;
		else
			to += snprintf(to, 4, "%%%02X", b);
	}
	*to = '\0';
	return to;
}

/* A name longer than the request has room for is refused. */
static char *put_name(char *to, const char *key, const char *name)
{
	if (strlen(name) > NAME_MAX_BYTES)
		bb_error_msg_and_die("%s at most 4096 bytes", *key == ' ' ? "the name of an export has" : "a URI has here");
	return put_value(stpcpy(to, key), name);
}

static char *put_reconnect(char *to, const char *host, const char *port, const char *name)
{
	char cwd[ADDRESS_MAX_BYTES];

	if (is_uri(host)) {
		if (name)
			bb_simple_error_msg_and_die("the name of the export is a part of the URI");
		return put_name(to, "reconnect uri=", host);
	}
	if (strlen(host) + strlen(port) > ADDRESS_MAX_BYTES)
		bb_error_msg_and_die("'%s' is too long for a host", host);
	to = stpcpy(to, "reconnect host=");
	if (strncmp(host, "unix:", 5) == 0 && host[5] != '/') {
		/* The server has a directory of its own. */
		if (!getcwd(cwd, sizeof(cwd)))
			bb_simple_perror_msg_and_die("getcwd");
		to = put_value(stpcpy(to, "unix:"), cwd);
		*to++ = '/';
		host += 5;
	}
	to = put_value(to, host);
	to = put_value(stpcpy(to, " port="), port);
	if (name)
		to = put_name(to, " exportname=", name);
	return to;
}

/* The command, and the arguments that belong to it alone. */
static char *put_command(char *to, unsigned opt, const struct arguments *a)
{
	static const unsigned bits[] = { OPT_QUERY, OPT_SWITCH, OPT_CACHE_ALL | OPT_CACHE_ALL2, OPT_VERIFY, OPT_PAUSE, OPT_RESUME,
					 OPT_CANCEL, OPT_UPGRADE, OPT_CLIENTS, OPT_METRICS };
	static const char verbs[] ALIGN1 = "status\0switch\0cache-all\0verify\0pause\0resume\0cancel\0upgrade\0clients\0metrics";
	const char *verb = verbs;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(bits); i++, verb += strlen(verb) + 1)
		if (opt & bits[i])
			to = stpcpy(to, verb);
	if ((opt & (OPT_CACHE_ALL | OPT_CACHE_ALL2)) && a->blocks)
		to += snprintf(to, 16, " blocks=%u", xatou_range(a->blocks, 1, 65536));
	if (ENABLE_FEATURE_XNBD_BGCTL_JOB && a->rate && (opt & (OPT_CACHE_ALL | OPT_CACHE_ALL2 | OPT_VERIFY)))
		to += snprintf(to, 32, " rate=%llu", xatoull_sfx(a->rate, kMG_suffixes));
	if (opt & OPT_HOLD)
		to += snprintf(to, 32, "hold seconds=%u", xatou(a->hold));
	if (opt & OPT_RECONNECT)
		to = put_reconnect(to, a->argv[1], a->argv[2], a->name);
	return to;
}

/* Until the server ends, or Ctrl-C. Returns like converse(). */
static int watch(struct control *c, char *request, const struct arguments *a)
{
	int status;

	do {
		bgctl_picture_begin(&c->picture);
		strcpy(request, "status");
		status = converse(c, request, OPT_QUERY | OPT_WATCH, a);
		strcpy(request, "clients");
		if (!status)
			status = converse(c, request, OPT_CLIENTS | OPT_WATCH, a);
		bgctl_picture_end(&c->picture, !status);
	} while (!status);
	return status;
}

int xnbd_bgctl_main(int argc, char **argv) MAIN_EXTERNALLY_VISIBLE;
int xnbd_bgctl_main(int argc UNUSED_PARAM, char **argv)
{
	RESERVE_CONFIG_BUFFER(request, REQUEST_BYTES);
	RESERVE_CONFIG_BUFFER(reply, REPLY_BYTES);
	struct control control = { .in = reply };
	struct arguments a = { .blocks = NULL };
	int status = 0;
	char *to;
	unsigned opt = getopt32long(argv, options, long_options,
				    &a.blocks IF_FEATURE_XNBD_BGCTL_EXPORTNAME(, &a.name) IF_FEATURE_XNBD_BGCTL_JOB(, &a.rate)
				    IF_FEATURE_XNBD_BGCTL_HOLD(, &a.hold) IF_FEATURE_XNBD_BGCTL_UPGRADE(, &a.program)
				    IF_FEATURE_XNBD_BGCTL_ALL(, &a.dbpath));

	a.argv = argv + optind;
	check_usage(opt, a.argv);
	to = put_command(request, opt, &a);
	if (opt & OPT_ALL)
		a.argv = bgctl_all(opt, a.dbpath);
	control.path = a.argv[0];
	control.fd = bgctl_connect(control.path);
	if (opt & (OPT_QUERY | OPT_CLIENTS | OPT_METRICS | OPT_WATCH | OPT_PAUSE | OPT_RESUME | OPT_CANCEL | OPT_HOLD)) /* answered at once */
		bgctl_set_timeout(control.fd, QUERY_TIMEOUT_S);
	/* Starts the copy on its own first, so that it goes on when we do not. Then follows
	 * it with the same words: without them it would go back to the default. */
	if ((opt & OPT_CACHE_ALL2) && (opt & OPT_PROGRESS))
		status = converse(&control, request, 0, &a);
	if (status >= 0) {
		if ((opt & (OPT_CACHE_ALL | OPT_VERIFY)) || ((opt & OPT_CACHE_ALL2) && (opt & OPT_PROGRESS)))
			to = stpcpy(to, " follow");
		if (opt & OPT_FORCE)
			stpcpy(to, " force");
		status = opt & OPT_WATCH ? watch(&control, request, &a) : converse(&control, request, opt, &a);
	}
	if (ENABLE_FEATURE_XNBD_BGCTL_BINARY && status < 0)
		status = bgctl_xnbd04(opt, &a);
	return status;
}
