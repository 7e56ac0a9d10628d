# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# A server that has begun does not end for lack of memory: what the loop and its callbacks can call
# contains none of the allocators that end the process. Who can call whom is read from the
# relocations of an unoptimized build. Roots are the loop and each function whose address is taken.
set -u
cd "$(dirname "$0")/../.." || exit 1
T=$(mktemp -d "${TMPDIR:-/tmp}/xnbd-allocators.XXXXXX")
trap 'rm -rf "$T"' EXIT
trap 'exit 1' INT TERM
config/generate headers config/full_defconfig "$T" || exit 1
for source in applet/[a-z]*/*.c; do
	printf '%s\n' "$source"
done | xargs -P2 -I{} sh -c 'gcc -std=gnu11 -D_FILE_OFFSET_BITS=64 -O0 -fpie -ffunction-sections -fdata-sections -Iapplet -Iapplet/libbb -I"$1/include" \
	-c "$2" -o "$1/$(echo "$2" | tr / .).o"' sh "$T" {} || exit 1
{ objdump -dr "$T"/*.o && objdump -r "$T"/*.o; } >"$T/relocations" || exit 1
python3 - "$T/relocations" <<'END'
import collections, re, sys

# Calls of functions that write a state for another program, or read one: that is done at a start only (handover.reads).
AT_START = {("handover_text", "xstrdup"), ("paths_handover", "path_get"), ("hook_handover", "hook_init"),
            ("exports_handover", "export_get"), ("control_handover", "control_begin"), ("origin_handover", "origin_new"),
            ("trace_handover", "recording_new"), ("proxy_handover", "xzalloc"), ("proxy_handover", "xstrdup"),
            ("proxy_handover", "parse_words"), ("database_file_handover", "use_path"), ("database_handover", "parse_entries")}
# What bb_survives() calls: it dies, the server does not.
SURVIVED = {"find_place", "proxy_open_files", "proxy_open_origin", "proxy_write_files", "proxy_begin_export"}
DEADLY = {"xmalloc", "xzalloc", "xrealloc", "xstrdup", "xasprintf", "xpath_absolute", "llist_add_to_end"}
calls, roots = collections.defaultdict(set), {"run_loop"}
caller = operation = None # of data: None, or ""
for line in open(sys.argv[1]):
    if section := re.match(r"Disassembly of section \.text\.(\w+)", line):
        caller = section[1]
    elif section := re.match(r"RELOCATION RECORDS FOR \[(\.data\S*)?", line):
        caller = "" if section[1] else None
    elif instruction := re.match(r" *[0-9a-f]+:\t[0-9a-f ]+\t(\w+)", line):
        operation = instruction[1]
    elif caller is not None and (target := re.search(r"R_\w+\s+(?:\.text\.)?(\w+)(?:[-+]0x[0-9a-f]+)?$", line)):
        if caller and operation in ("call", "jmp", "bl", "b"):
            calls[caller].add(target[1])
        else:
            roots.add(target[1])
assert calls["run_loop"] and calls["server_begin"] and "session_ready" in roots, "relocations are not understood"
assert SURVIVED <= roots and not SURVIVED & {c for called in calls.values() for c in called}, "they are called by bb_survives() only"
roots -= SURVIVED
came, queue = {r: None for r in roots}, list(roots)
for function in queue:
    for called in calls[function] - came.keys():
        if (function, called) in AT_START:
            continue
        came[called] = function
        queue.append(called)
for bad in sorted(DEADLY & came.keys()):
    path = [bad]
    while came[path[0]]:
        path.insert(0, came[path[0]])
    print("may end the server:", " -> ".join(path))
sys.exit(bool(DEADLY & came.keys()))
END
