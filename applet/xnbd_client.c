/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-client: connects /dev/nbdN to an NBD server. This file is its command line, and the commands that
 * need no server.
 */
//config:config XNBD_CLIENT
//config:	bool "xnbd-client (11 kb)"
//config:	default y
//config:	help
//config:	Connects a device of the kernel, /dev/nbdN, to any NBD server.
//config:
//config:config FEATURE_XNBD_CLIENT_LIST
//config:	bool "--list (390 bytes)"
//config:	default y
//config:	depends on XNBD_CLIENT
//config:	help
//config:	Prints the names of a server's exports.
//config:
//config:config FEATURE_XNBD_CLIENT_NAMES
//config:	bool "Names of servers (20 kb)"
//config:	default y
//config:	depends on XNBD_CLIENT
//config:	help
//config:	A server may be given by a name. Without this, and without that of
//config:	xnbd-server, it is a number, and libc's resolver is left out.
//applet:IF_XNBD_CLIENT(APPLET_ODDNAME(xnbd-client, xnbd_client, BB_DIR_USR_SBIN, BB_SUID_DROP, xnbd_client))
//kbuild:lib-$(CONFIG_XNBD_CLIENT) += xnbd_client.o nbd/ tls/ device/ reactor/lock.o secure/keys.o secure/kernel_tls.o secure/relay.o origin/endpoint.o
//usage:#define xnbd_client_trivial_usage
//usage:       "[OPTIONS] SERVER DEVICE\n"
//usage:       "xnbd-client [OPTIONS] " IF_LONG_OPTS("--connect") IF_NOT_LONG_OPTS("-C") " DEVICE SERVER [SERVER]...\n"
//usage:       "xnbd-client " IF_LONG_OPTS("--disconnect|--check|--flush") IF_NOT_LONG_OPTS("-d|-c|-f") " DEVICE\n"
//usage:       "xnbd-client " IF_FEATURE_XNBD_CLIENT_LIST(IF_LONG_OPTS("--list|") IF_NOT_LONG_OPTS("-l|"))
//usage:	IF_LONG_OPTS("--getsize64") IF_NOT_LONG_OPTS("-g") " SERVER [SERVER]..."
//usage:#define xnbd_client_full_usage "\n\n"
//usage:       "Connect /dev/nbdN to an NBD server: HOST [PORT], unix:PATH, nbd://HOST:PORT/NAME,\n"
//usage:       "nbd+unix:///NAME?socket=PATH\n"
//usage:     "\n	-C,--connect DEVICE	Connect it to the first SERVER that answers"
//usage:     "\n	-d,--disconnect DEVICE	Disconnect it"
//usage:     "\n	-c,--check DEVICE	Is it connected? Exit status 0, with the process id, or 2"
//usage:     "\n	-f,--flush DEVICE	Flush written data to the server's disk"
//usage:     "\n	-g,--getsize64		Print the size of the disk, in bytes"
//usage:	IF_FEATURE_XNBD_CLIENT_LIST(
//usage:     "\n	-l,--list		Print the names of the exports"
//usage:	)
//usage:     "\n	-u,--unix PATH		SERVER is this Unix socket"
//usage:     "\n	-N,--exportname NAME	Use this export"
//usage:     "\n	-m,--connections N	Connections to the server (1)"
//usage:     "\n	-r,--readonly		Make it read-only"
//usage:     "\n	-b,--blocksize SIZE	512, 1024, 2048 or 4096"
//usage:     "\n	-t,--timeout SECONDS	Per request; then its connection is dropped (0 = no limit)"
//usage:	IF_FEATURE_XNBD_CLIENT_PERSIST(
//usage:     "\n	-p,--persist		Reconnect forever; requests wait"
//usage:     "\n	-e,--recovery-command COMMAND	Run it when the server is lost"
//usage:     "\n	-E,--recovery-command-reboot	Reboot then"
//usage:	)
//usage:     "\n	-R,--retry N		Try the SERVERs N times at the start (1; 0 = forever)"
//usage:     "\n	-s,--swap		Make it safe for swap"
//usage:     "\n	-n,--nofork		Stay in the foreground until it is disconnected"
//usage:	IF_FEATURE_XNBD_CLIENT_IOCTL(
//usage:     "\n	-L,--nonetlink		Use ioctl, for old kernels"
//usage:	)
#include "libbb.h"
#include "xnbd_client.h"

#include <poll.h>

enum {
	OPT_READONLY = 1 << 0,
	OPT_SWAP = 1 << 1,
	OPT_STAY = 1 << 2,
	OPT_SIZE = 1 << 3,
	OPT_CONNECT = 1 << 4,
	OPT_DISCONNECT = 1 << 5,
	OPT_CHECK = 1 << 6,
	OPT_FLUSH = 1 << 7,
	/* -u -N -m -b -t -R: values */
	OPTBIT_LIST = 14,
	OPTBIT_IOCTL = OPTBIT_LIST + ENABLE_FEATURE_XNBD_CLIENT_LIST,
	OPTBIT_PERSIST = OPTBIT_IOCTL + ENABLE_FEATURE_XNBD_CLIENT_IOCTL,
	OPT_LIST = ENABLE_FEATURE_XNBD_CLIENT_LIST << OPTBIT_LIST,
	OPT_IOCTL = ENABLE_FEATURE_XNBD_CLIENT_IOCTL << OPTBIT_IOCTL,
	OPT_PERSIST = ENABLE_FEATURE_XNBD_CLIENT_PERSIST << OPTBIT_PERSIST,
	OPT_REBOOT = ENABLE_FEATURE_XNBD_CLIENT_PERSIST << (OPTBIT_PERSIST + 1),
	COMMANDS = OPT_SIZE | OPT_CONNECT | OPT_DISCONNECT | OPT_CHECK | OPT_FLUSH | OPT_LIST,

	DISCONNECT_MS = 3000,
	NOT_CONNECTED = 2, /* exit status of --check, as xNBD has it */
};

static const char options[] ALIGN1 = "rsngC:d:c:f:u:N:m:b:t:R:"
	IF_FEATURE_XNBD_CLIENT_LIST("l")
	IF_FEATURE_XNBD_CLIENT_IOCTL("L")
	IF_FEATURE_XNBD_CLIENT_PERSIST("pEe:");

#if ENABLE_LONG_OPTS
static const char long_options[] ALIGN1 =
	"readonly\0" No_argument "r"
	"swap\0" No_argument "s"
	"nofork\0" No_argument "n"
	"getsize64\0" No_argument "g"
	"connect\0" Required_argument "C"
	"disconnect\0" Required_argument "d"
	"check\0" Required_argument "c"
	"flush\0" Required_argument "f"
	"unix\0" Required_argument "u"
	"exportname\0" Required_argument "N"
	"connections\0" Required_argument "m"
	"blocksize\0" Required_argument "b"
	"timeout\0" Required_argument "t"
	"retry\0" Required_argument "R"
	IF_FEATURE_XNBD_CLIENT_LIST("list\0" No_argument "l")
	IF_FEATURE_XNBD_CLIENT_IOCTL("nonetlink\0" No_argument "L")
	IF_FEATURE_XNBD_CLIENT_PERSIST(
	"persist\0" No_argument "p"
	"recovery-command-reboot\0" No_argument "E"
	"recovery-command\0" Required_argument "e");
#endif

/* ---- commands about a device ---------------------------------------------------------------- */

unsigned client_index(const char *path)
{
	int index = kernel_nbd_index(path);
	struct kernel_nbd k;

	if (index < 0) {
		int error = errno;

		if (error == ENOENT && !client_netlink(&k))
			bb_error_msg_and_die("'%s' is not there: the kernel has no nbd devices: modprobe nbd", path);
		errno = error;
		bb_perror_msg_and_die("'%s' is not a device such as /dev/nbd0", path);
	}
	return (unsigned)index;
}

/* Its process. */
static unsigned connected_index(const char *path)
{
	unsigned index = client_index(path);

	if (!kernel_nbd_pid(index))
		bb_error_msg_and_die("'%s' is not connected", path);
	return index;
}

static int open_device(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		bb_perror_msg_and_die("cannot open '%s'", path);
	return fd;
}

static int check(const char *path)
{
	unsigned pid = kernel_nbd_pid(client_index(path));
	char line[16];

	if (!pid)
		return NOT_CONNECTED;
	full_write(STDOUT_FILENO, line, (size_t)snprintf(line, sizeof(line), "%u\n", pid));
	return 0;
}

static int flush(const char *path)
{
	int fd;

	connected_index(path);
	fd = open_device(path);
	if (fsync(fd) < 0)
		bb_perror_msg_and_die("'%s'", path);
	close(fd);
	return 0;
}

static int disconnect(const char *path)
{
	unsigned index = connected_index(path);
	unsigned long long end_ms = monotonic_ms() + DISCONNECT_MS;
	struct kernel_nbd k;
	int error;

	if (client_netlink(&k))
		error = kernel_nbd_disconnect(&k, index);
	else
		error = ENABLE_FEATURE_XNBD_CLIENT_IOCTL ? kernel_nbd_ioctl_disconnect(open_device(path)) : ENOSYS;
	if (error)
		bb_error_msg_and_die("'%s' cannot be disconnected: %s", path, strerror(error));
	/* Then it can be connected again. */
	while (kernel_nbd_pid(index) && monotonic_ms() < end_ms)
		(void)poll(NULL, 0, 20);
	if (kernel_nbd_pid(index))
		bb_error_msg_and_die("'%s' is disconnected, but still open", path);
	return 0;
}

/* ---- commands about a server -------------------------------------------------------------------- */

static void print_name(void *ctx UNUSED_PARAM, const void *name, size_t n, const void *more UNUSED_PARAM,
		       size_t more_bytes UNUSED_PARAM)
{
	char line[NBD_NAME_MAX + 1];

	*(char *)mempcpy(line, name, n) = '\n';
	bb_make_printable(line, n);
	full_write(STDOUT_FILENO, line, n + 1);
}

static int query_server(const struct client *c, bool list)
{
	struct nbd_client_handshake h = { .simple = true, .listed = list ? print_name : NULL };
	struct server *s;
	int fd = client_dial(c, &h, &s);
	char line[24];

	if (list)
		return 0;
	server_hang_up(fd);
	full_write(STDOUT_FILENO, line, (size_t)snprintf(line, sizeof(line), "%llu\n", (unsigned long long)h.size_bytes));
	return 0;
}

/* ---- the command line ------------------------------------------------------------------------------ */

/* bs=SIZE and timeout=SECONDS before the words, as xNBD has them. */
static char **xnbd04_options(char **words, const char **block, const char **timeout)
{
	for (; *words; words++) {
		if (strncmp(*words, "bs=", 3) == 0)
			*block = *words + 3;
		else if (strncmp(*words, "timeout=", 8) == 0)
			*timeout = *words + 8;
		else
			break;
	}
	return words;
}

/* The last word, which is taken off: SERVER DEVICE. */
static const char *last_word(char **words)
{
	const char *word;

	if (!*words)
		bb_simple_error_msg_and_die("no device is given; try --help");
	while (words[1])
		words++;
	word = *words;
	*words = NULL;
	return word;
}

static unsigned block_bytes(const char *text)
{
	unsigned n = (unsigned)xatoull_range_sfx(text, 512, 4096, kMG_suffixes);

	if (n & (n - 1))
		bb_error_msg_and_die("the block size is 512, 1024, 2048 or 4096, not %u", n);
	return n;
}

static void find_servers(char **words, const char *unix_path, const char *export_name)
{
	if (strlen(export_name) > NBD_NAME_MAX)
		bb_simple_error_msg_and_die("the name of an export has at most 4096 bytes");
	if (unix_path && *words)
		bb_error_msg_and_die("too many arguments: '%s'", *words);
	if (unix_path)
		servers_local(unix_path, export_name);
	else
		servers_parse(words, export_name);
}

int xnbd_client_main(int argc, char **argv) MAIN_EXTERNALLY_VISIBLE;
int xnbd_client_main(int argc UNUSED_PARAM, char **argv)
{
	static struct client c;
	const char *subject = NULL, *unix_path = NULL, *export_name = "", *connections = "1", *block = NULL, *timeout = "0", *retries = "1";
	unsigned opt = getopt32long(argv, options, long_options, &subject, &subject, &subject, &subject, &unix_path, &export_name,
				    &connections, &block, &timeout, &retries IF_FEATURE_XNBD_CLIENT_PERSIST(, &c.recovery));
	unsigned command = opt & COMMANDS;
	char **words = argv + optind;

	if (command & (command - 1))
		bb_simple_error_msg_and_die("one command at a time; try --help");
	if (command & (OPT_DISCONNECT | OPT_CHECK | OPT_FLUSH)) {
		if (*words)
			bb_error_msg_and_die("too many arguments: '%s'", *words);
		return command & OPT_CHECK ? check(subject) : command & OPT_FLUSH ? flush(subject) : disconnect(subject);
	}
	if (!command)
		words = xnbd04_options(words, &block, &timeout);
	c.path = command ? subject : last_word(words);
	find_servers(words, unix_path, export_name);
	c.retries = xatou(retries);
	if (command & (OPT_LIST | OPT_SIZE))
		return query_server(&c, command & OPT_LIST);
	c.connections = xatou_range(connections, 1, KERNEL_NBD_CONNECTIONS_MAX);
	c.block_bytes = block ? block_bytes(block) : 0;
	c.timeout_s = xatou_range(timeout, 0, KERNEL_NBD_FOREVER_S);
	c.readonly = opt & OPT_READONLY;
	c.swap = opt & OPT_SWAP;
	if (ENABLE_FEATURE_XNBD_TLS && c.swap && servers_use_tls())
		bb_simple_error_msg_and_die("no swap over TLS: TLS could wait for memory that only swapping frees");
	c.stay = opt & OPT_STAY;
	c.persist = opt & OPT_PERSIST;
	if (ENABLE_FEATURE_XNBD_CLIENT_PERSIST && c.persist && c.connections == 1 && !kernel_nbd_is_since(5, 7))
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--persist") IF_NOT_LONG_OPTS("-p") " with one connection needs Linux 5.7");
	c.reboot = opt & OPT_REBOOT;
	c.use_ioctl = opt & OPT_IOCTL;
	return client_attach(&c);
}
