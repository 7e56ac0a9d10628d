# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# The table: on the terminal as it grows, the same in table.md, all numbers in results.tsv,
# and a plot.
import os, re, subprocess
from statistics import median

HEAD = ["row", "server", "rate", "to best", "rounds", "p50 us", "p99 us", "p999 us", "max us", "CPU s", "peak MiB", "client %"]
WIDTHS = [28, 14, 12, 7, 12, 8, 8, 8, 8, 10, 8, 8]


def middle(values):
    known = [v for v in values if v is not None]
    return median(known) if known else None


def number(v):
    """Three digits that matter."""
    if v is None:
        return ""
    return "%.2f" % v if v < 10 else "%.1f" % v if v < 100 else "%.0f" % v


class Line:
    """The medians of one contender's rounds."""

    def __init__(self, who, results):
        self.who = who
        self.by_request = bool(results[0].requests)
        rates = [r.rate() for r in results]
        self.rate, self.low, self.high = median(rates), min(rates), max(rates)
        self.p50_us = middle([r.p50_us for r in results])
        self.p99_us = middle([r.p99_us for r in results])
        self.p999_us = middle([r.p999_us for r in results])
        self.max_us = middle([r.max_us for r in results])
        self.cpu = middle([r.cpu() for r in results])
        self.peak_mib = max((r.peak_bytes or 0) for r in results) / (1 << 20)
        self.client_percent = middle([r.client_percent for r in results])
        self.ratio = None

    def cells(self, row):
        unit, per = ("k/s", "/M") if self.by_request else ("MiB/s", "/GiB")
        return [row, self.who, number(self.rate) + " " + unit, "%.2f" % self.ratio, number(self.low) + ".." + number(self.high),
                number(self.p50_us), number(self.p99_us), number(self.p999_us), number(self.max_us), number(self.cpu) + " " + per, number(self.peak_mib), number(self.client_percent)]


class Report:
    def __init__(self, out, rounds, seconds, mib):
        self.out = out
        self.rows = {}  # name -> lines, ours first
        self.against = []  # names of the rows with others
        self.table = open(out + "/table.md", "w")
        self.print("Medians of %d rounds of %g s, in turns; disk of %d MiB; %d processors, Linux %s." % (rounds, seconds, mib, os.cpu_count(), os.uname().release))
        self.print("`to best`: the rate as a part of that of the best of the others. `CPU s`: of the server, for")
        self.print("a million requests or a GiB. `peak MiB`: the most memory it had, code and all. `client %`:")
        self.print("how much of its time the client's thread (fio, lean) computes; near 100 it bounds the rate.")
        self.print("")
        self.row(HEAD)
        self.row(["-" * (w if i < 2 else w - 1) + ("" if i < 2 else ":") for i, w in enumerate(WIDTHS)])

    def print(self, line):
        print(line, flush=True)
        print(line, file=self.table, flush=True)

    def row(self, cells):
        self.print("| " + " | ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(cells, WIDTHS))) + " |")

    def add(self, name, results, others=True, aside=()):
        """The first contender is ours; others: the rest is not. aside: names of those that are shown,
        and not counted among the others."""
        lines = [Line(who, r) for who, r in results.items()]
        best = max(line.rate for line in lines[1:] if line.who not in aside)
        for i, line in enumerate(lines):
            line.ratio = line.rate / best
            self.row(line.cells("" if i else name))
        self.rows[name] = lines
        if others:
            self.against.append(name)

    def end(self):
        self.table.close()
        self.write_numbers()
        behind = sorted((self.rows[name][0].ratio, name) for name in self.against if self.rows[name][0].ratio < 1)
        print("\nahead of all others, or even: %d rows of %d" % (len(self.against) - len(behind), len(self.against)))
        for ratio, name in behind:
            print("behind: %.2f %s" % (ratio, name))
        self.plot()
        print("see %s/table.md, results.tsv" % self.out)

    def write_numbers(self):
        names = "who by_request rate low high ratio p50_us p99_us p999_us max_us cpu peak_mib client_percent".split()
        with open(self.out + "/results.tsv", "w") as f:
            print("row", *names, sep="\t", file=f)
            for row, lines in self.rows.items():
                for line in lines:
                    print(row, *[getattr(line, n) for n in names], sep="\t", file=f)

    # ---- the plot: rate over depth, and over the number of connections

    def series(self, rw, pattern):
        """server -> [(depth or connections, rate)], from the rows that fit."""
        found = {}
        for row, lines in self.rows.items():
            m = re.fullmatch(rw + pattern, row)
            for line in lines if m else []:
                found.setdefault(line.who, []).append((int(m.group(1) or 1), line.rate))
        return {who: points for who, points in found.items() if len(points) > 1}

    def plot(self):
        panels = []
        for rw in "randread", "randwrite":
            panels.append((rw + " 4k, one connection", "depth", self.series(rw, r"-4k-d(\d+)")))
            panels.append((rw + " 4k, depth 8", "connections", self.series(rw, r"-4k-d8(?:-c(\d+))?")))
        panels = [p for p in panels if p[2]]
        if not panels:
            return
        with open(self.out + "/plot.gp", "w") as f:
            f.write("set terminal png size 1200,%d\nset output '%s/plot.png'\n" % (450 * ((len(panels) + 1) // 2), self.out))
            f.write("set multiplot layout %d,2\nset key left top\nset logscale x 2\nset yrange [0:*]\nset ylabel 'thousands a second'\n" % ((len(panels) + 1) // 2))
            for title, x, series in panels:
                f.write("set title '%s'\nset xlabel '%s'\n" % (title, x))
                f.write("plot " + ", ".join("'-' with linespoints title '%s'" % who for who in series) + "\n")
                for points in series.values():
                    f.write("".join("%d %g\n" % p for p in sorted(points)) + "e\n")
        subprocess.run(["gnuplot", self.out + "/plot.gp"], check=True)
        print("see %s/plot.png" % self.out)
