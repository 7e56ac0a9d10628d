# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# table.py [write]: the tables of README here, in short: the part of README.md that it prints,
# or writes there. Those tables are what matrix.tests and tests/vm/clients.tests print.
import os, re, sys

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = HERE + "/../../README.md"
BEGIN, END = "<!-- interop -->\n", "<!-- end of interop -->\n"


def tables():
    """{title: (columns, [(row, cells)])}"""
    found, table = {}, None
    for line in open(HERE + "/README"):
        words = [w.strip() for w in line.split(" | ")]
        if not line.startswith("    ") or len(words) < 2:
            table = None
        elif table is None:
            table = []
            found[words[0]] = words[1:], table
        else:
            table.append((words[0], words[1:]))
    return found


def row(cells):
    return "| " + " | ".join(cells) + " |\n"


def program_of(origin):
    m = None if origin.endswith("by hand") else re.match(r"nbdkit|qemu-nbd|nbd-server|our", origin)
    return {"our": "ours: target, proxy, wrapper", None: "written by hand: oldstyle, newstyle, nbd-server 3.8"}.get(m and m[0], m and m[0])


def count(cells):
    """So many of a program's origins, of those to which it applies."""
    cells = [c for c in cells if c not in ("", "-")]
    return f"{cells.count('yes')} of {len(cells)}" if cells else "-"


def short():
    found = tables()
    columns, clients = found["clients of our server"]
    text = row(["clients of our server", *columns]) + row(["---"] * (1 + len(columns)))
    text += "".join(row([r, *cells]) for r, cells in clients + found["clients in a machine"][1])
    columns, origins = found["origins of our proxy"]
    text += "\n" + row(["origins of our proxy", *columns]) + row(["---"] * (1 + len(columns)))
    for program in dict.fromkeys(program_of(r) for r, _ in origins):
        mine = [cells for r, cells in origins if program_of(r) == program]
        text += row([program, *(count(c) for c in zip(*mine))])
    return text


readme = open(TOP).read()
old = readme[readme.index(BEGIN) + len(BEGIN):readme.index(END)]
if sys.argv[1:] == ["write"]:
    with open(TOP, "w") as f:
        f.write(readme.replace(BEGIN + old + END, BEGIN + short() + END))
elif old != short():
    sys.exit("README.md has another table: make interop-table")
else:
    print(short(), end="")
