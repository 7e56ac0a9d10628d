/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * xnbd-server: exports a disk over NBD, or stands between clients and a remote
 * origin while the disk moves here. This file is its command line.
 */
//config:config XNBD_SERVER
//config:	bool "xnbd-server"
//config:	default y
//config:	help
//config:	Serves a disk image or block device over NBD (target mode), or stands
//config:	between clients and a remote NBD server and keeps every block it
//config:	touches in a local image (proxy mode).
//applet:IF_XNBD_SERVER(APPLET_ODDNAME(xnbd-server, xnbd_server, BB_DIR_USR_SBIN, BB_SUID_DROP, xnbd_server))
//kbuild:lib-$(CONFIG_XNBD_SERVER) += xnbd_server.o nbd/ core/ server/
//usage:#define xnbd_server_trivial_usage
//usage:       "--target [OPTIONS] DISK_IMAGE\n"
//usage:       "xnbd-server --proxy [OPTIONS] REMOTE_HOST REMOTE_PORT CACHE_IMAGE CACHE_BITMAP_IMAGE CONTROL_SOCKET"
//usage:#define xnbd_server_full_usage "\n\n"
//usage:       "Serve a disk over NBD\n"
//usage:     "\n	-t,--target		Serve DISK_IMAGE"
//usage:     "\n	-p,--proxy		Serve the disk of a remote server, caching it"
//usage:     "\n	-n,--target-exportname NAME	Export to ask the remote server for"
//usage:     "\n	-l,--lport PORT		Listen on PORT (8520; 0 = not on TCP)"
//usage:     "\n	-a,--laddr ADDR		Listen on ADDR only"
//usage:     "\n	-u,--unix PATH		Listen on a Unix socket"
//usage:     "\n	-r,--readonly		Refuse writes"
//usage:     "\n	-o,--oldstyle		Use the oldstyle handshake"
//usage:     "\n	-d,--daemonize		Go to the background when ready"
//usage:     "\n	-P,--pidfile FILE	Write the process id to FILE"
//usage:     "\n	-L,--logpath FILE	Append messages to FILE"
//usage:     "\n	-c,--clear-bitmap	Forget what is cached"
//usage:     "\n	-m,--max-clients N	Sessions at a time (128; 0 = no limit)"
//usage:     "\n	-q,--max-queue-size N	Requests in flight (4096; 0 = no limit)"
//usage:     "\n	-b,--max-buf-size BYTES	Memory for them (33554432; 0 = no limit)"
//usage:     "\n	-R,--rate BYTES		Background copy per second (0 = no limit)"
//usage:     "\n	-H,--hold SECONDS	Fail what waits so long for the remote server (0 = never)"
#include "libbb.h"
#include "server/server.h"

enum {
	OPT_TARGET = 1 << 0,
	OPT_PROXY = 1 << 1,
	OPT_READONLY = 1 << 2,
	OPT_OLDSTYLE = 1 << 3,
	OPT_DAEMONIZE = 1 << 4,
	OPT_CLEAR = 1 << 5,
};

static const char options[] ALIGN1 = "tprodcn:l:a:u:P:L:m:q:b:R:H:";

static const char long_options[] ALIGN1 =
	"target\0" No_argument "t"
	"proxy\0" No_argument "p"
	"readonly\0" No_argument "r"
	"oldstyle\0" No_argument "o"
	"daemonize\0" No_argument "d"
	"clear-bitmap\0" No_argument "c"
	"target-exportname\0" Required_argument "n"
	"lport\0" Required_argument "l"
	"laddr\0" Required_argument "a"
	"unix\0" Required_argument "u"
	"pidfile\0" Required_argument "P"
	"logpath\0" Required_argument "L"
	"max-clients\0" Required_argument "m"
	"max-queue-size\0" Required_argument "q"
	"max-buf-size\0" Required_argument "b"
	"rate\0" Required_argument "R"
	"hold\0" Required_argument "H";

/* The arguments behind the options. */
static void take_arguments(struct server_config *c, unsigned opt, char **argv)
{
	static const char *const target[] = { "DISK_IMAGE", NULL };
	static const char *const proxy[] = { "REMOTE_HOST", "REMOTE_PORT", "CACHE_IMAGE",
					     "CACHE_BITMAP_IMAGE", "CONTROL_SOCKET", NULL };
	const char *const *names = opt & OPT_PROXY ? proxy : target;

	if (!(opt & OPT_TARGET) == !(opt & OPT_PROXY))
		bb_simple_error_msg_and_die("give one of --target and --proxy; try --help");
	while (*names && *argv) {
		names++;
		argv++;
	}
	if (*names)
		bb_error_msg_and_die("%s is missing; try --help", *names);
	if (*argv)
		bb_error_msg_and_die("too many arguments: '%s'", *argv);
	if (!(opt & OPT_PROXY)) {
		c->image = argv[-1];
		return;
	}
	argv -= 5;
	c->origin_host = argv[0];
	c->origin_port = argv[1];
	c->image = argv[2];
	c->bitmap = argv[3];
	c->control = argv[4];
}

int xnbd_server_main(int argc, char **argv) MAIN_EXTERNALLY_VISIBLE;
int xnbd_server_main(int argc UNUSED_PARAM, char **argv)
{
	struct server_config c = { .origin_export = "", .lport = "8520" };
	const char *clients = "128", *queue = "4096", *buf = "33554432", *rate = "0", *hold = "0";
	unsigned opt = getopt32long(argv, options, long_options, &c.origin_export, &c.lport, &c.laddr, &c.unix_path,
				    &c.pidfile, &c.logpath, &clients, &queue, &buf, &rate, &hold);

	take_arguments(&c, opt, argv + optind);
	c.readonly = opt & OPT_READONLY;
	c.oldstyle = opt & OPT_OLDSTYLE;
	c.daemonize = opt & OPT_DAEMONIZE;
	c.clear_bitmap = opt & OPT_CLEAR;
	c.max_clients = xatou(clients);
	c.max_queue = xatou(queue);
	c.max_buf_bytes = xatoull(buf);
	c.rate_bytes = xatoull(rate);
	c.hold_s = xatou(hold);
	if (xatou_range(c.lport, 0, 65535) == 0)
		c.lport = NULL;
	if (strlen(c.origin_export) > NBD_NAME_MAX)
		bb_simple_error_msg_and_die("the name of an export has at most 4096 bytes");
	if (!c.lport && !c.unix_path)
		bb_simple_error_msg_and_die("nothing to listen on: give --lport or --unix");
	return server_run(&c);
}
