/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/* xnbd-wrapper: serves many images by name on one port. This file is its command line. */
//config:config XNBD_WRAPPER
//config:	bool "xnbd-wrapper (31 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Serves many images by name on one port; images can be added and
//config:	removed while it runs.
//config:
//config:config FEATURE_XNBD_WRAPPER_ALLOW_KEY
//config:	bool "--allow-key (940 bytes)"
//config:	default y
//config:	depends on XNBD_WRAPPER && FEATURE_XNBD_TLS
//config:	help
//config:	Some images are only for clients with some TLS keys.
//config:
//config:config FEATURE_XNBD_WRAPPER_PROXY
//config:	bool "--proxy (8.3 kb)"
//config:	default y
//config:	depends on XNBD_WRAPPER && FEATURE_XNBD_SERVER_PROXY
//config:	help
//config:	Proxies beside images, in one process with one budget of memory, each with
//config:	a control socket of its own.
//config:
//config:config FEATURE_XNBD_WRAPPER_CONVERSATION
//config:	bool "Conversation of xNBD (5.1 kb)"
//config:	default y
//config:	depends on XNBD_WRAPPER
//config:	help
//config:	The control socket speaks as that of xNBD's xnbd-wrapper, too: for its
//config:	own xnbd-wrapper-ctl, and for ours.
//config:
//config:config FEATURE_XNBD_WRAPPER_DBPATH
//config:	bool "--dbpath (13 kb)"
//config:	default y
//config:	depends on XNBD_WRAPPER
//config:	help
//config:	Images and proxies are kept in a file, xNBD's database, and come back at
//config:	the next start.
//applet:IF_XNBD_WRAPPER(APPLET_ODDNAME(xnbd-wrapper, xnbd_wrapper, BB_DIR_USR_SBIN, BB_SUID_DROP, xnbd_wrapper))
//kbuild:lib-$(CONFIG_XNBD_WRAPPER) += xnbd_wrapper.o nbd/ tls/ core/ reactor/ storage/ secure/ origin/ export/ client/ control/ server/
//usage:#define xnbd_wrapper_trivial_usage
//usage:	IF_LONG_OPTS("[--imgfile IMAGE]...") IF_NOT_LONG_OPTS("[-i IMAGE]...")
//usage:	IF_FEATURE_XNBD_EXPORT_NAMES(" " IF_LONG_OPTS("[--export NAME=PATH]...") IF_NOT_LONG_OPTS("[-x NAME=PATH]...")) " [OPTIONS]"
//usage:#define xnbd_wrapper_full_usage "\n\n"
//usage:       "Serve many disks by name over NBD\n"
//usage:     "\n	-i,--imgfile IMAGE	Serve IMAGE, named by its path"
//usage:	IF_FEATURE_XNBD_EXPORT_NAMES(
//usage:     "\n	-x,--export NAME=PATH	Serve PATH as NAME"
//usage:     "\n	-n,--default NAME	Serve NAME as the empty name, too"
//usage:     "\n	-y,--description NAME=TEXT	Description of NAME for clients"
//usage:     "\n	-Z,--hide-exports	Hide the names from clients"
//usage:	)
//usage:	IF_FEATURE_XNBD_WRAPPER_PROXY(
//usage:     "\n	-p,--proxy NAME=URI,cache=FILE,bitmap=FILE,control=PATH"
//usage:     "\n				Proxy the disk at URI as NAME"
//usage:	)
//usage:	IF_FEATURE_XNBD_WRAPPER_DBPATH(
//usage:     "\n	-B,--dbpath FILE	Keep the list of exports in FILE"
//usage:	)
//usage:     "\n	-s,--socket PATH	Control socket: list, add NAME PATH, remove NAME"
//usage:     "\n	-l,--lport PORT		Listen on PORT (8520; 0 = not on TCP)"
//usage:     "\n	-a,--laddr ADDR		Listen on ADDR only"
//usage:     "\n	-u,--unix PATH		Listen on a Unix socket"
//usage:	IF_FEATURE_XNBD_SERVER_ALLOW(
//usage:     "\n	-w,--allow LIST		Serve only ADDRESS/BITS[,ADDRESS/BITS]..."
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_DEVICE(
//usage:     "\n	-D,--device NAME=DEVICE	Also serve NAME as DEVICE (/dev/nbdN" IF_FEATURE_XNBD_SERVER_UBLK(", /dev/ublkbN") ")"
//usage:     "\n	-N,--connections N	Connections to each (1)"
//usage:     "\n	-J,--keep-device	Keep them at exit, for the next server"
//usage:	)
//usage:	IF_FEATURE_XNBD_TLS(
//usage:     "\n	-E,--tls-psk FILE	Clients may use TLS with the keys of FILE"
//usage:     "\n	-e,--tls MODE		off, on, or require"
//usage:	)
//usage:	IF_FEATURE_XNBD_WRAPPER_ALLOW_KEY(
//usage:     "\n	-k,--allow-key NAME=IMAGE	IMAGE is for clients with this TLS key"
//usage:	)
//usage:     "\n	-r,--readonly		Refuse writes"
//usage:	IF_FEATURE_XNBD_SERVER_SECTORS(
//usage:     "\n	-z,--sector-size BYTES	Sector size: 512 or 4096"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_DISCARD(
//usage:     "\n	-U,--discard MODE	unmap, or ignore: make no holes"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_COW(
//usage:     "\n	-c,--cow		Keep writes in a file that is lost at exit"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_COW_CLIENT(
//usage:     "\n	-O,--cow-client		... in one file per client"
//usage:     "\n	-G,--cow-limit BYTES	Limit per client (0 = no limit)"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_DAEMONIZE(
//usage:     "\n	-d,--daemonize		Run in the background when ready"
//usage:     "\n	-P,--pidfile FILE	Write the process id to FILE"
//usage:     "\n	-L,--logpath FILE	Append messages to FILE"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_VERBOSE(
//usage:     "\n	-v,--verbose		Log clients and errors"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_SYSLOG(
//usage:     "\n	-S,--syslog		Send messages to syslogd"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_INIT(
//usage:     "\n	-K,--root-storage	The root file system depends on this server"
//usage:	)
//usage:     "\n	-m,--max-clients N	Sessions at a time (128; 0 = no limit)"
//usage:     "\n	-q,--max-queue-size N	Requests in flight (4096; 0 = no limit)"
//usage:     "\n	-b,--max-buf-size BYTES	Memory for them (33554432; 0 = no limit)"
//usage:	IF_FEATURE_XNBD_SERVER_THREADS(
//usage:     "\n	-j,--threads N		Threads for clients (0 = one per processor)"
//usage:	)
#include "libbb.h"
#include "server/server.h"

enum {
	OPT_READONLY = 1 << 0,
	/* -i -s -l -a -u -m -q -b: values */
	OPTBIT_COW = 9,
	OPTBIT_DAEMONIZE = OPTBIT_COW + ENABLE_FEATURE_XNBD_SERVER_COW,
	OPTBIT_SYSLOG = OPTBIT_DAEMONIZE + 3 * ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE,
	OPTBIT_NAMES = OPTBIT_SYSLOG + ENABLE_FEATURE_XNBD_SERVER_SYSLOG,
	OPT_HIDE = ENABLE_FEATURE_XNBD_EXPORT_NAMES << OPTBIT_NAMES,
	OPTBIT_VERBOSE = OPTBIT_NAMES + 3 * ENABLE_FEATURE_XNBD_EXPORT_NAMES,
	OPT_VERBOSE = ENABLE_FEATURE_XNBD_SERVER_VERBOSE << OPTBIT_VERBOSE,
	OPTBIT_KEEP_DEVICE = OPTBIT_VERBOSE + ENABLE_FEATURE_XNBD_SERVER_VERBOSE,
	OPT_KEEP_DEVICE = ENABLE_FEATURE_XNBD_SERVER_DEVICE << OPTBIT_KEEP_DEVICE,
	OPTBIT_COW_CLIENT = OPTBIT_KEEP_DEVICE + ENABLE_FEATURE_XNBD_SERVER_DEVICE,
	OPT_COW_CLIENT = ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT << OPTBIT_COW_CLIENT,
	OPTBIT_INIT = OPTBIT_COW_CLIENT + 2 * ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT,
	OPT_ROOT_STORAGE = ENABLE_FEATURE_XNBD_SERVER_INIT << OPTBIT_INIT,
	OPT_COW = ENABLE_FEATURE_XNBD_SERVER_COW << OPTBIT_COW,
	OPT_DAEMONIZE = ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE << OPTBIT_DAEMONIZE,
	OPT_SYSLOG = ENABLE_FEATURE_XNBD_SERVER_SYSLOG << OPTBIT_SYSLOG,
};

/* Those without an argument first, and lists (":*"): getopt32long() has bits for 32 options. */
static const char options[] ALIGN1 = "ri:*s:l:a:u:m:q:b:"
	IF_FEATURE_XNBD_SERVER_COW("c")
	IF_FEATURE_XNBD_SERVER_DAEMONIZE("dP:L:")
	IF_FEATURE_XNBD_SERVER_SYSLOG("S")
	IF_FEATURE_XNBD_EXPORT_NAMES("Zx:*n:")
	IF_FEATURE_XNBD_SERVER_VERBOSE("v")
	IF_FEATURE_XNBD_SERVER_DEVICE("J")
	IF_FEATURE_XNBD_SERVER_COW_CLIENT("OG:")
	IF_FEATURE_XNBD_SERVER_INIT("K")
	IF_FEATURE_XNBD_EXPORT_NAMES("y:*")
	IF_FEATURE_XNBD_SERVER_DEVICE("D:*N:")
	IF_FEATURE_XNBD_SERVER_THREADS("j:")
	IF_FEATURE_XNBD_SERVER_ALLOW("w:")
	IF_FEATURE_XNBD_TLS("E:e:")
	IF_FEATURE_XNBD_WRAPPER_ALLOW_KEY("k:*")
	IF_FEATURE_XNBD_WRAPPER_PROXY("p:*")
	IF_FEATURE_XNBD_WRAPPER_DBPATH("B:")
	IF_FEATURE_XNBD_SERVER_SECTORS("z:")
	IF_FEATURE_XNBD_SERVER_DISCARD("U:")
	IF_FEATURE_XNBD_WRAPPER_CONVERSATION(IF_LONG_OPTS("X:"));

#if ENABLE_LONG_OPTS
static const char long_options[] ALIGN1 =
	"readonly\0" No_argument "r"
	"imgfile\0" Required_argument "i"
	"socket\0" Required_argument "s"
	"lport\0" Required_argument "l"
	"laddr\0" Required_argument "a"
	"unix\0" Required_argument "u"
	"max-clients\0" Required_argument "m"
	"max-queue-size\0" Required_argument "q"
	"max-buf-size\0" Required_argument "b"
	IF_FEATURE_XNBD_SERVER_COW("cow\0" No_argument "c")
	IF_FEATURE_XNBD_SERVER_DAEMONIZE(
	"daemonize\0" No_argument "d"
	"pidfile\0" Required_argument "P"
	"logpath\0" Required_argument "L")
	IF_FEATURE_XNBD_SERVER_SYSLOG("syslog\0" No_argument "S")
	IF_FEATURE_XNBD_EXPORT_NAMES(
	"hide-exports\0" No_argument "Z"
	"export\0" Required_argument "x"
	"default\0" Required_argument "n"
	"description\0" Required_argument "y")
	IF_FEATURE_XNBD_SERVER_INIT("root-storage\0" No_argument "K")
	IF_FEATURE_XNBD_SERVER_VERBOSE("verbose\0" No_argument "v")
	IF_FEATURE_XNBD_SERVER_DEVICE(
	"keep-device\0" No_argument "J"
	"device\0" Required_argument "D"
	"connections\0" Required_argument "N")
	IF_FEATURE_XNBD_SERVER_THREADS("threads\0" Required_argument "j")
	IF_FEATURE_XNBD_SERVER_ALLOW("allow\0" Required_argument "w")
	IF_FEATURE_XNBD_TLS(
	"tls-psk\0" Required_argument "E"
	"tls\0" Required_argument "e")
	IF_FEATURE_XNBD_WRAPPER_ALLOW_KEY("allow-key\0" Required_argument "k")
	IF_FEATURE_XNBD_WRAPPER_PROXY("proxy\0" Required_argument "p")
	IF_FEATURE_XNBD_WRAPPER_DBPATH("dbpath\0" Required_argument "B")
	IF_FEATURE_XNBD_SERVER_SECTORS("sector-size\0" Required_argument "z")
	IF_FEATURE_XNBD_SERVER_DISCARD("discard\0" Required_argument "U")
	IF_FEATURE_XNBD_SERVER_COW_CLIENT(
	"cow-client\0" No_argument "O"
	"cow-limit\0" Required_argument "G")
	IF_FEATURE_XNBD_WRAPPER_CONVERSATION( /* of xNBD, whose programs are all one here */
	"port\0" Required_argument "l"
	"xnbd-server\0" Required_argument "X"
	"xnbd-bgctl\0" Required_argument "X"
	"xnbd-binary\0" Required_argument "X");
#endif

int xnbd_wrapper_main(int argc, char **argv) MAIN_EXTERNALLY_VISIBLE;
int xnbd_wrapper_main(int argc UNUSED_PARAM, char **argv)
{
	static struct server_config c = { .lport = SERVER_PORT }; /* owns the list of images to the end */
	const char *clients = SERVER_CLIENTS, *queue = SERVER_QUEUE, *buf = SERVER_BUF_BYTES, *threads = SERVER_THREADS;
	llist_t *images = NULL, *named = NULL;
	IF_FEATURE_XNBD_EXPORT_NAMES(llist_t *descriptions = NULL;)
	const char *sector = NULL, *discard = NULL;
	IF_FEATURE_XNBD_WRAPPER_CONVERSATION(IF_LONG_OPTS(const char *ignored;))
	IF_FEATURE_XNBD_SERVER_COW_CLIENT(const char *cow_limit = NULL;)
	IF_FEATURE_XNBD_TLS(const char *tls = NULL;)
	IF_FEATURE_XNBD_SERVER_DEVICE(llist_t *devices = NULL; const char *connections = NULL;)
	IF_FEATURE_XNBD_WRAPPER_ALLOW_KEY(llist_t *key_rules = NULL;)
	IF_FEATURE_XNBD_WRAPPER_PROXY(llist_t *proxies = NULL;)
	unsigned opt = getopt32long(argv, options, long_options, &images, &c.control, &c.lport, &c.laddr, &c.unix_path,
				    &clients, &queue, &buf IF_FEATURE_XNBD_SERVER_DAEMONIZE(, &c.pidfile, &c.logpath)
				    IF_FEATURE_XNBD_EXPORT_NAMES(, &named, &c.exports.default_name)
				    IF_FEATURE_XNBD_SERVER_COW_CLIENT(, &cow_limit)
				    IF_FEATURE_XNBD_EXPORT_NAMES(, &descriptions)
				    IF_FEATURE_XNBD_SERVER_DEVICE(, &devices, &connections)
				    IF_FEATURE_XNBD_SERVER_THREADS(, &threads)
				    IF_FEATURE_XNBD_SERVER_ALLOW(, &c.allow)
				    IF_FEATURE_XNBD_TLS(, &c.tls_psk, &tls)
				    IF_FEATURE_XNBD_WRAPPER_ALLOW_KEY(, &key_rules)
				    IF_FEATURE_XNBD_WRAPPER_PROXY(, &proxies)
				    IF_FEATURE_XNBD_WRAPPER_DBPATH(, &c.dbpath)
				    IF_FEATURE_XNBD_SERVER_SECTORS(, &sector)
				    IF_FEATURE_XNBD_SERVER_DISCARD(, &discard)
				    IF_FEATURE_XNBD_WRAPPER_CONVERSATION(IF_LONG_OPTS(, &ignored)));

	if (argv[optind])
		bb_error_msg_and_die("too many arguments: '%s'", argv[optind]);
	c.argv = argv;
	c.images = images;
	c.named_images = named;
	c.limits.hides = opt & OPT_HIDE;
	c.exports.readonly = opt & OPT_READONLY;
	c.exports.cow = opt & OPT_COW;
	c.exports.root_storage = opt & OPT_ROOT_STORAGE;
	IF_FEATURE_XNBD_EXPORT_NAMES(server_descriptions(&c, descriptions);)
	IF_FEATURE_XNBD_SERVER_COW_CLIENT(c.exports.cow_client = opt & OPT_COW_CLIENT;
	if (c.exports.cow && c.exports.cow_client)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--cow cannot be combined with --cow-client") IF_NOT_LONG_OPTS("-c cannot be combined with -O"));)
	c.daemonize = opt & OPT_DAEMONIZE;
	c.syslog = opt & OPT_SYSLOG;
	c.verbose = opt & OPT_VERBOSE;
	c.keep_device = opt & OPT_KEEP_DEVICE;
	IF_FEATURE_XNBD_SERVER_DEVICE(c.devices = devices; server_devices(&c, connections);)
	IF_FEATURE_XNBD_TLS(server_tls(&c, tls);)
	IF_FEATURE_XNBD_WRAPPER_ALLOW_KEY(server_key_rules(&c, key_rules);)
	if (ENABLE_FEATURE_XNBD_SERVER_SECTORS || ENABLE_FEATURE_XNBD_SERVER_DISCARD)
		server_sectors(&c, sector, discard);
	IF_FEATURE_XNBD_SERVER_COW_CLIENT(server_cow_client(&c, cow_limit);)
	server_limits(&c, clients, queue, buf, threads);
	IF_FEATURE_XNBD_WRAPPER_PROXY(c.proxies = proxies;)
	if (!images && !named && !c.proxies && !c.dbpath && !c.control)
		bb_simple_error_msg_and_die("nothing to serve: no image, no proxy, no database and no control socket is given");
	return server_run(&c);
}
