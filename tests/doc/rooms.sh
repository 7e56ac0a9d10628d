# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# A room of applet/ uses only the rooms below it: its files include no header of one above, and, as the
# applets, of the others none that is for a room's own files. The compiler warns of what is CORE_PRIVATE in
# core.h: only core/ lifts that.
set -u
cd "$(dirname "$0")/../../applet" || exit 1
rooms="libbb nbd tls device core reactor storage secure origin export client control server" # from the ground up
own="nbd/server_handshake.h tls/internal.h core/checked.h core/fetch.h core/internal.h core/request.h origin/conn.h"
own="$own storage/disk_switch.h origin/internal.h client/session.h server/database_file.h server/device_nbd.h server/life.h"
own="$own server/proxy.h server/upgrade_state.h"
for room in $rooms; do
	ls "$room"/*.c >/dev/null || exit 1
done
for header in $own; do
	ls "$header" >/dev/null || exit 1
done
if grep -n CORE_PRIVATE ./*.c ./*/*.[ch] | grep -v '^\./core/'; then
	echo "CORE_PRIVATE is for core/ alone"
	exit 1
fi
# shellcheck disable=SC2035 # no name begins with a dash
grep -H '^ *# *include "' *.[ch] */*.[ch] | awk -v rooms="$rooms" -v own="$own" '
	BEGIN {
		n = split(rooms, name, " ")
		for (i = 1; i <= n; i++)
			floor[name[i]] = i
		n = split(own, name, " ")
		for (i = 1; i <= n; i++)
			is_own[name[i]] = 1
	}
	{
		split($0, part, "\"")
		split($0, from, "/")
		file = substr($0, 1, index($0, ":") - 1)
		is_applet = file !~ /\//
		if (!is_applet && !(from[1] in floor)) {
			print from[1] "/ is no room: the list is in tests/doc/rooms.sh"
			bad = 1
		} else if (split(part[2], to, "/") == 2 && (!(to[1] in floor) || (!is_applet && floor[to[1]] > floor[from[1]]))) {
			print file " includes " part[2] ", of a room above"
			bad = 1
		} else if (part[2] in is_own && (is_applet || to[1] != from[1])) {
			print file " includes " part[2] ", which is for the files of that room"
			bad = 1
		}
	}
	END { exit bad || !NR }'
