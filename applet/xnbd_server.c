/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-server: exports a disk over NBD, or stands between clients and a remote
 * origin while the disk moves here. This file is its command line.
 */
//config:config XNBD_SERVER
//config:	bool "xnbd-server (193 kb)"
//config:	default y
//config:	help
//config:	Serves a disk image or block device over NBD (target mode), or stands
//config:	between clients and a remote NBD server and keeps every block it
//config:	touches in a local image (proxy mode).
//config:
//config:config FEATURE_XNBD_SERVER_PROXY
//config:	bool "--proxy (74 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Without this it only serves a disk (or the copy of one) that is here.
//config:
//config:config FEATURE_XNBD_SERVER_STRUCTURED
//config:	bool "Structured replies (2.7 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Clients may ask for structured replies, and which parts of the disk are
//config:	holes (base:allocation). What a proxy asks its origin does not depend on it.
//config:
//config:config FEATURE_XNBD_SERVER_READ_HOLES
//config:	bool "Zeroes are told, not sent (380 bytes)"
//config:	default y
//config:	depends on FEATURE_XNBD_SERVER_STRUCTURED
//config:	help
//config:	A READ with structured replies is answered with a hole chunk where
//config:	64 KiB and more are zero.
//config:
//config:config FEATURE_XNBD_EXPORT_NAMES
//config:	bool "Names and descriptions of exports (1.4 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	--exportname, --description and --hide-exports of xnbd-server; --export,
//config:	--default and --description of xnbd-wrapper. A client whose export is unknown is told
//config:	which there are.
//config:
//config:config FEATURE_XNBD_SERVER_SECTORS
//config:	bool "--sector-size (730 bytes)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Clients are told that sectors have 512 or 4096 bytes, and requests that
//config:	are not for whole sectors are refused.
//config:
//config:config FEATURE_XNBD_SERVER_DISCARD
//config:	bool "--discard (370 bytes)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	For preallocated images: TRIM is ignored, and zeroes leave no holes.
//config:
//config:config FEATURE_XNBD_SERVER_OLDSTYLE
//config:	bool "--oldstyle (330 bytes)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	The oldstyle handshake, for old clients. A proxy understands an oldstyle
//config:	origin without it.
//config:
//config:config FEATURE_XNBD_SERVER_CONTROL
//config:	bool "--control (150 bytes)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	A control socket for a target, as a proxy has one.
//config:
//config:config FEATURE_XNBD_SERVER_NAMES
//config:	bool "Host names (20 kb)"
//config:	default y
//config:	depends on XNBD_SERVER
//config:	help
//config:	Hosts and services by name. Without this, addresses and ports are numbers,
//config:	and libc's resolver is left out, if nothing else needs it.
//applet:IF_XNBD_SERVER(APPLET_ODDNAME(xnbd-server, xnbd_server, BB_DIR_USR_SBIN, BB_SUID_DROP, xnbd_server))
//kbuild:lib-$(CONFIG_XNBD_SERVER) += xnbd_server.o nbd/ tls/ device/ core/ reactor/ storage/ secure/ origin/ export/ client/ control/ server/
//usage:#define xnbd_server_trivial_usage
//usage:	IF_LONG_OPTS("--target [OPTIONS] DISK_IMAGE") IF_NOT_LONG_OPTS("-t [OPTIONS] DISK_IMAGE")
//usage:	IF_FEATURE_XNBD_SERVER_COW("\n"
//usage:       "xnbd-server " IF_LONG_OPTS("--cow-target") IF_NOT_LONG_OPTS("-C") " [OPTIONS] BASE_DISK_IMAGE")
//usage:	IF_FEATURE_XNBD_SERVER_COW_CLIENT("\n"
//usage:       "xnbd-server " IF_LONG_OPTS("--cow-client") IF_NOT_LONG_OPTS("-O") " [OPTIONS] BASE_DISK_IMAGE")
//usage:	IF_FEATURE_XNBD_SERVER_PROXY("\n"
//usage:       "xnbd-server " IF_LONG_OPTS("--proxy") IF_NOT_LONG_OPTS("-p") " [OPTIONS] REMOTE_HOST REMOTE_PORT|URI CACHE_IMAGE CACHE_BITMAP_IMAGE CONTROL_SOCKET")
//usage:	IF_FEATURE_XNBD_SERVER_CHECK("\n"
//usage:       "xnbd-server " IF_LONG_OPTS("--check") IF_NOT_LONG_OPTS("-k") " [OPTIONS] CACHE_IMAGE CACHE_BITMAP_IMAGE [REMOTE_HOST REMOTE_PORT|URI]")
//usage:#define xnbd_server_full_usage "\n\n"
//usage:       "Serve a disk over NBD\n"
//usage:     "\n	-t,--target		Serve DISK_IMAGE"
//usage:	IF_FEATURE_XNBD_SERVER_COW(
//usage:     "\n	-C,--cow-target		Same, but writes are lost at exit"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_COW_CLIENT(
//usage:     "\n	-O,--cow-client		Same, but each client sees only its own writes"
//usage:     "\n	-G,--cow-limit BYTES	Limit per client (0 = no limit)"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_PROXY(
//usage:     "\n	-p,--proxy		Serve the disk of a remote server, caching it"
//usage:     "\n	-n,--target-exportname NAME	Export of the remote server"
//usage:	)
//usage:     "\n	-l,--lport PORT		Listen on PORT (8520; 0 = not on TCP)"
//usage:     "\n	-a,--laddr ADDR		Listen on ADDR only"
//usage:     "\n	-u,--unix PATH		Listen on a Unix socket"
//usage:	IF_FEATURE_XNBD_EXPORT_NAMES(
//usage:     "\n	-M,--exportname NAME	Name of the export, besides the empty one"
//usage:     "\n	-y,--description TEXT	Description for clients"
//usage:     "\n	-Z,--hide-exports	Hide the name from clients"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_ALLOW(
//usage:     "\n	-w,--allow LIST		Serve only ADDRESS/BITS[,ADDRESS/BITS]..."
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_INETD(
//usage:     "\n	-i,--inetd		Serve the client on standard input, then exit"
//usage:     "\n	-F,--connected-fd N	Same on descriptor N, after its handshake"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_DEVICE(
//usage:     "\n	-D,--device DEVICE	Also serve it as DEVICE (/dev/nbdN" IF_FEATURE_XNBD_SERVER_UBLK(", /dev/ublkbN") ")"
//usage:     "\n	-N,--connections N	Connections to it (1)"
//usage:     "\n	-J,--keep-device	Keep it at exit, for the next server"
//usage:	)
//usage:	IF_FEATURE_XNBD_TLS(
//usage:     "\n	-E,--tls-psk FILE	Clients may use TLS with the keys of FILE"
//usage:     "\n	-e,--tls MODE		off, on, or require"
//usage:	)
//usage:     "\n	-r,--readonly		Refuse writes"
//usage:	IF_FEATURE_XNBD_SERVER_SECTORS(
//usage:     "\n	-z,--sector-size BYTES	Sector size: 512 or 4096"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_DISCARD(
//usage:     "\n	-U,--discard MODE	unmap, or ignore: make no holes"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_OLDSTYLE(
//usage:     "\n	-o,--oldstyle		Use the oldstyle handshake"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_DAEMONIZE(
//usage:     "\n	-d,--daemonize		Run in the background when ready"
//usage:	IF_FEATURE_XNBD_SERVER_RESTART(
//usage:     "\n	-W,--restart		Start it again when it was killed"
//usage:	)
//usage:     "\n	-P,--pidfile FILE	Write the process id to FILE"
//usage:     "\n	-L,--logpath FILE	Append messages to FILE"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_CONTROL(
//usage:     "\n	-s,--control PATH	Control socket of a target"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_VERBOSE(
//usage:     "\n	-v,--verbose		Log clients and errors"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_SYSLOG(
//usage:     "\n	-S,--syslog		Send messages to syslogd"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_INIT(
//usage:     "\n	-K,--root-storage	The root file system depends on this server"
//usage:     "\n	-B,--commit-file FILE	State that survives a power cut (CACHE_BITMAP_IMAGE.commit)"
//usage:	)
//usage:     "\n	-m,--max-clients N	Sessions at a time (128; 0 = no limit)"
//usage:     "\n	-q,--max-queue-size N	Requests in flight (4096; 0 = no limit)"
//usage:     "\n	-b,--max-buf-size BYTES	Memory for them (33554432; 0 = no limit)"
//usage:	IF_FEATURE_XNBD_SERVER_THREADS(
//usage:     "\n	-j,--threads N		Threads for clients (0 = one per processor)"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_PROXY(
//usage:     "\n	-c,--clear-bitmap	Discard the cache"
//usage:     "\n	-X,--adopt-bitmap	Take over a cache of xNBD"
//usage:	IF_FEATURE_XNBD_SERVER_COVER(
//usage:     "\n	-Q,--cover		Hide the half-copied disk until the switch"
//usage:	)
//usage:     "\n	-I,--accept-image	Accept image and bitmap even if changed or replaced"
//usage:     "\n	-R,--rate BYTES		Copy at most BYTES per second (0 = no limit)"
//usage:     "\n	-H,--hold SECONDS	How long requests wait for the remote server (0 = forever)"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_AUTO(
//usage:     "\n	-A,--auto-switch	Switch as soon as all blocks are local"
//usage:     "\n	-x,--exec PROGRAM	Run PROGRAM IMAGE once when that is done"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_TRACE(
//usage:     "\n	-T,--record-trace FILE	Record the blocks that clients request, in order"
//usage:     "\n	-f,--prefetch FILE	Fetch the blocks of such a FILE first"
//usage:	)
//usage:	IF_FEATURE_XNBD_SERVER_AUTO(IF_FEATURE_XNBD_SERVER_VERIFY(
//usage:     "\n	-V,--verify		Compare with the remote server before that"
//usage:	))
//usage:	IF_FEATURE_XNBD_SERVER_CHECK(
//usage:     "\n	-k,--check		Check the files of a proxy; change nothing"
//usage:	)
#include "libbb.h"
#include "server/server.h"
#include "server/upgrade.h"

#include <limits.h>

enum {
	OPT_TARGET = 1 << 0,
	OPT_READONLY = 1 << 1,
	/* -l -a -u -m -q -b: values */
	OPTBIT_OLDSTYLE = 8,
	OPTBIT_COW = OPTBIT_OLDSTYLE + ENABLE_FEATURE_XNBD_SERVER_OLDSTYLE,
	OPTBIT_INETD = OPTBIT_COW + ENABLE_FEATURE_XNBD_SERVER_COW,
	OPTBIT_DAEMONIZE = OPTBIT_INETD + 2 * ENABLE_FEATURE_XNBD_SERVER_INETD,
	OPTBIT_SYSLOG = OPTBIT_DAEMONIZE + ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE + ENABLE_FEATURE_XNBD_SERVER_RESTART,
	OPTBIT_INIT = OPTBIT_SYSLOG + ENABLE_FEATURE_XNBD_SERVER_SYSLOG,
	OPTBIT_PROXY = OPTBIT_INIT + ENABLE_FEATURE_XNBD_SERVER_INIT,
	OPTBIT_AUTO = OPTBIT_PROXY + 4 * ENABLE_FEATURE_XNBD_SERVER_PROXY,
	OPT_OLDSTYLE = ENABLE_FEATURE_XNBD_SERVER_OLDSTYLE << OPTBIT_OLDSTYLE,
	OPT_COW = ENABLE_FEATURE_XNBD_SERVER_COW << OPTBIT_COW,
	OPT_INETD = ENABLE_FEATURE_XNBD_SERVER_INETD << OPTBIT_INETD,
	OPT_CONNECTED_FD = ENABLE_FEATURE_XNBD_SERVER_INETD << (OPTBIT_INETD + 1),
	OPT_DAEMONIZE = ENABLE_FEATURE_XNBD_SERVER_DAEMONIZE << OPTBIT_DAEMONIZE,
	OPT_RESTART = ENABLE_FEATURE_XNBD_SERVER_RESTART << (OPTBIT_DAEMONIZE + 1),
	OPT_SYSLOG = ENABLE_FEATURE_XNBD_SERVER_SYSLOG << OPTBIT_SYSLOG,
	OPT_ROOT_STORAGE = ENABLE_FEATURE_XNBD_SERVER_INIT << OPTBIT_INIT,
	OPT_AUTO_SWITCH = ENABLE_FEATURE_XNBD_SERVER_AUTO << OPTBIT_AUTO,
	HAVE_VERIFY = ENABLE_FEATURE_XNBD_SERVER_AUTO && ENABLE_FEATURE_XNBD_SERVER_VERIFY,
	OPTBIT_VERIFY = OPTBIT_AUTO + 2 * ENABLE_FEATURE_XNBD_SERVER_AUTO,
	OPTBIT_CHECK = OPTBIT_VERIFY + HAVE_VERIFY,
	OPT_VERIFY = HAVE_VERIFY << OPTBIT_VERIFY,
	OPT_CHECK = ENABLE_FEATURE_XNBD_SERVER_CHECK << OPTBIT_CHECK,
	OPTBIT_NAMES = OPTBIT_CHECK + ENABLE_FEATURE_XNBD_SERVER_CHECK,
	OPT_HIDE = ENABLE_FEATURE_XNBD_EXPORT_NAMES << OPTBIT_NAMES,
	OPTBIT_VERBOSE = OPTBIT_NAMES + ENABLE_FEATURE_XNBD_EXPORT_NAMES,
	OPT_VERBOSE = ENABLE_FEATURE_XNBD_SERVER_VERBOSE << OPTBIT_VERBOSE,
	OPTBIT_COW_CLIENT = OPTBIT_VERBOSE + ENABLE_FEATURE_XNBD_SERVER_VERBOSE,
	OPT_COW_CLIENT = ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT << OPTBIT_COW_CLIENT,
	OPTBIT_COVER = OPTBIT_COW_CLIENT + ENABLE_FEATURE_XNBD_SERVER_COW_CLIENT,
	OPT_COVER = ENABLE_FEATURE_XNBD_SERVER_COVER << OPTBIT_COVER,
	OPTBIT_DEVICE = OPTBIT_COVER + ENABLE_FEATURE_XNBD_SERVER_COVER,
	OPT_KEEP_DEVICE = ENABLE_FEATURE_XNBD_SERVER_DEVICE << OPTBIT_DEVICE,
	OPT_PROXY = ENABLE_FEATURE_XNBD_SERVER_PROXY << OPTBIT_PROXY,
	OPT_CLEAR = ENABLE_FEATURE_XNBD_SERVER_PROXY << (OPTBIT_PROXY + 1),
	OPT_ADOPT = ENABLE_FEATURE_XNBD_SERVER_PROXY << (OPTBIT_PROXY + 2),
	OPT_ACCEPT = ENABLE_FEATURE_XNBD_SERVER_PROXY << (OPTBIT_PROXY + 3),
};

/* Those without an argument first, and lists (":*"): getopt32long() has bits for 32 options. */
static const char options[] ALIGN1 = "trl:a:u:m:q:b:"
	IF_FEATURE_XNBD_SERVER_OLDSTYLE("o")
	IF_FEATURE_XNBD_SERVER_COW("C")
	IF_FEATURE_XNBD_SERVER_INETD("iF:")
	IF_FEATURE_XNBD_SERVER_DAEMONIZE("d" IF_FEATURE_XNBD_SERVER_RESTART("W"))
	IF_FEATURE_XNBD_SERVER_SYSLOG("S")
	IF_FEATURE_XNBD_SERVER_INIT("K")
	IF_FEATURE_XNBD_SERVER_PROXY("pcXI")
	IF_FEATURE_XNBD_SERVER_AUTO("Ax:" IF_FEATURE_XNBD_SERVER_VERIFY("V"))
	IF_FEATURE_XNBD_SERVER_CHECK("k")
	IF_FEATURE_XNBD_EXPORT_NAMES("Z")
	IF_FEATURE_XNBD_SERVER_VERBOSE("v")
	IF_FEATURE_XNBD_SERVER_COW_CLIENT("O")
	IF_FEATURE_XNBD_SERVER_COVER("Q")
	IF_FEATURE_XNBD_SERVER_DEVICE("J")
	IF_FEATURE_XNBD_SERVER_PROXY("n:R:H:")
	IF_FEATURE_XNBD_SERVER_DEVICE("D:N:")
	IF_FEATURE_XNBD_SERVER_THREADS("j:")
	IF_FEATURE_XNBD_SERVER_ALLOW("w:")
	IF_FEATURE_XNBD_TLS("E:e:")
	IF_FEATURE_XNBD_SERVER_INIT("B:")
	IF_FEATURE_XNBD_SERVER_TRACE("T:f:")
	IF_FEATURE_XNBD_SERVER_DAEMONIZE("P:L:")
	IF_FEATURE_XNBD_SERVER_CONTROL("s:")
	IF_FEATURE_XNBD_EXPORT_NAMES("M:y:")
	IF_FEATURE_XNBD_SERVER_SECTORS("z:")
	IF_FEATURE_XNBD_SERVER_DISCARD("U:")
	IF_FEATURE_XNBD_SERVER_COW_CLIENT("G:");

#if ENABLE_LONG_OPTS
static const char long_options[] ALIGN1 =
	"target\0" No_argument "t"
	"readonly\0" No_argument "r"
	"lport\0" Required_argument "l"
	"laddr\0" Required_argument "a"
	"unix\0" Required_argument "u"
	"max-clients\0" Required_argument "m"
	"max-queue-size\0" Required_argument "q"
	"max-buf-size\0" Required_argument "b"
	IF_FEATURE_XNBD_SERVER_OLDSTYLE("oldstyle\0" No_argument "o")
	IF_FEATURE_XNBD_SERVER_COW("cow-target\0" No_argument "C")
	IF_FEATURE_XNBD_SERVER_INETD(
	"inetd\0" No_argument "i"
	"connected-fd\0" Required_argument "F")
	IF_FEATURE_XNBD_SERVER_DAEMONIZE(
	"daemonize\0" No_argument "d"
	IF_FEATURE_XNBD_SERVER_RESTART("restart\0" No_argument "W")
	"pidfile\0" Required_argument "P"
	"logpath\0" Required_argument "L")
	IF_FEATURE_XNBD_SERVER_SYSLOG("syslog\0" No_argument "S")
	IF_FEATURE_XNBD_SERVER_INIT(
	"root-storage\0" No_argument "K"
	"commit-file\0" Required_argument "B")
	IF_FEATURE_XNBD_SERVER_PROXY(
	"proxy\0" No_argument "p"
	"clear-bitmap\0" No_argument "c"
	"adopt-bitmap\0" No_argument "X"
	"accept-image\0" No_argument "I"
	"target-exportname\0" Required_argument "n"
	"rate\0" Required_argument "R"
	"hold\0" Required_argument "H")
	IF_FEATURE_XNBD_SERVER_COVER("cover\0" No_argument "Q")
	IF_FEATURE_XNBD_SERVER_AUTO(
	"auto-switch\0" No_argument "A"
	"exec\0" Required_argument "x"
	IF_FEATURE_XNBD_SERVER_VERIFY("verify\0" No_argument "V"))
	IF_FEATURE_XNBD_SERVER_TRACE(
	"record-trace\0" Required_argument "T"
	"prefetch\0" Required_argument "f")
	IF_FEATURE_XNBD_SERVER_CHECK("check\0" No_argument "k")
	IF_FEATURE_XNBD_SERVER_VERBOSE("verbose\0" No_argument "v")
	IF_FEATURE_XNBD_SERVER_DEVICE(
	"keep-device\0" No_argument "J"
	"device\0" Required_argument "D"
	"connections\0" Required_argument "N")
	IF_FEATURE_XNBD_SERVER_CONTROL("control\0" Required_argument "s")
	IF_FEATURE_XNBD_SERVER_THREADS("threads\0" Required_argument "j")
	IF_FEATURE_XNBD_EXPORT_NAMES(
	"exportname\0" Required_argument "M"
	"description\0" Required_argument "y"
	"hide-exports\0" No_argument "Z")
	IF_FEATURE_XNBD_SERVER_SECTORS("sector-size\0" Required_argument "z")
	IF_FEATURE_XNBD_SERVER_DISCARD("discard\0" Required_argument "U")
	IF_FEATURE_XNBD_SERVER_COW_CLIENT(
	"cow-client\0" No_argument "O"
	"cow-limit\0" Required_argument "G")
	IF_FEATURE_XNBD_SERVER_ALLOW("allow\0" Required_argument "w")
	IF_FEATURE_XNBD_TLS(
	"tls-psk\0" Required_argument "E"
	"tls\0" Required_argument "e");
#endif

/* "--target, --cow-target or --proxy", as far as they are there. */
#define MODES                                                                         \
	IF_LONG_OPTS("--target") IF_NOT_LONG_OPTS("-t")                               \
	IF_FEATURE_XNBD_SERVER_COW(IF_LONG_OPTS(" or --cow-target") IF_NOT_LONG_OPTS(" or -C")) \
	IF_FEATURE_XNBD_SERVER_COW_CLIENT(IF_LONG_OPTS(" or --cow-client") IF_NOT_LONG_OPTS(" or -O")) \
	IF_FEATURE_XNBD_SERVER_PROXY(IF_LONG_OPTS(" or --proxy") IF_NOT_LONG_OPTS(" or -p")) \
	IF_FEATURE_XNBD_SERVER_CHECK(IF_LONG_OPTS(" or --check") IF_NOT_LONG_OPTS(" or -k"))

/* Arguments behind the options: their names, and where they go. */
struct argument {
	const char *name;
	const char **to;
};

/* The first `needed` of them have to be there; then all or none. */
static void parse_arguments(const struct argument *a, unsigned needed, char **argv)
{
	unsigned i;

	for (i = 0; a[i].name && argv[i]; i++)
		*a[i].to = argv[i];
	if (a[i].name && i != needed)
		bb_error_msg_and_die("%s is missing; try --help", a[i].name);
	if (argv[i])
		bb_error_msg_and_die("too many arguments: '%s'", argv[i]);
}

/* Instead of REMOTE_HOST and REMOTE_PORT. */
static void parse_uri(struct server_config *c, const char *uri)
{
	const char *name = c->origin.name;
	struct nbd_uri u;
	const char *wrong = nbd_uri_parse(c->origin_uri = xstrdup(uri), &u);

	if (wrong)
		bb_error_msg_and_die("the URI of the origin %s", wrong);
	if (*u.export_name && *name)
		bb_simple_error_msg_and_die("the name of the export is a part of the URI");
	origin_address_of(&c->origin, &u);
	if (*name)
		c->origin.name = name;
	if (ENABLE_FEATURE_XNBD_TLS && u.tls && !(ENABLE_FEATURE_XNBD_SERVER_UPGRADE && upgrade_found()))
		c->origin.psk = psk_one(u.psk_file, u.user);
}

/* is_paced: --rate or --hold is given, which have no bit. */
static void parse_mode(struct server_config *c, unsigned opt, bool is_paced, char **argv)
{
	const struct argument target[] = { { "DISK_IMAGE", &c->image }, { NULL, NULL } };
	const struct argument proxy[] = { { "REMOTE_HOST", &c->origin.host }, { "REMOTE_PORT", &c->origin.port },
					  { "CACHE_IMAGE", &c->image }, { "CACHE_BITMAP_IMAGE", &c->bitmap },
					  { "CONTROL_SOCKET", &c->control }, { NULL, NULL } };
	const struct argument check[] = { { "CACHE_IMAGE", &c->image }, { "CACHE_BITMAP_IMAGE", &c->bitmap },
					  { "REMOTE_HOST", &c->origin.host }, { "REMOTE_PORT", &c->origin.port },
					  { NULL, NULL } };
	unsigned modes = opt & (OPT_TARGET | OPT_COW | OPT_COW_CLIENT | OPT_PROXY | OPT_CHECK);

	if (!modes || (modes & (modes - 1)))
		bb_error_msg_and_die("give %s" MODES "; try --help", modes ? "only one: " : "");
	/* Else what is meant for a proxy would pass for a target that has it. */
	if (!(modes & (OPT_PROXY | OPT_CHECK)) &&
	    (opt & (OPT_CLEAR | OPT_ADOPT | OPT_ACCEPT | OPT_COVER | OPT_AUTO_SWITCH) || c->commit || c->hook || c->record || c->prefetch || is_paced || *c->origin.name))
		bb_simple_error_msg_and_die("an option for a proxy is given to a target");
	if (modes == OPT_CHECK && (opt & OPT_CLEAR))
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--check cannot be combined with --clear-bitmap") IF_NOT_LONG_OPTS("-k cannot be combined with -c"));
	if (modes == OPT_CHECK) {
		bool has_uri = argv[0] && argv[1] && argv[2] && nbd_is_uri(argv[2]);

		parse_arguments(check, has_uri ? 3 : 2, argv);
		if (has_uri)
			parse_uri(c, argv[2]);
	} else if (modes == OPT_PROXY && *argv && nbd_is_uri(*argv)) {
		parse_uri(c, *argv);
		parse_arguments(proxy + 2, 3, argv + 1);
	} else if (modes == OPT_PROXY) {
		parse_arguments(proxy, 5, argv);
	} else {
		parse_arguments(target, 1, argv);
	}
}

static bool is_long(const char *text)
{
	return ENABLE_FEATURE_XNBD_EXPORT_NAMES && text && strlen(text) > NBD_NAME_MAX;
}

int xnbd_server_main(int argc, char **argv) MAIN_EXTERNALLY_VISIBLE;
int xnbd_server_main(int argc UNUSED_PARAM, char **argv)
{
	struct server_config c = { .origin.name = "", .lport = SERVER_PORT, .argv = argv };
	const char *clients = SERVER_CLIENTS, *queue = SERVER_QUEUE, *buf = SERVER_BUF_BYTES, *threads = SERVER_THREADS;
	IF_FEATURE_XNBD_SERVER_INETD(const char *fd = "0";)
	const char *rate = NULL, *hold = NULL;
	IF_FEATURE_XNBD_SERVER_DEVICE(const char *connections = NULL;)
	IF_FEATURE_XNBD_TLS(const char *tls = NULL;)
	IF_FEATURE_XNBD_SERVER_CONTROL(const char *control = NULL;)
	const char *sector = NULL, *discard = NULL;
	IF_FEATURE_XNBD_SERVER_COW_CLIENT(const char *cow_limit = NULL;)
	unsigned opt = getopt32long(argv, options, long_options, &c.lport, &c.laddr, &c.unix_path, &clients, &queue, &buf
		IF_FEATURE_XNBD_SERVER_INETD(, &fd)
		IF_FEATURE_XNBD_SERVER_AUTO(, &c.hook)
		IF_FEATURE_XNBD_SERVER_PROXY(, &c.origin.name, &rate, &hold)
		IF_FEATURE_XNBD_SERVER_DEVICE(, &c.device, &connections)
		IF_FEATURE_XNBD_SERVER_THREADS(, &threads)
		IF_FEATURE_XNBD_SERVER_ALLOW(, &c.allow)
		IF_FEATURE_XNBD_TLS(, &c.tls_psk, &tls)
		IF_FEATURE_XNBD_SERVER_INIT(, &c.commit)
		IF_FEATURE_XNBD_SERVER_TRACE(, &c.record, &c.prefetch)
		IF_FEATURE_XNBD_SERVER_DAEMONIZE(, &c.pidfile, &c.logpath)
		IF_FEATURE_XNBD_SERVER_CONTROL(, &control)
		IF_FEATURE_XNBD_EXPORT_NAMES(, &c.exports.default_name, &c.exports.description)
		IF_FEATURE_XNBD_SERVER_SECTORS(, &sector)
		IF_FEATURE_XNBD_SERVER_DISCARD(, &discard)
		IF_FEATURE_XNBD_SERVER_COW_CLIENT(, &cow_limit));

	parse_mode(&c, opt, rate || hold, argv + optind);
	IF_FEATURE_XNBD_SERVER_CONTROL(if (control && !(opt & (OPT_TARGET | OPT_COW | OPT_COW_CLIENT)))
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--control") IF_NOT_LONG_OPTS("-s") " is for a target; a proxy has CONTROL_SOCKET");
	if (control)
		c.control = control;)
	c.exports.readonly = opt & OPT_READONLY;
	c.limits.oldstyle = opt & OPT_OLDSTYLE;
	c.limits.hides = opt & OPT_HIDE;
	c.daemonize = opt & OPT_DAEMONIZE;
	c.restart = opt & OPT_RESTART;
	c.syslog = opt & OPT_SYSLOG;
	c.verbose = opt & OPT_VERBOSE;
	c.exports.root_storage = opt & OPT_ROOT_STORAGE;
	c.auto_switch = opt & OPT_AUTO_SWITCH;
	c.verify = opt & OPT_VERIFY;
	c.clear_bitmap = opt & OPT_CLEAR;
	c.adopt_bitmap = opt & OPT_ADOPT;
	c.accept_image = opt & OPT_ACCEPT;
	c.cover = opt & OPT_COVER;
	c.exports.cow = opt & OPT_COW;
	c.exports.cow_client = opt & OPT_COW_CLIENT;
	c.past_handshake = opt & OPT_CONNECTED_FD;
	c.one_client = opt & (OPT_INETD | OPT_CONNECTED_FD);
	c.keep_device = opt & OPT_KEEP_DEVICE;
	IF_FEATURE_XNBD_TLS(server_tls(&c, tls);)
	IF_FEATURE_XNBD_SERVER_INETD(c.client_fd = (int)xatou_range(fd, 0, INT_MAX);)
	IF_FEATURE_XNBD_SERVER_DEVICE(server_devices(&c, connections);)
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && rate)
		c.exports.rate_bytes = xatoull_sfx(rate, kMG_suffixes);
	if (ENABLE_FEATURE_XNBD_SERVER_PROXY && hold)
		c.exports.hold_s = xatou(hold);
	if (strlen(c.origin.name) > NBD_NAME_MAX || is_long(c.exports.default_name))
		bb_simple_error_msg_and_die("the name of an export has at most 4096 bytes");
	if (is_long(c.exports.description))
		bb_simple_error_msg_and_die("a description has at most 4096 bytes");
	if (c.verify && !c.auto_switch)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--verify is for --auto-switch") IF_NOT_LONG_OPTS("-V is for -A") "; a proxy that runs is asked to compare by xnbd-bgctl");
	if (ENABLE_FEATURE_XNBD_SERVER_RESTART && c.restart && !c.daemonize)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--restart is for --daemonize") IF_NOT_LONG_OPTS("-W is for -d"));
	if (ENABLE_FEATURE_XNBD_SERVER_RESTART && c.restart && c.exports.cow)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--restart") IF_NOT_LONG_OPTS("-W") " of a copy-on-write target: its data ends with the server");
	if (ENABLE_FEATURE_XNBD_SERVER_INETD && c.one_client && c.daemonize)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--daemonize cannot be combined with --inetd or --connected-fd") IF_NOT_LONG_OPTS("-d cannot be combined with -i or -F"));
	if (ENABLE_FEATURE_XNBD_SERVER_ALLOW && c.allow && c.one_client)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--allow cannot be combined with --inetd or --connected-fd") IF_NOT_LONG_OPTS("-w cannot be combined with -i or -F"));
	if (ENABLE_FEATURE_XNBD_SERVER_DEVICE && c.device && c.one_client)
		bb_simple_error_msg_and_die(IF_LONG_OPTS("--device cannot be combined with --inetd or --connected-fd") IF_NOT_LONG_OPTS("-D cannot be combined with -i or -F"));
	IF_FEATURE_XNBD_SERVER_COW_CLIENT(server_cow_client(&c, cow_limit);)
	if (opt & OPT_CHECK)
		return server_check(&c);
	if (ENABLE_FEATURE_XNBD_SERVER_SECTORS || ENABLE_FEATURE_XNBD_SERVER_DISCARD)
		server_sectors(&c, sector, discard);
	server_limits(&c, clients, queue, buf, threads);
	return server_run(&c);
}
