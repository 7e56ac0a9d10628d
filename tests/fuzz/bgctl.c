/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Copyright (C) 2026 the xnbdbox authors */
/*
 * xnbd-bgctl, and what a server says to it: in pieces that end with "|*|". The first byte
 * says what is asked, the second whether there is a terminal, and how wide it is.
 */
#include "libbb.h"
#include "world.h"

#include <sys/un.h>

enum { COMMANDS = 8 };

int xnbd_bgctl_main(int argc, char **argv);

static const char *const commands[COMMANDS][8] = {
	{ "-q" },
	{ "-p", "-c" },
	{ "-c", "-b", "7" },
	{ "-p", "-C" },
	{ "-C" },
	{ "-s", "-f" },
	{ "-r", "-n", "a name" },
	{ "-p", "-c", "-b", "65536" },
};

static const uint8_t *script, *script_end;
static unsigned command;
static int listener, server;

static bool connected(int fd UNUSED_PARAM, const char *path UNUSED_PARAM)
{
	server = accept(listener, NULL, NULL);
	return true;
}

/* The server says the next piece; after the last it hangs up. */
static void say_piece(int fd UNUSED_PARAM)
{
	size_t n = (size_t)(script_end - script);
	const uint8_t *mark = memmem(script, n, "|*|", 3);
	size_t piece = mark ? (size_t)(mark - script) : n;

	if (server < 0)
		return;
	if (send(server, script, piece, MSG_NOSIGNAL | MSG_DONTWAIT) != (ssize_t)piece || !mark) {
		close(server);
		server = -1;
	}
	script += mark ? piece + 3 : n;
	if (!piece && mark)
		say_piece(fd);
}

static void listen_on(const char *path)
{
	struct sockaddr_un a = { .sun_family = AF_UNIX };

	strcpy(a.sun_path, path);
	listener = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(listener, (struct sockaddr *)&a, sizeof(a)) < 0 || listen(listener, 1) < 0)
		finding("the fuzzer cannot listen");
}

static int ask(void *arg UNUSED_PARAM)
{
	char *argv[16] = { (char *)"xnbd-bgctl" };
	int n = 1;

	applet_name = argv[0];
	world_peers.connected = connected;
	world_peers.before_read = say_piece;
	listen_on(world_path("control"));
	while (n < 8 && commands[command][n - 1]) {
		argv[n] = (char *)commands[command][n - 1];
		n++;
	}
	argv[n++] = (char *)world_path("control");
	if (strcmp(argv[1], "-r") == 0) {
		argv[n++] = (char *)"unix:relative path";
		argv[n++] = (char *)"-";
	}
	return xnbd_bgctl_main(n, argv);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const unsigned short columns[] = { 0, 1, 2, 5, 20, 80, 600, 65535 };
	int status;

	if (n < 2)
		return 0;
	command = data[0] % COMMANDS;
	world_terminal = data[1] & 8;
	world_prints_lines = true;
	world_columns = columns[data[1] & 7];
	script = data + 2;
	script_end = data + n;
	server = -1;
	optind = 1;
	world_sweep();
	status = life(ask, NULL);
	if (status != 0 && status != 1)
		finding("an exit status that is not in the manual");
	return 0;
}
