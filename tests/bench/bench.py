# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# bench.py OUT: runs the rows that are wanted, in turns, and reports. See run.sh.
import itertools, os, shutil, signal, subprocess, sys, tempfile
import cold, threads
from report import Report
from rows import Rows
from servers import Broken
from sizes import Sizes


def setting(name, default):
    """An empty one is none: make hands over all of them."""
    return os.environ.get("BENCH_" + name) or default


QUICK = bool(setting("QUICK", ""))
WANTED = setting("ROWS", "").split()
ROUNDS = int(setting("ROUNDS", 1 if QUICK else 3))
SECONDS = float(setting("SECONDS", 1))
MIB = int(setting("MIB", 256 if QUICK else 512))
PIECE_BYTES = int(setting("PIECE_KIB", 4)) << 10


def wanted(name, quick, asked=False):
    if WANTED:
        return any(word in name for word in WANTED)
    return (quick or not QUICK) and not asked


def run_row(row):
    """A B C, B C A, C A B: who comes first is not always the same."""
    results = {who: [] for who in row.contenders}
    who = list(results)
    try:
        for name, contender in row.contenders.items():
            contender.begin()
        for _ in range(ROUNDS):
            for name in who:
                results[name].append(row.contenders[name].run(SECONDS))
            who = who[1:] + who[:1]
    except Broken as e:
        raise Broken("%s, %s: %s" % (row.name, name, e))
    finally:
        for contender in row.contenders.values():
            contender.end()
    return results


def main(out):
    base = tempfile.mkdtemp(prefix="xnbd-bench.", dir=setting("DIR", "/tmp"))
    os.chmod(base, 0o755)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    rows = None
    try:
        rows = Rows(base, os.path.abspath(out), MIB, PIECE_BYTES)
        report = Report(out, ROUNDS, SECONDS, MIB)
        for row in itertools.chain(rows.all(), cold.all(rows), threads.all(rows)):
            if wanted(row.name, row.quick, row.asked):
                report.add(row.name, run_row(row), row.others, row.aside)
        sizes = wanted("sizes", False)
        if sizes:
            Sizes(out).table(base, ROUNDS, report.print)
        report.end()
    finally:
        if rows:
            rows.end()
        shutil.rmtree(base, ignore_errors=True)
    if not report.rows and not sizes:
        raise Broken("no row has a name with: " + " ".join(WANTED))


try:
    main(sys.argv[1])
except (Broken, subprocess.SubprocessError, OSError) as e:
    sys.exit("bench: %s" % e)
except KeyboardInterrupt:
    sys.exit(1)
