# SPDX-License-Identifier: GPL-2.0-or-later
# Copyright (C) 2026 the xnbdbox authors
# What is done to a server, and what is measured meanwhile.
import filecmp, json, os, signal, subprocess, time
from servers import XNBDBOX, Broken, on_processors, run

MIB = 1 << 20


class Result:
    """requests and seconds, or bytes and seconds; the rest is what is known."""

    def __init__(self, seconds, bytes, requests=None, p50_us=None, p99_us=None, max_us=None):
        self.seconds, self.bytes, self.requests = seconds, bytes, requests
        self.p50_us, self.p99_us, self.max_us = p50_us, p99_us, max_us
        self.cpu_s = self.peak_bytes = self.client_percent = self.p999_us = None

    def rate(self):
        """In thousands of requests, or MiB, a second."""
        return self.requests / 1000 / self.seconds if self.requests else self.bytes / MIB / self.seconds

    def cpu(self):
        """Seconds of processor for a million requests, or for a GiB."""
        if self.cpu_s is None:
            return None
        return self.cpu_s * 1e6 / self.requests if self.requests else self.cpu_s * 1024 * MIB / self.bytes


def watch(process, server):
    """Until the process ends; the most memory that the server had meanwhile."""
    peak = 0
    while process.poll() is None:
        peak = max(peak, server.peak_bytes())
        try:
            process.wait(0.05)
        except subprocess.TimeoutExpired:
            pass
    return max(peak, server.peak_bytes())


def measured(server, load):
    """load() with the server's processor time and memory put into its result."""
    server.forget_peak()
    before = server.cpu_s()
    result = load()
    result.cpu_s = server.cpu_s() - before
    return result


def fio_result(out, by_request):
    job = json.loads(out[out.index("{"):])["jobs"][0]
    if job["error"]:
        raise Broken("fio: error %d" % job["error"])
    sides = [job[side] for side in ("read", "write") if job[side]["total_ios"]]
    if not sides:
        raise Broken("fio has done nothing")
    slower = max(sides, key=lambda side: side["clat_ns"]["percentile"]["99.000000"])
    result = Result(max(side["runtime"] for side in sides) / 1000, sum(side["io_bytes"] for side in sides))
    if by_request:
        result.requests = sum(side["total_ios"] for side in sides)
    result.p50_us = slower["clat_ns"]["percentile"]["50.000000"] / 1000
    result.p99_us = slower["clat_ns"]["percentile"]["99.000000"] / 1000
    result.client_percent = job["usr_cpu"] + job["sys_cpu"]
    result.max_us = slower["clat_ns"]["max"] / 1000
    return result


class Fio:
    """rw, block size, depth, connections: as fio calls them."""

    def __init__(self, rw, bs="4k", depth=1, jobs=1, *more):
        self.by_request = int(bs[:-1]) < 64
        self.argv = ["fio", "--name=bench", "--ioengine=nbd", "--rw=" + rw, "--bs=" + bs, "--iodepth=%d" % depth]
        self.argv += ["--numjobs=%d" % jobs, "--thread", "--group_reporting", "--norandommap", "--time_based"]
        self.argv += ["--percentile_list=50:99", "--output-format=json", *more]

    def begin(self, server, seconds):
        argv = self.argv + ["--runtime=%d" % (seconds * 1e6) + "us", "--uri=" + server.uri()]
        return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=server.dir)

    def begin_and_connect(self, server, seconds):
        """It is under way when this returns; connections: one."""
        process = self.begin(server, seconds)
        said = ""
        while "connected" not in said:
            line = process.stdout.readline()
            if not line:
                raise Broken("fio: status %d: %s" % (process.wait(), said))
            said += line
        time.sleep(0.05)
        return process

    def end(self, process, server):
        peak = watch(process, server)
        out = process.communicate()[0]
        if process.returncode:
            raise Broken("fio: status %d: %s" % (process.returncode, out[:800]))
        result = fio_result(out, self.by_request)
        result.peak_bytes = peak
        return result

    def __call__(self, server, seconds):
        return measured(server, lambda: self.end(self.begin(server, seconds), server))


class Lean:
    """tests/bench/lean.c: a client that leaves the processors to the server. stuck: so many
    clients beside it that have asked for 32 MiB and take nothing. more: its other options; processors:
    those that it may use."""

    def __init__(self, program, rw, block, depth, connections, stuck=0, more=(), processors=None):
        self.by_request = block < 64 << 10
        self.processors = processors
        self.argv = [program, "-b", str(block), "-d", str(depth), "-c", str(connections), "-k", str(stuck)]
        self.argv += ["-w"] if rw == "write" else []
        self.argv += more

    def begin(self, server, seconds):
        """It is under way when this returns."""
        argv = self.argv + ["-e", server.export, "-s", str(seconds), str(server.port) if server.port else "unix:" + server.socket]
        with on_processors(self.processors):
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = process.stdout.readline()
        if said != "connected\n":
            raise Broken("%s: status %d: %s" % (" ".join(argv), process.wait(), said))
        return process

    def end(self, process, server):
        peak = watch(process, server)
        said = process.communicate()[0]
        if process.returncode:
            raise Broken("lean: status %d: %s" % (process.returncode, said[-800:]))
        result = self.result(said.split())
        result.peak_bytes = peak
        return result

    def __call__(self, server, seconds):
        return measured(server, lambda: self.end(self.begin(server, seconds), server))

    def result(self, words):
        told = {key: float(value) for key, value in zip(words[::2], words[1::2])}
        requests = told["requests"] if self.by_request else None
        result = Result(told["seconds"], told["bytes"], requests, told["p50_us"], told["p99_us"], told["max_us"])
        result.p999_us = told["p999_us"]
        result.client_percent = 100 * told["cpu_s"] / told["seconds"]
        return result


def read_all(server, _seconds, size):
    """A client reads the whole disk, with all that nbdcopy can do to be fast."""

    def load():
        start = time.monotonic()
        process = subprocess.Popen(["nbdcopy", server.uri(), "null:"])
        peak = watch(process, server)
        if process.returncode:
            raise Broken("nbdcopy: status %d" % process.returncode)
        result = Result(time.monotonic() - start, size)
        result.peak_bytes = peak
        return result

    return measured(server, load)


def bgctl(*argv):
    return subprocess.Popen([XNBDBOX, "xnbd-bgctl", *argv], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def cache_all(proxy, image):
    def load():
        start = time.monotonic()
        process = bgctl("--cache-all", proxy.control)
        peak = watch(process, proxy)
        if process.returncode:
            raise Broken("--cache-all: status %d" % process.returncode)
        result = Result(time.monotonic() - start, os.path.getsize(image))
        result.peak_bytes = peak
        return result

    result = measured(proxy, load)
    must_be_same(proxy.dir + "/img", image)
    return result


def copy_with(argv, copy, image):
    """A program that copies, and ends."""
    start = time.monotonic()
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Broken("%s: status %d" % (" ".join(argv), process.returncode))
    result = Result(time.monotonic() - start, os.path.getsize(image))
    result.cpu_s = used.ru_utime + used.ru_stime
    result.peak_bytes = used.ru_maxrss << 10
    must_be_same(copy, image)
    os.unlink(copy)
    return result


def read_then_write(uri, out, size):
    """What a first reading cannot do without: all from the origin once, all into a file once."""
    start = time.monotonic()
    run("nbdcopy", uri, "null:")
    run("dd", "if=/dev/zero", "of=" + out, "bs=256k", "count=%d" % (size >> 18))
    result = Result(time.monotonic() - start, size)
    os.unlink(out)
    return result


def must_be_same(copy, image):
    if not filecmp.cmp(copy, image, False):
        raise Broken("%s is not what %s is" % (copy, image))


def fio_beside(fio, server, copier):
    """fio for as long as a copy takes; copier() starts it."""

    def load():
        client = fio.begin_and_connect(server, 600)
        copy = copier()
        while copy.poll() is None:
            time.sleep(0.02)
        client.send_signal(signal.SIGINT)  # it ends and reports
        peak = server.peak_bytes()
        out = client.communicate()[0]
        if copy.returncode:
            raise Broken("the copy: status %d" % copy.returncode)
        result = fio_result(out, fio.by_request)
        result.peak_bytes = peak
        return result

    return measured(server, load)


def fio_across(fio, server, seconds, act):
    """fio, with something that happens in its middle."""

    def load():
        client = fio.begin_and_connect(server, seconds)
        time.sleep(seconds / 2)
        if act().wait():
            raise Broken("what was to happen did not")
        return fio.end(client, server)

    return measured(server, load)
